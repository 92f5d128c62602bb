"""Damaged and hostile GGUF files: each one a ModelFormatError of one line, never a crash, a hang or gigabytes."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from mmproj_files import Mmproj, write_mmproj

from palo_cpp.errors import ModelFormatError, ModelNotFoundError
from palo_cpp.gguf_scan import open_gguf
from palo_cpp.vision import VisionEncoder

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


def test_whole_file(tmp_path: Path) -> None:
    reader = open_gguf(write_mmproj(tmp_path / "mmproj.gguf", SMALL))
    assert {tensor.name for tensor in reader.tensors} == set(SMALL.tensors)
    with pytest.raises(ModelNotFoundError):
        open_gguf(tmp_path / "other.gguf")


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
    whole, header_end = path.read_bytes(), open_gguf(path).data_offset
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
