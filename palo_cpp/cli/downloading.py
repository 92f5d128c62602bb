"""A download as the command line shows it: the plan, the question, the bars."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from palo_cpp.cli.console import is_terminal, terminal_width
from palo_cpp.cli.progress import Bars, readable_size
from palo_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from palo_cpp.hub.repository import DownloadProgress, FileInfo, Repository
    from palo_cpp.models.names import HubName

_NARROW = 80  # columns


@dataclass(frozen=True)
class DownloadPlan:
    """What a pull would fetch from one repository.

    Attributes:
        repository: from where.
        files: which.
    """

    repository: Repository
    files: Sequence[FileInfo]

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files)

    @property
    def n_bytes_missing(self) -> int:
        """Still to be fetched."""
        return self.repository.n_bytes_missing([file.path for file in self.files])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "repository": self.repository.name,
            "commit": self.repository.commit,
            "files": [{"path": file.path, "n_bytes": file.size} for file in self.files],
            "n_bytes": self.n_bytes,
            "n_bytes_missing": self.n_bytes_missing,
        }

    def __str__(self) -> str:
        lines = [f"{self.repository.name} at {self.repository.commit[:12]}"]
        lines += [f"  {readable_size(file.size):>12}  {file.path}" for file in self.files]
        return "\n".join(lines)


def describe_plans(plans: Sequence[DownloadPlan], folder: Path) -> str:
    """Files, bytes to fetch, and the room there is for them."""
    missing, whole = (sum(plan.n_bytes_missing for plan in plans), sum(plan.n_bytes for plan in plans))
    here = f", {readable_size(whole - missing)} are here" if whole > missing else ""
    room = f"free on the disk: {readable_size(free_bytes(folder))}, in {folder}"
    return "\n".join([*map(str, plans), f"to fetch: {readable_size(missing)} of {readable_size(whole)}{here}", room])


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder is on, or will be."""
    import shutil

    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def confirm(text: str, *, yes: bool) -> None:
    """Show what would be fetched and ask; without a terminal only `--yes` allows it.

    Raises:
        ArgumentError: nobody is there to be asked.
        click.Abort: the answer is no.
    """
    if yes:
        return
    if not is_terminal(sys.stdin) or not is_terminal(sys.stderr):
        raise ArgumentError(
            "pull: expected --yes where nobody can be asked, got no terminal; --plan shows what it fetches"
        )
    click.echo(text, err=True)
    click.confirm("Fetch it?", default=True, abort=True, err=True)


def try_it(name: HubName) -> str:
    """What to do next."""
    return f"{name} is here. Try it:\n  palo-cpp chat photo.jpg -m {name} --lang hi"


class DownloadBars(Bars):
    """Two bars, for the file that comes and for all."""

    def __init__(self) -> None:
        super().__init__(_bar)
        self._file: TaskID | None = None
        self._whole: TaskID | None = None
        self._path = ""

    def begin(self) -> None:
        """Begin with the files of another repository."""
        if self._bar and self._whole is not None:
            self._bar.remove_task(self._whole)
            self._whole = None

    def update(self, progress: DownloadProgress) -> None:
        """Take in how far the download is."""
        if self._bar is None:
            return
        if self._whole is None:
            # What is here already does not count for the rate.
            self._whole = self._bar.add_task("in all", total=progress.n_bytes, completed=progress.n_bytes_done)
        if progress.path != self._path:
            if self._file is not None:
                self._bar.remove_task(self._file)
            self._path = progress.path
            done, total = progress.n_bytes_file_done, progress.n_bytes_file
            self._file = self._bar.add_task(_shortened(progress.path), total=total, completed=done)
        assert self._file is not None
        self._bar.update(self._file, completed=progress.n_bytes_file_done)
        self._bar.update(self._whole, completed=progress.n_bytes_done)


def _shortened(path: str) -> str:
    """The end of a path, as long as there is room for."""
    room = max(12, terminal_width() // 3)
    return path if len(path) <= room else "…" + path[1 - room :]


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    numbers: list[ProgressColumn] = [DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()]
    if terminal_width() < _NARROW:
        columns: list[ProgressColumn] = [TextColumn("{task.percentage:>3.0f}%"), *numbers[1:]]
    else:
        columns = [BarColumn(bar_width=None), *numbers]
    name = TextColumn("{task.description}", markup=False)
    return Progress(name, *columns, console=Console(file=sys.stderr), transient=True, expand=True)
