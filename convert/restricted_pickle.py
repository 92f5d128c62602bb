"""Read the table of contents of a PyTorch zip checkpoint without torch and without running anything in it.

A pickle is a program. Python's `pickle.Unpickler` runs it, and even with `find_class` closed its BUILD instruction can
set attributes of whatever the allow-list returns. So this module is no subclass of it: `pickletools.genops` decodes
the instructions, and `_Machine` interprets the few that a state dict needs, on plain values of its own. A global name
is only ever looked up in `_KNOWN_NAMES`; there is no import, no `getattr` and no call of anything a file names.

The layout of the archive (`<root>/data.pkl`, `<root>/data/<key>`, `<root>/byteorder`) is that of `torch.save`,
pytorch: torch/serialization.py, `_save`.
"""

from __future__ import annotations

import errno
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from palo_cpp.errors import ModelFormatError

from .stored_tensor import DTYPE_SIZE, Shape, StoredTensor, n_elements

_MAX_PICKLE_BYTES = 64 * 1024**2  # PALO-13B's is 0.2 MB: a tensor costs about 250 bytes
_MAX_ENTRIES = 200_000
_MAX_INSTRUCTIONS = 20_000_000
_MAX_DIMENSIONS = 8
_ZIP_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # APPNOTE.TXT 4.3.7, 30 bytes

_STORAGE_DTYPES = {
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.DoubleStorage": "F64",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
_FUNCTIONS = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "collections.OrderedDict"}
_KNOWN_NAMES = _FUNCTIONS | set(_STORAGE_DTYPES)


@dataclass(frozen=True)
class _Name:
    """A global that the pickle mentions; never resolved to a Python object."""

    path: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    n_elements: int


@dataclass(frozen=True)
class _View:
    """What `_rebuild_tensor_v2` describes: offset and strides count elements, as in PyTorch."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    pass


class _RefusedError(Exception):
    """Why a pickle is not a plain state dict; becomes a ModelFormatError that names the file."""


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
    except _RefusedError as refusal:
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


def _read_archive(file: IO[bytes]) -> tuple[dict[str, _View], dict[str, zipfile.ZipInfo], str]:
    """Views by name, entries of the archive, and the folder in it."""
    if file.read(4) != b"PK\x03\x04":
        raise _RefusedError(
            "a file that is no zip archive (PyTorch before 1.6 wrote such pickles); "
            "load and save it again with a newer PyTorch, or use safetensors"
        )
    with zipfile.ZipFile(file) as archive:
        entries = _checked_entries(archive)
        root = _root_folder(entries)
        order = _read_entry(archive, entries, f"{root}/byteorder", limit=16) if f"{root}/byteorder" in entries else b""
        if order not in (b"", b"little"):
            raise _RefusedError(f"byte order {order[:16]!r} where 'little' was expected")
        state = _Machine(_read_entry(archive, entries, f"{root}/data.pkl", limit=_MAX_PICKLE_BYTES)).run()
    return dict(_named_views(state)), entries, root


def _checked_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Refuse whatever `torch.save` never writes: compressed, encrypted, doubled or oddly named entries."""
    entries: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise _RefusedError(f"{len(infos)} archive entries where at most {_MAX_ENTRIES} were expected")
    for info in infos:
        name = info.filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or ":" in name or ".." in parts or "\0" in info.orig_filename:
            raise _RefusedError(f"an archive entry whose name leaves the archive: {name[:80]!r}")
        if name in entries:
            raise _RefusedError(f"two archive entries named {name[:80]!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise _RefusedError(f"a compressed or encrypted archive entry: {name[:80]!r}")
        entries[name] = info
    return entries


def _root_folder(entries: dict[str, zipfile.ZipInfo]) -> str:
    roots = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise _RefusedError(f"{len(roots)} data.pkl entries where one was expected")
    return roots[0]


def _read_entry(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str, *, limit: int) -> bytes:
    if entries[name].file_size > limit:
        raise _RefusedError(f"an entry {name!r} of {entries[name].file_size} bytes where at most {limit} were expected")
    return archive.read(entries[name])


class _DataOffsets:
    """Where each storage's bytes begin in the file, with every length checked against the file."""

    def __init__(self, path: Path, entries: dict[str, zipfile.ZipInfo], root: str) -> None:
        self._path, self._entries, self._root = path, entries, root
        self._size = path.stat().st_size
        self._known: dict[str, int] = {}

    def of(self, storage: _Storage) -> int:
        """File offset of the storage's first byte."""
        if storage.key not in self._known:
            self._known[storage.key] = self._find(storage.key)
        info = self._entries[f"{self._root}/data/{storage.key}"]
        if storage.n_elements * DTYPE_SIZE[storage.dtype] > info.file_size:
            raise _RefusedError(
                f"storage {storage.key!r} of {info.file_size} bytes that claims {storage.n_elements} elements"
            )
        return self._known[storage.key]

    def _find(self, key: str) -> int:
        name = f"{self._root}/data/{key}"
        if name not in self._entries:
            raise _RefusedError(f"a tensor whose storage {key[:80]!r} is not in the archive")
        info = self._entries[name]
        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            header = _ZIP_LOCAL_HEADER.unpack(file.read(_ZIP_LOCAL_HEADER.size))
            written_name = file.read(header[9])
        offset = info.header_offset + _ZIP_LOCAL_HEADER.size + int(header[9]) + int(header[10])
        if header[0] != b"PK\x03\x04" or written_name != name.encode():
            raise _RefusedError(f"a damaged archive header of {name!r}")
        if offset + info.file_size > self._size:
            raise _RefusedError(f"a storage {key!r} that ends outside the file")
        return offset


def _stored(path: Path, name: str, view: _View, offsets: _DataOffsets) -> StoredTensor:
    storage, size = view.storage, DTYPE_SIZE[view.storage.dtype]
    start = offsets.of(storage)
    n = n_elements(view.shape)
    last = view.offset + sum((d - 1) * s for d, s in zip(view.shape, view.strides, strict=True)) if n else view.offset
    # n > storage: an expanded tensor (stride 0) would need more memory than the file has bytes.
    if n > storage.n_elements or last >= max(storage.n_elements, 1) or (n == 0 and view.offset > storage.n_elements):
        raise _RefusedError(f"tensor {name[:200]!r} that leaves its storage")
    return StoredTensor(name, view.shape, storage.dtype, path, start + view.offset * size, view.strides)


def _named_views(state: object) -> Iterator[tuple[str, _View]]:
    if isinstance(state, dict) and set(state) == {"state_dict"}:
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise _RefusedError(f"a {type(state).__name__} where a dictionary of tensors was expected")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, _View):
            raise _RefusedError(f"an entry {str(name)[:80]!r} that is no tensor")
        yield name, value


