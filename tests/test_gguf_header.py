"""The header of a GGUF file, against the `gguf` package's own reader."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import tiny_gguf

from palo_cpp.errors import ModelFormatError
from palo_cpp.gguf_header import read_header


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
    writer.add_array("a.list", [1.0, 2.0])
    writer.add_tensor("t", np.zeros((3, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(tmp_path / "a.gguf")
    assert {key: header.metadata[f"a.{key}"] for key in values} == values
    assert (header.metadata["a.f32"], header.metadata["a.f64"], header.metadata["a.yes"]) == (0.5, 1e-300, True)
    assert header.arrays == {"a.list": 2}
    assert header.pair_id == "हिन्दी" and header.is_mmproj
    assert header.tensors["t"].shape == (32, 3, 1, 1) and header.tensors["t"].n_bytes == 192


def test_absurd_counts_are_an_error(tmp_path):
    for name, counts in {
        "tensors": (2**62).to_bytes(8, "little") + (1).to_bytes(8, "little"),
        "keys": (1).to_bytes(8, "little") + (2**62).to_bytes(8, "little"),
        "negative": b"\xff" * 16,
    }.items():
        (tmp_path / name).write_bytes(b"GGUF" + (3).to_bytes(4, "little") + counts + b"\0" * 64)
        with pytest.raises(ModelFormatError, match="expected a whole GGUF file"):
            read_header(tmp_path / name)
