"""PyTorch archives are read without running anything in them; attack pickles are refused and do nothing."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from palo_cpp.convert.restricted_pickle import read_torch_archive
from tensor_files import write_torch_zip

from palo_cpp.errors import ModelFormatError

DATA = np.arange(24, dtype=np.float32)


def write_archive(path: Path, pickled: bytes, *, root: str = "archive", data: bytes = DATA.tobytes()) -> Path:
    """What `torch.save` writes, around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickled)
        archive.writestr(f"{root}/byteorder", "little")
        archive.writestr(f"{root}/data/0", data)
        archive.writestr(f"{root}/version", "3\n")
    return path


class Storage:
    """Becomes a persistent id, as in torch.save."""

    def __init__(self, n: int = 24, key: str = "0", kind: str = "FloatStorage") -> None:
        self.id = ("storage", Name("torch", kind), key, "cpu", n)


class Name:
    """Becomes a GLOBAL instruction."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Becomes a REDUCE instruction."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.name, self.arguments = Name(module, name), arguments


def assemble(value: Any) -> bytes:
    """A protocol-2 pickle of nested dictionaries, tuples, Names, Calls and Storages, byte by byte."""
    return b"\x80\x02" + _assemble(value) + b"."


def _assemble(value: Any) -> bytes:
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return _assemble(value.name) + _assemble(value.arguments) + b"R"
    if isinstance(value, Storage):
        return _assemble(value.id) + b"Q"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_assemble, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(_assemble(k) + _assemble(v) for k, v in value.items()) + b"u"
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(shape: tuple[Any, ...] = (4, 6), strides: tuple[Any, ...] = (6, 1), offset: Any = 0, **storage: Any) -> Call:
    hooks = Call("collections", "OrderedDict")
    return Call("torch._utils", "_rebuild_tensor_v2", Storage(**storage), offset, shape, strides, False, hooks)


# --- what must work -------------------------------------------------------------------------------------------------


def test_plain_state_dict(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.bin", assemble({"w": tensor(), "part": tensor((2, 3), (6, 1), 7)}))
    tensors = read_torch_archive(path)
    np.testing.assert_array_equal(tensors["w"].read(), DATA.reshape(4, 6))
    np.testing.assert_array_equal(tensors["part"].read(), DATA[7:].reshape(-1)[:12].reshape(2, 6)[:, :3])


def test_transposed_and_parameter_and_wrapped(tmp_path: Path) -> None:
    hooks = Call("collections", "OrderedDict")
    parameter = Call("torch._utils", "_rebuild_parameter", tensor((6, 4), (1, 6)), True, hooks)
    path = write_archive(tmp_path / "a.bin", assemble({"state_dict": {"w": parameter, "scalar": tensor((), (), 3)}}))
    tensors = read_torch_archive(path)
    np.testing.assert_array_equal(tensors["w"].read(), DATA.reshape(4, 6).T)
    assert tensors["scalar"].read() == 3


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_written_archive_is_read_back(tmp_path: Path, dtype: str) -> None:
    write_torch_zip(tmp_path / "a.bin", {"w": DATA.reshape(2, 12), "ids": np.arange(5)}, dtype)
    tensors = read_torch_archive(tmp_path / "a.bin")
    assert tensors["w"].shape == (2, 12) and tensors["w"].dtype == dtype.upper() and tensors["ids"].dtype == "I64"


def test_state_dict_with_metadata_attribute(tmp_path: Path) -> None:
    """`OrderedDict` with `_metadata`, as `module.state_dict()` gives it: the BUILD instruction is let go."""
    body = _assemble(Call("collections", "OrderedDict")) + b"(" + _assemble("w") + _assemble(tensor()) + b"u"
    pickled = b"\x80\x02" + body + _assemble({"_metadata": {}}) + b"b."
    assert list(read_torch_archive(write_archive(tmp_path / "a.bin", pickled))) == ["w"]


# --- attacks --------------------------------------------------------------------------------------------------------


class _Reduce:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def attack_pickles(marker: Path) -> dict[str, bytes]:
    """Pickles that would make the file `marker` if anything in them ran."""
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    hidden = b"cbuiltins\neval\nq\x01" + b"0" + b"h\x01" + _assemble((code,)) + b"R"
    stack_global = b"\x8c\x02os\x8c\x06system\x93"
    return {
        "os.system": pickle.dumps({"w": _Reduce(os.system, touch)}, 2),
        "os.system, protocol 4": pickle.dumps({"w": _Reduce(os.system, touch)}, 4),
        "builtins.eval": pickle.dumps(_Reduce(eval, code), 2),
        "builtins.exec": pickle.dumps(_Reduce(exec, code), 2),
        "nested reduce": pickle.dumps(_Reduce(print, _Reduce(eval, code)), 2),
        "inside an OrderedDict": pickle.dumps(OrderedDict(w=_Reduce(eval, code)), 2),
        "torch gadget": assemble({"w": Call("torch.storage", "_load_from_bytes", pickle.dumps(_Reduce(eval, code)))}),
        "torch.load gadget": assemble({"w": Call("torch", "load", str(marker))}),
        "torch._utils gadget": assemble({"w": Call("torch._utils", "_rebuild_wrapper_subclass", 1, 2)}),
        "numpy gadget": assemble(Call("numpy.core.multiarray", "_reconstruct", 1)),
        "getattr chain": assemble(Call("builtins", "getattr", Name("os", "path"), "os")),
        "dotted name": assemble(Name("torch._utils", "_rebuild_tensor_v2.__globals__")),
        "allowed name as argument": assemble(
            Call("collections", "OrderedDict", Name("torch._utils", "_rebuild_tensor_v2"))
        ),
        "memoized": b"\x80\x02" + hidden + b".",
        "stack global": b"\x80\x04" + stack_global + _assemble((touch,)) + b"R.",
        "build on a function": assemble(Name("collections", "OrderedDict"))[:-1] + _assemble({"__code__": 1}) + b"b.",
        "inst": b"\x80\x02(" + _assemble(touch) + b"ios\nsystem\n.",
        "obj": b"\x80\x02(cos\nsystem\n" + _assemble(touch) + b"o.",
        "newobj": b"\x80\x02cos\nsystem\n" + _assemble((touch,)) + b"\x81.",
        "extension": b"\x80\x02\x82\x01.",
        "text persistent id": b"\x80\x02Pevil\n.",
        "legacy string": b"\x80\x02S'" + b"x" * 10 + b"'\n.",
    }


ATTACKS = list(attack_pickles(Path("unused")))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_and_nothing_runs(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "ran"
    path = write_archive(tmp_path / "a.bin", attack_pickles(marker)[name])
    with pytest.raises(ModelFormatError, match=r"a\.bin: "):
        read_torch_archive(path)
    assert not marker.exists()


def test_the_refusal_names_what_was_asked_for(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.bin", assemble({"w": Call("torch.storage", "_load_from_bytes", "x")}))
    with pytest.raises(ModelFormatError, match=r"request for 'torch\.storage\._load_from_bytes', which could run code"):
        read_torch_archive(path)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "builtins.exec", "nested reduce"])
def test_the_attacks_are_real(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Python's own unpickler runs them: what is refused above is no straw man."""
    marker = tmp_path / "ran"
    pickle.loads(attack_pickles(marker)[name])
    assert marker.exists()
    capfd.readouterr()


