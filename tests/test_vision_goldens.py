"""Every stage of the vision encoder against PyTorch float32, through the converter: the very files users get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_files import VISION_CASES, GoldenModel, VisionGolden, read_vision_golden
from palo_cpp.convert import convert

from palo_cpp.vision import VisionEncoder

# Largest difference, as a part of the largest value of the stage, over all cases and both outtypes.
TOLERANCE = {
    "patch_embeddings": 2e-6,  # observed 9.4e-7
    "hidden_states": 2e-6,  # observed 1.3e-6
    "project": 2e-6,  # observed 9.6e-7
    "encode": 3e-6,  # observed 1.5e-6
}


def load(folder: Path, golden: VisionGolden, grid: int, outtype: str) -> VisionEncoder:
    checkpoint = GoldenModel(golden.projector, grid=grid).write(folder / "checkpoint")
    return VisionEncoder(convert(checkpoint, folder / "gguf", outtype="f16", mmproj_outtype=outtype).mmproj_path)


def largest_error(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("projector", "grid", "outtype"), [(*case, "f16") for case in VISION_CASES] + [("ldpnet", 9, "f32")]
)
def test_stages(tmp_path: Path, projector: str, grid: int, outtype: str) -> None:
    """f16 has no tolerance of its own: the goldens' weights are exact in it."""
    golden = read_vision_golden(projector, grid)
    with load(tmp_path, golden, grid, outtype) as encoder:
        hidden = golden.hidden_states
        errors = {
            "patch_embeddings": largest_error(encoder.patch_embeddings(golden.pixels), golden.patch_embeddings),
            "hidden_states": largest_error(encoder.hidden_states(golden.pixels), hidden),
            "project": largest_error(encoder.project(hidden), golden.image_embeddings),
            "encode": largest_error(encoder.encode(golden.pixels), golden.image_embeddings),
        }
    assert all(errors[stage] < TOLERANCE[stage] for stage in TOLERANCE), errors
