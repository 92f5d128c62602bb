"""Interprets the few pickle instructions that a state dict needs, on plain values of its own.

A global name is only ever looked up in `_KNOWN_NAMES`; there is no import, no `getattr` and no call of anything a file
names.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MAX_INSTRUCTIONS = 20_000_000
_MAX_DIMENSIONS = 8

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
class Storage:
    """Values of one entry of the archive, named by its key.

    Attributes:
        dtype: a key of `DTYPE_SIZE`.
        key: of the entry.
        n_elements: as the pickle says.
    """

    dtype: str
    key: str
    n_elements: int


@dataclass(frozen=True)
class View:
    """What `_rebuild_tensor_v2` describes: offset and strides count elements, as in PyTorch."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    pass


class RefusedError(Exception):
    """Why a pickle is not a plain state dict; becomes a ModelFormatError that names the file."""


class _Machine:
    """Interprets the pickle instructions of a state dict; every other instruction is refused."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> object:
        """Return the value that the pickle describes: dictionaries, tuples, strings, numbers and `View`s."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(self._data)):
            if count > _MAX_INSTRUCTIONS:
                raise RefusedError(f"more than {_MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        if len(self._stack) != 1:
            raise RefusedError("a pickle that ends in the middle")
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
            raise RefusedError(f"the pickle instruction {name}")

    def pop(self) -> Any:
        if not self._stack:
            raise RefusedError("a pickle with an empty stack")
        return self._stack.pop()

    def pop_to_mark(self) -> tuple[Any, ...]:
        items: list[Any] = []
        while not isinstance(item := self.pop(), _Mark):
            items.append(item)
        return tuple(reversed(items))

    def put(self, argument: Any) -> None:
        if not self._stack:
            raise RefusedError("a pickle with an empty stack")
        self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1]

    def get(self, argument: Any) -> None:
        if int(argument) not in self._memo:
            raise RefusedError("a pickle that recalls what it never stored")
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
            raise RefusedError("a call of something that is no function")
        self._stack.append(_rebuild(function.path, arguments))

    def set_items(self, items: tuple[Any, ...]) -> None:
        target = self.pop()
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError("items set on something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise RefusedError(f"a dictionary key of type {type(key).__name__}")
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
            raise RefusedError("attributes set on something that is no dictionary")

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
        raise RefusedError(f"a request for {path[:200]!r}, which could run code; do not use this file")
    return _Name(path)


def _storage(persistent_id: Any) -> Storage:
    """`('storage', storage type, key, location, number of elements)`, as `torch.save` writes it."""
    match persistent_id:
        case ("storage", _Name(path), str(key), str(), int(n)) if path in _STORAGE_DTYPES and n >= 0:
            return Storage(_STORAGE_DTYPES[path], key, n)
    raise RefusedError("a persistent object that is no tensor storage")


def _rebuild(path: str, arguments: tuple[Any, ...]) -> object:
    match path, arguments:
        case "torch._utils._rebuild_tensor_v2", (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
            return _view(storage, offset, shape, strides)
        case "torch._utils._rebuild_parameter", (View() as view, *_):
            return view
        case "collections.OrderedDict", ():
            return {}
    raise RefusedError(f"a call of {path} with arguments that no checkpoint has")


def _view(storage: Storage, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> View:
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise RefusedError(f"a tensor with {len(shape)} dimensions and {len(strides)} strides")
    if any(not isinstance(n, int) or not 0 <= n < 2**48 for n in numbers):
        raise RefusedError("a tensor with a negative or absurd size")
    return View(storage, offset, shape, strides)


def run_pickle(data: bytes) -> object:
    """The value that a pickle describes: dictionaries, tuples, strings, numbers and `View`s.

    Raises:
        RefusedError: it asks for anything else.
    """
    return _Machine(data).run()