# --- tensors that lie -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        tensor((4, 7), (7, 1)),
        tensor((4, 6), (7, 1)),
        tensor((4, 6), (6, 1), offset=1),
        tensor((4, 6), (6, 1), offset=-1),
        tensor((4, 6), (-6, 1)),
        tensor((1 << 40, 1 << 40), (0, 0)),
        tensor((1 << 47,), (0,)),
        tensor((1 << 70,), (1,)),
        tensor((4, 6), (6,)),
        tensor((1,) * 40, (1,) * 40),
        tensor((4.0, 6), (6, 1)),
        tensor((True, 6), ("a", 1)),
        tensor(n=25),
        tensor(n=-1),
        tensor(key="1"),
        tensor(key="../data/0"),
        tensor(kind="QInt8Storage"),
        Call("torch._utils", "_rebuild_tensor_v2", 1, 0, (1,), (1,)),
        Call("torch._utils", "_rebuild_tensor_v2"),
        Call("torch._utils", "_rebuild_parameter", 5, True),
        7,
    ],
)
def test_tensors_that_leave_their_storage_are_refused(tmp_path: Path, lie: Any) -> None:
    with pytest.raises(ModelFormatError):
        read_torch_archive(write_archive(tmp_path / "a.bin", assemble({"w": lie})))


