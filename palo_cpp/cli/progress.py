"""Progress bars on stderr; nothing where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from palo_cpp.cli.console import is_terminal
from palo_cpp.cli.plain import is_plain

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID
    from typing_extensions import Self

    from palo_cpp.convert import Progress


class Bars:
    """Bars on stderr while a `with` lasts; none where nobody looks.

    Args:
        make: makes them, when they are needed.
    """

    def __init__(self, make: Callable[[], Bar]) -> None:
        self._make = make
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if is_terminal(sys.stderr) and not is_plain():
            self._bar = self._make()
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()


class TensorProgress(Bars):
    """Shows what is worked on, tensors, bytes and the time left."""

    def __init__(self) -> None:
        super().__init__(_bar)
        self._task: TaskID | None = None

    def update(self, progress: Progress) -> None:
        """Take in how far the work is."""
        if self._bar is None:
            return
        fields: dict[str, Any] = {
            "total": progress.n_bytes,
            "completed": progress.n_bytes_done,
            "what": progress.what,
            "tensors": f"{progress.n_tensors_done}/{progress.n_tensors} tensors",
        }
        if self._task is None:
            self._task = self._bar.add_task("", **fields)
        else:
            self._bar.update(self._task, **fields)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[what]}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[tensors]}"),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(file=sys.stderr), transient=True)


def readable_size(n_bytes: int) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024  # type: ignore[assignment]  # becomes a float on the way
    return f"{n_bytes:.1f} GiB"
