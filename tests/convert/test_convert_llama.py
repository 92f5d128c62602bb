"""Stock llama.cpp and libmtmd load what the converter writes, and compute what plain numpy computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import stock_llama
from numpy.typing import NDArray
from numpy_models import clip_hidden, llama_logits, mlp_image_embeddings
from palo_cpp.convert import convert
from palo_cpp.convert.conversion import Conversion
from palo_cpp.convert.families.palo.sizes import CLIP_MEAN, CLIP_STD
from palo_cpp.convert.safetensors_file import read_safetensors
from random_model import SMALL, Size, draw, plan_model, plan_vision_model

from palo_cpp.vision.encoder import VisionEncoder

TOKENS = [1, 300, 7, 941, 512, 33, 600]
GRID_24 = replace(SMALL, image_size=336)  # libmtmd's ldp and ldpv2 know no other grid


def image(size: Size) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (size.image_size, size.image_size, 3), dtype=np.uint8)


def pixels(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    scaled = (values.astype(np.float64) / 255 - CLIP_MEAN) / CLIP_STD
    return scaled.transpose(2, 0, 1).astype(np.float32)


def relative_error(got: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def tensors_of(projector: str, size: Size) -> dict[str, NDArray[np.float32]]:
    return draw(plan_model(size, projector), 7) | draw(plan_vision_model(size), 7)


def converted_and_rotated(folder: Path, projector: str, size: Size) -> tuple[Conversion, Conversion]:
    """A model, and the same with its position embeddings rotated by one: patches first, the class last."""
    source = checkpoints.write_checkpoint(folder / "source", projector=projector, size=size, seed=7)
    done = convert(source, folder / "out", mmproj_outtype="f32")
    name = "model.vision_tower.vision_tower.vision_model.embeddings.position_embedding.weight"
    tensor = read_safetensors(source / "model.safetensors")[name]
    with tensor.path.open("r+b") as file:
        file.seek(tensor.offset)
        file.write(np.roll(tensor.read(), -1, axis=0).tobytes())
    return done, convert(source, folder / "rotated", mmproj_outtype="f32")


# n_head_kv 4 is LLaMA's usual attention, 1 and 2 share keys among heads.
@pytest.mark.parametrize("n_head_kv", [1, 2, 4])
def test_text_computes_what_numpy_computes(tmp_path: Path, n_head_kv: int) -> None:
    size = replace(SMALL, n_head_kv=n_head_kv)
    source = checkpoints.write_checkpoint(tmp_path / "source", projector="linear", size=size, seed=5)
    model = convert(source, tmp_path / "out", outtype="f32").model_path
    expected = llama_logits(draw(plan_model(size, "linear"), 5), size, TOKENS)
    assert relative_error(stock_llama.logits(model, TOKENS), expected) < 2e-6  # observed at most 6.3e-7


def test_rope_theta_and_eps_reach_llama(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", projector="linear", seed=5)
    config = json.loads((source / "config.json").read_text())
    config |= {"rope_theta": 5000.0, "rms_norm_eps": 1e-3}
    (source / "config.json").write_text(json.dumps(config))
    model = convert(source, tmp_path / "out", outtype="f32").model_path
    expected = llama_logits(draw(plan_model(SMALL, "linear"), 5), SMALL, TOKENS, eps=1e-3, theta=5000.0)
    assert relative_error(stock_llama.logits(model, TOKENS), expected) < 2e-6


# libmtmd puts CLIP's class row last (ggml-org/llama.cpp issue 25814), so numpy does so too where they are compared.
# Its GELU is the tanh form out of an f16 table, and f16 matrices meet f16 activations: hence the tolerances.
@pytest.mark.parametrize(
    ("mmproj_outtype", "tolerance"),
    [("f32", 1e-3), ("f16", 2e-3), ("bf16", 1e-2), ("q8_0", 5e-2)],  # observed 4.7e-4, 6.6e-4, 4.4e-3, 2.5e-2
)
@pytest.mark.parametrize("size", [SMALL, checkpoints.ODD], ids=["grid4", "grid5"])
def test_libmtmd_computes_what_numpy_computes(
    tmp_path: Path, size: Size, mmproj_outtype: str, tolerance: float
) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", projector="mlp2x_gelu", size=size, seed=7)
    done = convert(source, tmp_path / "out", mmproj_outtype=mmproj_outtype)
    expected = mlp_image_embeddings(tensors_of("mlp2x_gelu", size), size, pixels(image(size)), class_last=True)
    got = stock_llama.image_embeddings(done.model_path, done.mmproj_path, image(size))
    assert relative_error(got, expected) < tolerance


@pytest.mark.parametrize("select_layer", [-1, -2, -3, 0, 1, 3])
def test_libmtmd_stops_at_the_select_layer(tmp_path: Path, select_layer: int) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", projector="mlp2x_gelu", seed=7)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"mm_vision_select_layer": select_layer}))
    done = convert(source, tmp_path / "out", mmproj_outtype="f32")
    tensors = tensors_of("mlp2x_gelu", SMALL)
    expected = mlp_image_embeddings(tensors, SMALL, pixels(image(SMALL)), select_layer, class_last=True)
    got = stock_llama.image_embeddings(done.model_path, done.mmproj_path, image(SMALL))
    assert relative_error(got, expected) < 2e-3  # observed at most 5.4e-4


@pytest.mark.parametrize("size", [SMALL, checkpoints.ODD], ids=["grid4", "grid5"])
def test_libmtmd_agrees_with_our_encoder_but_for_its_class_row(tmp_path: Path, size: Size) -> None:
    """With rotated position embeddings libmtmd's tower is right, and its rows are patches 1 to n - 1 and the class."""
    done, rotated = converted_and_rotated(tmp_path, "mlp2x_gelu", size)
    with VisionEncoder(done.mmproj_path, n_threads=1, precision="float") as encoder:
        ours = encoder.encode(pixels(image(size)))
    theirs = stock_llama.image_embeddings(rotated.model_path, rotated.mmproj_path, image(size))
    assert relative_error(theirs[:-1], ours[1:].astype(np.float64)) < 2e-3  # observed at most 5.7e-4


