"""Every stage of the vision encoder against PyTorch float32, through the converter: the very files users get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_files import VISION_CASES, GoldenModel, VisionGolden, read_vision_golden
from palo_cpp.convert import convert

from palo_cpp.vision.encoder import Precision, VisionEncoder

# Largest difference, as a part of the largest value of the stage, over all cases and both outtypes.
TOLERANCE = {
    "patch_embeddings": 2e-6,  # observed 9.4e-7
    "hidden_states": 2e-6,  # observed 1.3e-6
    "project": 2e-6,  # observed 9.6e-7
    "encode": 3e-6,  # observed 1.5e-6
}
TOLERANCE_INT8 = {
    "patch_embeddings": 0.02,  # observed 0.0101
    "hidden_states": 0.04,  # observed 0.0291
    "project": 0.04,  # observed 0.0240
    "encode": 0.05,  # observed 0.0348
}
SMALLEST_COSINE_INT8 = 0.999  # observed 0.99908, at 64 channels; 0.9995 in ViT-L

Stages = dict[str, tuple[np.ndarray, np.ndarray]]


def load(folder: Path, golden: VisionGolden, grid: int, outtype: str, precision: Precision) -> VisionEncoder:
    checkpoint = GoldenModel(golden.projector, grid=grid).write(folder / "checkpoint")
    mmproj = convert(checkpoint, folder / "gguf", outtype="f16", mmproj_outtype=outtype).mmproj_path
    return VisionEncoder(mmproj, precision=precision)


def run_stages(encoder: VisionEncoder, golden: VisionGolden) -> Stages:
    """Stage -> what it gave, and what PyTorch gave."""
    hidden, pixels = golden.hidden_states, golden.pixels
    return {
        "patch_embeddings": (encoder.patch_embeddings(pixels), golden.patch_embeddings),
        "hidden_states": (encoder.hidden_states(pixels), hidden),
        "project": (encoder.project(hidden), golden.image_embeddings),
        "encode": (encoder.encode(pixels), golden.image_embeddings),
    }


def largest_errors(stages: Stages) -> dict[str, float]:
    for got, expected in stages.values():
        assert got.shape == expected.shape
    return {
        name: float(np.abs(got - expected).max() / np.abs(expected).max()) for name, (got, expected) in stages.items()
    }


def smallest_cosine(got: np.ndarray, expected: np.ndarray) -> float:
    """Of the rows, in float64."""
    a, b = got.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / norms).min())


@pytest.mark.parametrize(
    ("projector", "grid", "outtype"), [(*case, "f16") for case in VISION_CASES] + [("ldpnet", 9, "f32")]
)
def test_stages(tmp_path: Path, projector: str, grid: int, outtype: str) -> None:
    """f16 has no tolerance of its own: the goldens' weights are exact in it."""
    golden = read_vision_golden(projector, grid)
    with load(tmp_path, golden, grid, outtype, "float") as encoder:
        stages = run_stages(encoder, golden)
    errors = largest_errors(stages)
    assert all(errors[stage] < TOLERANCE[stage] for stage in TOLERANCE), errors
    assert smallest_cosine(*stages["encode"]) > 0.99999


@pytest.mark.parametrize(("projector", "grid"), VISION_CASES)
def test_stages_int8(tmp_path: Path, projector: str, grid: int) -> None:
    golden = read_vision_golden(projector, grid)
    with load(tmp_path, golden, grid, "f16", "int8") as encoder:
        stages = run_stages(encoder, golden)
    errors = largest_errors(stages)
    cosines = {name: smallest_cosine(*values) for name, values in stages.items()}
    assert all(errors[stage] < TOLERANCE_INT8[stage] for stage in TOLERANCE_INT8), errors
    assert min(cosines.values()) > SMALLEST_COSINE_INT8, cosines
