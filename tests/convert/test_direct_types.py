"""What a conversion quantizes is what llama.cpp's own quantizer makes of the unquantized file."""

from __future__ import annotations

from pathlib import Path

import checkpoints
import gguf
import numpy as np
import pytest
from palo_cpp.convert import convert, quantize
from palo_cpp.convert.block_types import block_size, quantize_rows

from palo_cpp.errors import ModelFormatError


def content(path: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Keys, and type and bytes of each tensor."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return keys, {tensor.name: (tensor.tensor_type.name, tensor.data.tobytes()) for tensor in reader.tensors}


@pytest.mark.parametrize(
    ("dtype", "unquantized"), [("f16", "f16"), ("bf16", "bf16"), ("f32", "f32")], ids=["f16", "bf16", "f32"]
)
def test_same_bytes_as_the_quantizer(tmp_path, dtype, unquantized):
    source = checkpoints.write_checkpoint(tmp_path / "PALO-Small", dtype=dtype)
    whole = convert(source, tmp_path / "whole", outtype=unquantized)
    for outtype in ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_l", "iq4_xs", "iq3_s"):
        expected = content(quantize(whole.model_path, tmp_path, outtype))
        done = convert(source, tmp_path / outtype, outtype=outtype)
        assert content(done.model_path) == expected, outtype
        assert done.plan.file("text").n_bytes == sum(len(data) for _, data in expected[1].values())


def test_plan_names_the_types(tmp_path):
    source = checkpoints.write_checkpoint(tmp_path / "PALO-Small")
    plan = convert(source, tmp_path / "out", outtype="q4_k_m", dry_run=True).plan
    types = {tensor.spec.gguf: tensor.type for tensor in plan.file("text").tensors}
    assert (types["output.weight"], types["blk.0.attn_q.weight"]) == ("Q6_K", "Q4_K")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "type_name", ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q4_1", "Q3_K", "Q2_K", "IQ4_XS", "IQ3_S"]
)
def test_odd_values(type_name):
    """Zeros, subnormal and huge values become finite ones, or one sentence; nothing ends the process."""
    n_columns = 2 * block_size(type_name)[0]
    for scale in (0.0, 1e-42, 1e-20, 1.0, 60000.0, 1e20, 3e38):
        rows = np.random.default_rng(1).uniform(-1, 1, (3, n_columns)).astype(np.float32) * np.float32(scale)
        rows[1] = 0
        rows[2, 1:] = 0
        try:
            quantized = quantize_rows(rows, type_name, "t")
        except ModelFormatError as error:
            assert scale > 1e4 and "expected values that fit" in str(error)
            continue
        values = gguf.quants.dequantize(quantized, gguf.GGMLQuantizationType[type_name])
        assert np.isfinite(values).all()
        if scale == 1.0:
            assert np.abs(values - rows).max() < 0.7
