"""Headers of GGUF files: against the `gguf` package's reader, and damaged and hostile ones.

Each bad file is a ModelFormatError of one line, never a crash, a hang or gigabytes.
"""

from __future__ import annotations

import shutil
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_gguf
from mmproj_files import Mmproj, write_mmproj

from palo_cpp.errors import ModelFormatError, ModelNotFoundError
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.vision.encoder import VisionEncoder


def test_equals_the_gguf_package(text_gguf):
    header, reader = read_header(text_gguf), gguf.GGUFReader(text_gguf)
    assert set(header.tensors) == {tensor.name for tensor in reader.tensors}
    for tensor in reader.tensors:
        ours = header.tensors[tensor.name]
        assert ours.shape[: len(tensor.shape)] == tuple(tensor.shape)
        assert (ours.type, ours.n_bytes, ours.offset) == (int(tensor.tensor_type), tensor.n_bytes, tensor.data_offset)
    for key, field in reader.fields.items():
        if key.startswith("GGUF."):
            continue
        value = field.contents()
        if isinstance(value, list):
            assert header.arrays[key] == len(value)
        else:
            assert header.metadata[key] == value, key
    assert header.tokens == tiny_gguf.pieces()[0]
    assert header.size_bytes == text_gguf.stat().st_size


def test_every_kind_of_value(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "clip")
    values = {
        "uint8": 255,
        "int8": -128,
        "uint16": 65535,
        "int16": -5,
        "uint32": 2**32 - 1,
        "int32": -7,
        "uint64": 2**63,
        "int64": -(2**40),
    }
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_float32("a.f32", 0.5)
    writer.add_float64("a.f64", 1e-300)
    writer.add_bool("a.yes", True)
    writer.add_string("palo.pair_id", "हिन्दी")
    writer.add_array("a.list", [1.0, 2.5])
    writer.add_array("a.whole", [3, -4])
    writer.add_array("a.flags", [True, False])
    writer.add_array("a.names", ["x"])
    writer.add_array("a.long", list(range(65)))
    writer.add_tensor("t", np.zeros((3, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(tmp_path / "a.gguf")
    assert {key: header.metadata[f"a.{key}"] for key in values} == values
    assert (header.metadata["a.f32"], header.metadata["a.f64"], header.metadata["a.yes"]) == (0.5, 1e-300, True)
    assert header.arrays == {"a.list": 2, "a.whole": 2, "a.flags": 2, "a.names": 1, "a.long": 65}
    assert header.numbers == {"a.list": [1.0, 2.5], "a.whole": [3, -4]}
    assert header.pair_id == "हिन्दी" and header.is_mmproj
    assert header.tensors["t"].shape == (32, 3, 1, 1) and header.tensors["t"].n_bytes == 192


def test_missing_file(tmp_path):
    with pytest.raises(ModelNotFoundError, match="expected a GGUF file, got no file there"):
        read_header(tmp_path / "other.gguf")


# ---- damaged and hostile files

HUGE = 1 << 60
SMALL = Mmproj(grid=2, patch_size=2, n_embd=8, n_head=2, n_ff=12, n_layer=1, n_out=8, n_squeezed=8)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(n_tensors: int = 0, n_keys: int = 0, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    return magic + struct.pack("<IQQ", version, n_tensors, n_keys)


def key(kind: int, value: bytes, name: bytes = b"key") -> bytes:
    return header(n_keys=1) + text(name) + struct.pack("<I", kind) + value


def tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0, n_dims: int | None = None) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape) if n_dims is None else n_dims, *shape)
    return header(n_tensors=1) + text(b"t") + dims + struct.pack("<IQ", kind, offset)


HOSTILE = {
    "empty": b"",
    "short": b"GGUF",
    "magic": header(magic=b"PK\3\4"),
    "version": header(version=1),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "tensor count": header(n_tensors=HUGE) + bytes(100),
    "key count": header(n_keys=HUGE) + bytes(100),
    "keys cut off": header(n_keys=3),
    "key length": header(n_keys=1) + struct.pack("<Q", HUGE) + bytes(100),
    "value type": key(99, bytes(8)),
    "string length": key(8, struct.pack("<Q", HUGE)),
    "array of huge count": key(9, struct.pack("<IQ", 0, HUGE)),
    "array cut off": key(9, struct.pack("<IQ", 12, 1000)),
    "array of strings cut off": key(9, struct.pack("<IQ", 8, 1000)),
    "array of arrays": key(9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 0, 1) + bytes(1)),
    "alignment 0": key(4, struct.pack("<I", 0), b"general.alignment"),
    "alignment 24": key(4, struct.pack("<I", 24), b"general.alignment"),
    "alignment as string": key(8, text(b"32"), b"general.alignment"),
    "no dimension": tensor(()),
    "five dimensions": tensor((1, 1, 1, 1, 1)),
    "2**32 dimensions": tensor((1,), n_dims=2**32 - 1),
    "shape overflows": tensor((1 << 33, 1 << 33)),
    "shape wraps to zero": tensor((1 << 32, 1 << 32)),
    "data beyond the end": tensor((1 << 20,)),
    "offset beyond the end": tensor((1,), offset=HUGE),
    "unknown type": tensor((32,), kind=12345),
    "half a block": tensor((31,), kind=2),
    "no UTF-8": key(8, text(b"\xff\xfe"), b"\xff"),
    "duplicate key": header(n_keys=2) + 2 * (text(b"a") + struct.pack("<I", 7) + b"\1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.gguf"
    path.write_bytes(HOSTILE[name])
    began = time.monotonic()
    with pytest.raises(ModelFormatError) as caught:
        VisionEncoder(path)
    assert time.monotonic() - began < 5
    assert str(caught.value).startswith("file.gguf: ")
    assert "\n" not in str(caught.value)


def test_names_in_a_file_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "file.gguf").write_bytes(key(99, bytes(8), b"\x1b[2Jgone"))
    with pytest.raises(ModelFormatError) as caught:
        read_header(tmp_path / "file.gguf")
    assert str(caught.value).isprintable() and "gone" in str(caught.value)


@pytest.mark.parametrize("kept", (0, 3, 23, 24, 100, 2000, 0.5, 0.99, -1))
def test_truncated_files(tmp_path: Path, kept: float) -> None:
    whole = write_mmproj(tmp_path / "mmproj.gguf", SMALL).read_bytes()
    n = int(kept * len(whole)) if isinstance(kept, float) else kept
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:n])
    with pytest.raises(ModelFormatError, match=r"cut\.gguf: "):
        VisionEncoder(path)