@pytest.mark.parametrize("value", [None, 5, "text", (), {"w": 1}, {5: tensor()}, {"a": {"b": tensor()}}])
def test_anything_but_a_flat_state_dict_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ModelFormatError):
        read_torch_archive(write_archive(tmp_path / "a.bin", assemble(value)))


# --- archives that lie ----------------------------------------------------------------------------------------------

GOOD = assemble({"w": tensor()})


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "archive/../../evil", "archive\\data", "C:/evil", "archive/data/../../x"]
)
def test_path_tricks_in_archive_names_are_refused(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / "a.bin", GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ModelFormatError, match="leaves the archive"):
        read_torch_archive(path)


def test_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", GOOD)
        archive.writestr("archive/data/0", bytes(50_000_000))
    assert (tmp_path / "a.bin").stat().st_size < 100_000
    with pytest.raises(ModelFormatError, match="compressed"):
        read_torch_archive(tmp_path / "a.bin")


def test_huge_pickle_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.bin", GOOD)
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    struct.pack_into("<II", data, directory + 20, 1 << 31, 1 << 31)  # sizes of data.pkl in the central directory
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match="bytes where at most"):
        read_torch_archive(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_entries_are_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.bin", GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", GOOD)
    with pytest.raises(ModelFormatError, match="two archive entries"):
        read_torch_archive(path)


def test_big_endian_and_rootless_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "big.bin", "w") as archive:
        archive.writestr("archive/data.pkl", GOOD)
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(ModelFormatError, match="byte order"):
        read_torch_archive(tmp_path / "big.bin")
    with zipfile.ZipFile(tmp_path / "none.bin", "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(ModelFormatError, match=r"0 data\.pkl entries"):
        read_torch_archive(tmp_path / "none.bin")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02.", b"PK\x03\x04" + b"\0" * 100, pickle.dumps({"a": 1})])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(ModelFormatError):
        read_torch_archive(tmp_path / "a.bin")


def test_deep_nesting_neither_recurses_nor_crashes(tmp_path: Path) -> None:
    deep = b"\x80\x02" + b")" + b"\x85" * 200_000 + b"."
    with pytest.raises(ModelFormatError, match="tuple where a dictionary"):
        read_torch_archive(write_archive(tmp_path / "a.bin", deep))


def test_doubling_structure_takes_no_memory(tmp_path: Path) -> None:
    """A "billion laughs" of shared tuples: 2^60 leaves that nobody may visit."""
    laughs = b"\x80\x02)" + b"".join(b"q%c0(h%ch%ct" % (i, i, i) for i in range(60)) + b"."
    with pytest.raises(ModelFormatError):
        read_torch_archive(write_archive(tmp_path / "a.bin", laughs))


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_archive(tmp_path / "a.bin", GOOD).read_bytes()
    for n in range(0, len(whole), 7):
        (tmp_path / "a.bin").write_bytes(whole[:n])
        with pytest.raises(ModelFormatError):
            read_torch_archive(tmp_path / "a.bin")


@settings(max_examples=150, deadline=None)
@example([(-5, 2)])  # the directory's offset, in the last record: a seek to before the file's start
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_are_read_or_refused_never_worse(changes: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_archive(Path(folder) / "a.bin", GOOD)
        data = bytearray(path.read_bytes())
        for at, byte in changes:
            data[at % len(data)] = byte
        path.write_bytes(data)
        with contextlib.suppress(ModelFormatError):
            for stored in read_torch_archive(path).values():
                stored.read()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80))
def test_random_pickles_are_read_or_refused_never_worse(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ModelFormatError):
        read_torch_archive(write_archive(Path(folder) / "a.bin", b"\x80\x02" + body + b"."))
