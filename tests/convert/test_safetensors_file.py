"""safetensors files: read lazily, and never outside themselves."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from palo_cpp.convert.safetensors_file import read_safetensors
from palo_cpp.convert.stored_tensor import LoraTensor, to_float32
from tensor_files import write_safetensors

from palo_cpp.errors import ModelFormatError

VALUES = np.array([[1.5, -2.0, 3.25], [0.0, 1024.0, -0.125]], np.float32)


def write(path: Path, header: Any, data: bytes = bytes(24)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_values(tmp_path: Path, dtype: str) -> None:
    write_safetensors(tmp_path / "a.safetensors", {"w": VALUES, "b": VALUES[0]}, dtype)
    tensors = read_safetensors(tmp_path / "a.safetensors")
    assert list(tensors) == ["w", "b"] and tensors["w"].dtype == dtype.upper()
    np.testing.assert_array_equal(to_float32(tensors["w"].read(), dtype.upper()), VALUES)
    fed: list[bytes] = []
    tensors["b"].read(lambda data: fed.append(bytes(data)))
    assert len(b"".join(fed)) == 3 * {"f32": 4, "f16": 2, "bf16": 2}[dtype]


ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b"\xff\xff",
        b"[" * 100_000,
        {"w": 5},
        {"w": {**ENTRY, "dtype": "F8"}},
        {"w": {**ENTRY, "shape": [2, -3]}},
        {"w": {**ENTRY, "shape": [2, 3.0]}},
        {"w": {**ENTRY, "shape": [True, 6]}},
        {"w": {**ENTRY, "shape": [2**40, 2**40]}},
        {"w": {**ENTRY, "shape": [1] * 9}},
        {"w": {**ENTRY, "data_offsets": [0, 23]}},
        {"w": {**ENTRY, "data_offsets": [4, 28]}},
        {"w": {**ENTRY, "data_offsets": [-24, 0]}},
        {"w": {**ENTRY, "data_offsets": [24, 0]}},
        {"w": {**ENTRY, "data_offsets": [0]}},
        {"w": ENTRY, "v": {"dtype": "F32", "shape": [1], "data_offsets": [20, 24]}},
    ],
)
def test_lies_are_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(ModelFormatError, match=r"a\.safetensors"):
        read_safetensors(write(tmp_path / "a.safetensors", header))


@pytest.mark.parametrize("content", [b"", b"1234567", struct.pack("<Q", 2**63), struct.pack("<Q", 9) + b"{}"])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ModelFormatError):
        read_safetensors(tmp_path / "a.safetensors")


def test_a_file_that_shrinks_after_listing_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"w": ENTRY})
    tensors = read_safetensors(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelFormatError, match="ends inside tensor w"):
        tensors["w"].read()


def test_integers_are_no_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"w": {"dtype": "I64", "shape": [3], "data_offsets": [0, 24]}})
    with pytest.raises(ModelFormatError, match="expected F32, F16 or BF16, got I64"):
        read_safetensors(path)["w"].read()


def test_lora_sum_in_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {"w": rng.normal(size=(5, 7)), "a": rng.normal(size=(2, 7)), "b": rng.normal(size=(5, 2))}
    write_safetensors(tmp_path / "a.safetensors", {k: v.astype(np.float32) for k, v in parts.items()}, "f32")
    stored = read_safetensors(tmp_path / "a.safetensors")
    merged = LoraTensor(stored["w"], stored["a"], stored["b"], 1.5).read()
    np.testing.assert_allclose(merged, parts["w"] + 1.5 * parts["b"] @ parts["a"], rtol=1e-5, atol=1e-6)
