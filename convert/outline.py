"""The outline of a file of weights that is not here yet: names, types and shapes of its tensors, without any value.

It stands under the file's own name, so that a folder of outlines is planned like the checkpoint itself. Before the
first value is read, whoever wrote the outline puts the file in its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from palo_cpp.errors import ModelFormatError

from .restricted_pickle import read_torch_shapes
from .safetensors_file import read_safetensors_shapes
from .stored_tensor import Feed, Shape, SourceTensor

_MAGIC = b"palo_cpp outline\n"
_SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class OutlinedTensor:
    """A tensor of which only the description is here.

    Attributes:
        name: in the checkpoint.
        shape: row-major, outermost first.
        dtype: a key of `DTYPE_SIZE`.
        file: that it will be read from.
    """

    name: str
    shape: Shape
    dtype: str
    file: OutlinedFile

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file that it is read from."""
        return (self.file.path,)

    def read(self, feed: Feed | None = None) -> NDArray[Any]:
        """Read the values; the file has taken the outline's place.

        Raises:
            ModelFormatError: it is not the file that was outlined.
        """
        tensor = self.file.tensors.get(self.name)
        if tensor is None or (tensor.dtype, tensor.shape) != (self.dtype, self.shape):
            raise ModelFormatError(
                f"{self.file.path}: expected tensor {self.name} as {self.dtype} {list(self.shape)}, got another one; "
                "its repository has changed, fetch it again"
            )
        return tensor.read(feed)


class OutlinedFile:
    """A file of which the outline is here.

    Args:
        path: of the outline, and later of the file.
        read: lists the tensors of the file.
    """

    def __init__(self, path: Path, read: Callable[[Path], Mapping[str, SourceTensor]]) -> None:
        self.path = path
        self._read = read

    @cached_property
    def tensors(self) -> Mapping[str, SourceTensor]:
        """Of the file itself, which has taken the outline's place."""
        return self._read(self.path)


def write_outline(path: Path, file: IO[bytes], n_bytes: int) -> None:
    """Outline a file of weights.

    Args:
        path: where the outline goes; its ending says which kind of file it is.
        file: the file, perhaps one that is far away; little of it is read.
        n_bytes: its size.

    Raises:
        ModelFormatError: it is damaged, or no file of weights.
    """
    if path.suffix == _SAFETENSORS:
        shapes = read_safetensors_shapes(file, Path(path.name), n_bytes)
    else:
        shapes = read_torch_shapes(file, Path(path.name))
    path.write_bytes(_MAGIC + json.dumps(shapes).encode())


def is_outline(path: Path) -> bool:
    """Whether this is an outline, and not yet the file."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_outline(path: Path, read: Callable[[Path], Mapping[str, SourceTensor]]) -> dict[str, OutlinedTensor]:
    """List the tensors of an outline; `read` lists those of the file that will stand in its place."""
    file = OutlinedFile(path, read)
    shapes = json.loads(path.read_bytes()[len(_MAGIC) :])
    return {name: OutlinedTensor(name, tuple(shape), dtype, file) for name, (dtype, shape) in shapes.items()}
