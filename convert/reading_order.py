"""In which order a conversion reads its source: file by file, so that each is needed for a short time only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .plan import PlannedFile, PlannedTensor


class SourceFiles(Protocol):
    """Brings the files of a checkpoint when they are needed."""

    def open(self, path: Path) -> None:
        """Make a file's values readable; called once, before the first of its tensors is read."""

    def close(self, path: Path) -> None:
        """A file is not needed any more, and what was made of it is on the disk."""


class FilesHere:
    """Files that lie in their folders."""

    def open(self, path: Path) -> None:
        """It is there."""

    def close(self, path: Path) -> None:
        """It stays."""


@dataclass(frozen=True)
class Step:
    """One tensor of the conversion.

    Attributes:
        role: of the file that it is written to.
        tensor: what is written.
        closes: source files that no later step reads.
    """

    role: str
    tensor: PlannedTensor
    closes: tuple[Path, ...]

    @property
    def key(self) -> str:
        """Names the step among all of the conversion."""
        return f"{self.role}/{self.tensor.spec.gguf}"


def reading_steps(files: Iterable[PlannedFile]) -> list[Step]:
    """All tensors of all files, so ordered that a source file's stand together.

    What is read beside others, such as a LoRA adapter, is needed as long as they are.
    """
    tensors = [(file.role, tensor) for file in files for tensor in file.tensors]
    order = {path: i for i, path in enumerate(dict.fromkeys(path for _, t in tensors for path in t.paths))}
    tensors.sort(key=lambda pair: [order[path] for path in pair[1].paths])  # stable: else in the files' order
    last = {path: i for i, (_, tensor) in enumerate(tensors) for path in tensor.paths}
    return [
        Step(role, tensor, tuple(path for path in dict.fromkeys(tensor.paths) if last[path] == i))
        for i, (role, tensor) in enumerate(tensors)
    ]


def most_bytes_at_once(steps: Sequence[Step], size: Callable[[Path], int]) -> int:
    """Of source files, where each comes when it is needed first and goes after its last use."""
    here: set[Path] = set()
    most = 0
    for step in steps:
        here.update(step.tensor.paths)
        most = max(most, sum(map(size, here)))
        here.difference_update(step.closes)
    return most
