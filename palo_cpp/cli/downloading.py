"""A download as the command line shows it: the plan, the question, the bars."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import click

from palo_cpp.cli.console import Status, is_terminal, terminal_width
from palo_cpp.cli.progress import Bars, readable_size
from palo_cpp.errors import ArgumentError
from palo_cpp.partial_files import free_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from palo_cpp.convert import Progress
    from palo_cpp.hub.repository import DownloadProgress
    from palo_cpp.models.names import HubName
    from palo_cpp.pull.plan import PullPlan

_NARROW = 80  # columns


def describe_plan(plan: PullPlan) -> str:
    """What is fetched and made, how long that takes, and what it needs."""
    lines = []
    for download in plan.downloads:
        lines.append(f"{download.repository.name} at {download.repository.commit[:12]}")
        lines += [f"  {readable_size(file.size):>12}  {file.path}" for file in download.files]
    missing, whole = plan.n_bytes_missing, sum(download.n_bytes for download in plan.downloads)
    here = f", {readable_size(whole - missing)} are here" if whole > missing else ""
    fetch_s = plan.fetch_s()
    takes = f", about {readable_time(fetch_s)} at the present speed" if fetch_s else ""
    lines.append(f"to fetch: {readable_size(missing)} of {readable_size(whole)}{here}{takes}")
    if plan.is_converted:
        lines.append(f"converted to {plan.name.outtype}: {readable_size(plan.n_bytes_result)}, in {plan.folder}")
    free = readable_size(free_bytes(plan.folder))
    lines.append(f"disk: {readable_size(plan.n_bytes_peak)} at most while it is fetched, {free} are free")
    lines.append(f"memory to run it: about {readable_size(plan.n_bytes_memory)}")
    return "\n".join(lines + [f"warning: {warning}" for warning in plan.warnings])


def readable_time(seconds: float) -> str:
    """As a person would say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


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
    Status.clear_shown()
    click.echo(wrapped(text), err=True)
    click.confirm("Fetch it?", default=True, abort=True, err=True)


def wrapped(text: str) -> str:
    """Lines that fit the terminal; file names stay whole."""
    width = terminal_width()
    lines = text.splitlines()
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        if not line.startswith(" ")
        else line
        for line in lines
    )


def try_it(name: HubName) -> str:
    """What to do next."""
    return f"{name} is here. Try it:\n  palo-cpp chat photo.jpg -m {name} --lang hi"


class DownloadBars(Bars):
    """Bars for the file that comes, for all, and for what is made of them."""

    def __init__(self) -> None:
        super().__init__(_bar)
        self._file: TaskID | None = None
        self._whole: TaskID | None = None
        self._converted: TaskID | None = None
        self._path = ""

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

    def convert(self, progress: Progress) -> None:
        """Take in how far the conversion is."""
        if self._bar is None:
            return
        if self._converted is None:
            self._converted = self._bar.add_task("converted", total=progress.n_bytes)
        self._bar.update(self._converted, completed=progress.n_bytes_done)


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