def mutate(whole: bytes, header_end: int, random: np.random.Generator) -> bytes:
    """Change one to four places of the header: a bit, a byte, or an integer to one that is likely to hurt."""
    data = bytearray(whole)
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(4, header_end - 8))
        kind = random.integers(4)
        if kind == 0:
            data[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            data[at] = int(random.integers(256))
        elif kind == 2:
            data[at : at + 4] = struct.pack("<I", int(random.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1])))
        else:
            data[at : at + 8] = struct.pack("<Q", int(random.choice([0, 2**31, 2**32, 2**61, 2**63 - 1])))
    return bytes(data)


def test_mutated_headers(tmp_path: Path) -> None:
    """600 damaged headers: each loads or is a ModelFormatError; what loads also encodes."""
    path = write_mmproj(tmp_path / "mmproj.gguf", SMALL)
    whole = path.read_bytes()
    header_end = min(tensor.offset for tensor in read_header(path).tensors.values())
    random = np.random.default_rng(0)
    n_loaded = 0
    for i in range(600):
        path = tmp_path / f"mutated-{i % 2}.gguf"
        path.write_bytes(mutate(whole, header_end, random))
        try:
            encoder = VisionEncoder(path, n_threads=1)
        except ModelFormatError as error:
            assert "\n" not in str(error)
        else:
            n_loaded += 1
            size = encoder.info.image_size
            result = encoder.encode(np.zeros((3, size, size), np.float32))
            assert result.shape == (encoder.info.n_image_tokens, encoder.info.n_embd)
    assert 0 < n_loaded < 300


def test_the_weights_id_follows_the_bytes_and_not_the_place(text_gguf, tmp_path):
    copy = shutil.copyfile(text_gguf, tmp_path / "copy.gguf")
    header = read_header(copy)
    assert header.weights_id() == read_header(text_gguf).weights_id()
    known = {header.weights_id()}
    for tensor in list(header.tensors.values())[:3]:
        with copy.open("r+b") as file:
            file.seek(tensor.offset)
            first = file.read(1)
            file.seek(tensor.offset)
            file.write(bytes([first[0] ^ 1]))
        known.add(read_header(copy).weights_id())
    assert len(known) == 4
