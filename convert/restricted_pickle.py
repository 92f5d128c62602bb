"""Read the table of contents of a PyTorch zip checkpoint without torch and without running anything in it.

A pickle is a program. Python's `pickle.Unpickler` runs it, and even with `find_class` closed its BUILD instruction can
set attributes of whatever the allow-list returns. So nothing here is a subclass of it: `pickletools.genops` decodes the
instructions, and `pickle_machine` interprets the few that a state dict needs.

The layout of the archive (`<root>/data.pkl`, `<root>/data/<key>`, `<root>/byteorder`) is that of `torch.save`,
pytorch: torch/serialization.py, `_save`.
"""

from __future__ import annotations

import errno
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from palo_cpp.errors import ModelFormatError

from .pickle_machine import RefusedError, Storage, View, run_pickle
from .stored_tensor import DTYPE_SIZE, Shape, StoredTensor, n_elements

_MAX_PICKLE_BYTES = 64 * 1024**2  # PALO-13B's is 0.2 MB: a tensor costs about 250 bytes
_MAX_ENTRIES = 200_000
_ZIP_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # APPNOTE.TXT 4.3.7, 30 bytes


def read_torch_archive(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a checkpoint that `torch.save` wrote, without reading their values.

    Args:
        path: a `.bin`, `.pt` or `.pth` file.

    Returns:
        Tensor name -> where it lies in the file.

    Raises:
        ModelFormatError: not a zip checkpoint, damaged, or asking for anything but tensors.
    """
    with _one_sentence(path), path.open("rb") as file:
        views, entries, root = _read_archive(file)
        offsets = _DataOffsets(path, entries, root)
        return {name: _stored(path, name, view, offsets) for name, view in views.items()}


def read_torch_shapes(file: IO[bytes], path: Path) -> dict[str, tuple[str, Shape]]:
    """List type and shape of each tensor, which the archive's directory and its pickle say; no values are needed.

    Args:
        file: the archive, perhaps one that is far away.
        path: its name, for messages.

    Raises:
        ModelFormatError: as for `read_torch_archive`.
    """
    with _one_sentence(path):
        views, _, _ = _read_archive(file)
        return {name: (view.storage.dtype, view.shape) for name, view in views.items()}


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Say what is wrong with the archive."""
    try:
        yield
    except RefusedError as refusal:
        raise ModelFormatError(
            f"{path}: expected a PyTorch checkpoint with nothing but tensors, got {refusal}"
        ) from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, struct.error) as error:
        raise ModelFormatError(f"{path}: damaged PyTorch archive ({error}); fetch the file again") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to before the file's start: the archive's directory is damaged
            raise
        raise ModelFormatError(f"{path}: damaged PyTorch archive (an offset outside it); fetch it again") from None
    # RuntimeError: of zipfile, for a compression or an encryption that it does not know; RecursionError is one too.
    except (RuntimeError, MemoryError, OverflowError, ValueError) as error:
        raise ModelFormatError(f"{path}: damaged PyTorch archive ({type(error).__name__}: {error})"[:300]) from None


def _read_archive(file: IO[bytes]) -> tuple[dict[str, View], dict[str, zipfile.ZipInfo], str]:
    """Views by name, entries of the archive, and the folder in it."""
    if file.read(4) != b"PK\x03\x04":
        raise RefusedError(
            "a file that is no zip archive (PyTorch before 1.6 wrote such pickles); "
            "load and save it again with a newer PyTorch, or use safetensors"
        )
    with zipfile.ZipFile(file) as archive:
        entries = _checked_entries(archive)
        root = _root_folder(entries)
        order = _read_entry(archive, entries, f"{root}/byteorder", limit=16) if f"{root}/byteorder" in entries else b""
        if order not in (b"", b"little"):
            raise RefusedError(f"byte order {order[:16]!r} where 'little' was expected")
        state = run_pickle(_read_entry(archive, entries, f"{root}/data.pkl", limit=_MAX_PICKLE_BYTES))
    return dict(_named_views(state)), entries, root