@pytest.mark.parametrize("projector", ["ldpnet", "ldpnetv2"])
def test_libmtmd_agrees_with_our_mobile_projectors(tmp_path: Path, projector: str) -> None:
    """The same rows (patches 1 to n - 1, class) go through our projector."""
    done, rotated = converted_and_rotated(tmp_path, projector, GRID_24)
    tensors = {name: values.astype(np.float64) for name, values in tensors_of(projector, GRID_24).items()}
    hidden = clip_hidden(tensors, GRID_24, pixels(image(GRID_24)).astype(np.float64), -2)
    with VisionEncoder(done.mmproj_path, n_threads=1, precision="float") as encoder:
        ours = encoder.project(np.roll(hidden, -1, axis=0)[1:].astype(np.float32))
    theirs = stock_llama.image_embeddings(rotated.model_path, rotated.mmproj_path, image(GRID_24))
    assert relative_error(theirs, ours.astype(np.float64)) < 2e-3  # observed at most 5.1e-4


@pytest.mark.parametrize("projector", ["ldpnet", "ldpnetv2"])
@pytest.mark.parametrize("mmproj_outtype", ["f16", "bf16", "q8_0"])
def test_libmtmd_loads_and_encodes_mobile_projectors(tmp_path: Path, projector: str, mmproj_outtype: str) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", projector=projector, size=GRID_24)
    done = convert(source, tmp_path / "out", mmproj_outtype=mmproj_outtype)
    got = stock_llama.image_embeddings(done.model_path, done.mmproj_path, image(GRID_24))
    assert got.shape == (144, 256) and np.isfinite(got).all() and got.std() > 0.1
