"""What a pull would do, before it does anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from palo_cpp.models.hub_models import HubOptions, ModelPaths
from palo_cpp.models.names import HubName

if TYPE_CHECKING:
    from palo_cpp.convert import Progress
    from palo_cpp.hub.repository import DownloadProgress, FileInfo, Repository

# A measurement reads a mebibyte.
_WORTH_MEASURING_BYTES = 32 << 20


@dataclass(frozen=True)
class PullOptions:
    """How a model is pulled.

    Attributes:
        hub: how its name is looked up.
        is_kept: whether a checkpoint stays in the cache after its conversion.
        is_low_disk: whether each file of a checkpoint goes as soon as it has been read.
    """

    hub: HubOptions = field(default_factory=HubOptions)
    is_kept: bool = False
    is_low_disk: bool = False


@dataclass(frozen=True)
class DownloadPlan:
    """What is fetched from one repository.

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


@dataclass(frozen=True)
class PullPlan:
    """What a pull would do.

    Attributes:
        name: of the model, with the type that its weights will have where that is known.
        downloads: what is fetched, from each repository.
        folder: that the model will lie in, or the cache that it is fetched into.
        n_bytes_result: of the files that are made of a checkpoint; 0 where nothing is converted.
        n_bytes_peak: most that the pull takes of the disk at once, beyond what is there now.
        n_bytes_memory: at least, to run the model.
        warnings: of the conversion, one sentence each.
        measure: tells the bytes per second that the hub sends now; None where it cannot.
    """

    name: HubName
    downloads: tuple[DownloadPlan, ...]
    folder: Path
    n_bytes_result: int
    n_bytes_peak: int
    n_bytes_memory: int
    warnings: tuple[str, ...] = ()
    measure: Callable[[], float | None] = field(default=lambda: None, repr=False)

    @property
    def is_converted(self) -> bool:
        """Whether a checkpoint is converted."""
        return self.n_bytes_result > 0

    @property
    def n_bytes_missing(self) -> int:
        """Still to be fetched."""
        return sum(download.n_bytes_missing for download in self.downloads)

    def fetch_s(self) -> float | None:
        """About how long fetching takes at the present speed; None where that is short, or cannot be told."""
        n_bytes = self.n_bytes_missing
        speed = self.measure() if n_bytes > _WORTH_MEASURING_BYTES else None
        return n_bytes / speed if speed else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": str(self.name),
            "outtype": self.name.outtype,
            "parts": [download.to_dict() for download in self.downloads],
            "n_bytes": sum(download.n_bytes for download in self.downloads),
            "n_bytes_missing": self.n_bytes_missing,
            "n_bytes_result": self.n_bytes_result,
            "n_bytes_disk_peak": self.n_bytes_peak,
            "n_bytes_memory": self.n_bytes_memory,
            "folder": str(self.folder),
            "warnings": list(self.warnings),
        }


def _ignore(_progress: object) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Watch:
    """Who is told how far a pull is.

    Attributes:
        download: is called several times a second while files come.
        convert: is called after each tensor.
    """

    download: Callable[[DownloadProgress], None] = _ignore
    convert: Callable[[Progress], None] = _ignore


class Pull(Protocol):
    """A pull that was planned.

    Attributes:
        plan: what it would do.
    """

    plan: PullPlan

    def run(self, watch: Watch) -> ModelPaths:
        """Do it; what an earlier one brought counts.

        Raises:
            DownloadError: the hub refuses or fails, or the disk is full.
            PaloError: the checkpoint could not be converted.
        """
        ...