def _checked_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Refuse whatever `torch.save` never writes: compressed, encrypted, doubled or oddly named entries."""
    entries: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise RefusedError(f"{len(infos)} archive entries where at most {_MAX_ENTRIES} were expected")
    for info in infos:
        name = info.filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or ":" in name or ".." in parts or "\0" in info.orig_filename:
            raise RefusedError(f"an archive entry whose name leaves the archive: {name[:80]!r}")
        if name in entries:
            raise RefusedError(f"two archive entries named {name[:80]!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise RefusedError(f"a compressed or encrypted archive entry: {name[:80]!r}")
        entries[name] = info
    return entries


def _root_folder(entries: dict[str, zipfile.ZipInfo]) -> str:
    roots = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise RefusedError(f"{len(roots)} data.pkl entries where one was expected")
    return roots[0]


def _read_entry(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str, *, limit: int) -> bytes:
    if entries[name].file_size > limit:
        raise RefusedError(f"an entry {name!r} of {entries[name].file_size} bytes where at most {limit} were expected")
    return archive.read(entries[name])


class _DataOffsets:
    """Where each storage's bytes begin in the file, with every length checked against the file."""

    def __init__(self, path: Path, entries: dict[str, zipfile.ZipInfo], root: str) -> None:
        self._path, self._entries, self._root = path, entries, root
        self._size = path.stat().st_size
        self._known: dict[str, int] = {}

    def of(self, storage: Storage) -> int:
        """File offset of the storage's first byte."""
        if storage.key not in self._known:
            self._known[storage.key] = self._find(storage.key)
        info = self._entries[f"{self._root}/data/{storage.key}"]
        if storage.n_elements * DTYPE_SIZE[storage.dtype] > info.file_size:
            raise RefusedError(
                f"storage {storage.key!r} of {info.file_size} bytes that claims {storage.n_elements} elements"
            )
        return self._known[storage.key]

    def _find(self, key: str) -> int:
        name = f"{self._root}/data/{key}"
        if name not in self._entries:
            raise RefusedError(f"a tensor whose storage {key[:80]!r} is not in the archive")
        info = self._entries[name]
        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            header = _ZIP_LOCAL_HEADER.unpack(file.read(_ZIP_LOCAL_HEADER.size))
            written_name = file.read(header[9])
        offset = info.header_offset + _ZIP_LOCAL_HEADER.size + int(header[9]) + int(header[10])
        if header[0] != b"PK\x03\x04" or written_name != name.encode():
            raise RefusedError(f"a damaged archive header of {name!r}")
        if offset + info.file_size > self._size:
            raise RefusedError(f"a storage {key!r} that ends outside the file")
        return offset


def _stored(path: Path, name: str, view: View, offsets: _DataOffsets) -> StoredTensor:
    storage, size = view.storage, DTYPE_SIZE[view.storage.dtype]
    start = offsets.of(storage)
    n = n_elements(view.shape)
    last = view.offset + sum((d - 1) * s for d, s in zip(view.shape, view.strides, strict=True)) if n else view.offset
    # n > storage: an expanded tensor (stride 0) would need more memory than the file has bytes.
    if n > storage.n_elements or last >= max(storage.n_elements, 1) or (n == 0 and view.offset > storage.n_elements):
        raise RefusedError(f"tensor {name[:200]!r} that leaves its storage")
    return StoredTensor(name, view.shape, storage.dtype, path, start + view.offset * size, view.strides)


def _named_views(state: object) -> Iterator[tuple[str, View]]:
    if isinstance(state, dict) and set(state) == {"state_dict"}:
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise RefusedError(f"a {type(state).__name__} where a dictionary of tensors was expected")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, View):
            raise RefusedError(f"an entry {str(name)[:80]!r} that is no tensor")
        yield name, value