class _Machine:
    """Interprets the pickle instructions of a state dict; every other instruction is refused."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> object:
        """Return the value that the pickle describes: dictionaries, tuples, strings, numbers and `_View`s."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(self._data)):
            if count > _MAX_INSTRUCTIONS:
                raise _RefusedError(f"more than {_MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        if len(self._stack) != 1:
            raise _RefusedError("a pickle that ends in the middle")
        return self._stack[0]

    def _step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise _RefusedError(f"the pickle instruction {name}")

    def pop(self) -> Any:
        if not self._stack:
            raise _RefusedError("a pickle with an empty stack")
        return self._stack.pop()

    def pop_to_mark(self) -> tuple[Any, ...]:
        items: list[Any] = []
        while not isinstance(item := self.pop(), _Mark):
            items.append(item)
        return tuple(reversed(items))

    def put(self, argument: Any) -> None:
        if not self._stack:
            raise _RefusedError("a pickle with an empty stack")
        self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1]

    def get(self, argument: Any) -> None:
        if int(argument) not in self._memo:
            raise _RefusedError("a pickle that recalls what it never stored")
        self._stack.append(self._memo[int(argument)])

    def tuple_of(self, n: int) -> None:
        self._stack.append(tuple(reversed([self.pop() for _ in range(n)])))

    def tuple_to_mark(self, _: Any) -> None:
        self._stack.append(self.pop_to_mark())

    def name_global(self, argument: Any) -> None:
        self._stack.append(_known_name(str(argument).replace(" ", ".", 1)))

    def name_from_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self._stack.append(_known_name(f"{module}.{name}"))

    def storage(self, _: Any) -> None:
        self._stack.append(_storage(self.pop()))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _RefusedError("a call of something that is no function")
        self._stack.append(_rebuild(function.path, arguments))

    def set_items(self, items: tuple[Any, ...]) -> None:
        target = self.pop()
        if not isinstance(target, dict) or len(items) % 2:
            raise _RefusedError("items set on something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise _RefusedError(f"a dictionary key of type {type(key).__name__}")
            target[key] = value
        self._stack.append(target)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items((key, value))

    def set_items_to_mark(self, _: Any) -> None:
        self.set_items(self.pop_to_mark())

    def build(self, _: Any) -> None:
        """Attributes of a state dict (`_metadata`: module versions) carry no weights, so they are let go."""
        self.pop()
        if not self._stack or not isinstance(self._stack[-1], dict):
            raise _RefusedError("attributes set on something that is no dictionary")

    def mark(self, _: Any) -> None:
        self._stack.append(_Mark())


_IGNORED = {"PROTO", "FRAME"}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINFLOAT"),
}
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_to_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "GLOBAL": _Machine.name_global,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.call,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items_to_mark,
    "BUILD": _Machine.build,
}


def _known_name(path: str) -> _Name:
    if path not in _KNOWN_NAMES:
        raise _RefusedError(f"a request for {path[:200]!r}, which could run code; do not use this file")
    return _Name(path)


def _storage(persistent_id: Any) -> _Storage:
    """`('storage', storage type, key, location, number of elements)`, as `torch.save` writes it."""
    match persistent_id:
        case ("storage", _Name(path), str(key), str(), int(n)) if path in _STORAGE_DTYPES and n >= 0:
            return _Storage(_STORAGE_DTYPES[path], key, n)
    raise _RefusedError("a persistent object that is no tensor storage")


def _rebuild(path: str, arguments: tuple[Any, ...]) -> object:
    match path, arguments:
        case "torch._utils._rebuild_tensor_v2", (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
            return _view(storage, offset, shape, strides)
        case "torch._utils._rebuild_parameter", (_View() as view, *_):
            return view
        case "collections.OrderedDict", ():
            return {}
    raise _RefusedError(f"a call of {path} with arguments that no checkpoint has")


def _view(storage: _Storage, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> _View:
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise _RefusedError(f"a tensor with {len(shape)} dimensions and {len(strides)} strides")
    if any(not isinstance(n, int) or not 0 <= n < 2**48 for n in numbers):
        raise _RefusedError("a tensor with a negative or absurd size")
    return _View(storage, offset, shape, strides)
