"""VisCPM's eye, BEiT-3 with queries and a mapping: PyTorch goldens, numpy float64, int8, outliers, hostile files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beit3_files import Beit3Model, NumpyBeit3, write_beit3
from beit3_goldens import BEIT3_CASES, Beit3Golden, read_beit3_golden
from mmproj_files import Mmproj, write_mmproj

from palo_cpp import _core
from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.vision.encoder import Precision, VisionEncoder

FLOAT_TOLERANCE = 1e-5  # relative, at every stage; observed 7.5e-7; the issue asks for 1e-4
INT8_TOLERANCE = 0.06  # observed 0.041
SMALLEST_COSINE = 0.999  # of an image embedding; observed 0.99936


def largest_error(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def smallest_cosine(got: np.ndarray, expected: np.ndarray) -> float:
    """Of the rows, in float64."""
    a, b = got.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / norms).min())


def errors_of_stages(encoder: VisionEncoder, golden: Beit3Golden) -> dict[str, float]:
    (pixels,) = golden.model.pixels()
    streams = golden.residual_streams[: golden.model.n_layer]
    stages = {f"after {i}": (encoder.residual_stream(pixels, i), stream) for i, stream in enumerate(streams)} | {
        "patches": (encoder.patch_embeddings(pixels), golden.patch_embeddings),
        "after the last norm": (encoder.hidden_states(pixels), golden.hidden_states),
        "mapping": (encoder.project(golden.hidden_states), golden.image_embeddings),
        "all": (encoder.encode(pixels), golden.image_embeddings),
    }
    return {name: largest_error(*both) for name, both in stages.items()}


@pytest.mark.parametrize("weights", ("f32", "f16"))
@pytest.mark.parametrize("case", BEIT3_CASES)
def test_every_stage_equals_pytorch(tmp_path: Path, case: str, weights: str) -> None:
    """f16 has no tolerance of its own: the goldens' weights are exact in it."""
    golden = read_beit3_golden(case)
    path = write_beit3(tmp_path / "mmproj.gguf", golden.model, weights=weights)
    with VisionEncoder(path, precision="float", n_threads=2) as encoder:
        errors = errors_of_stages(encoder, golden)
    assert max(errors.values()) < FLOAT_TOLERANCE, errors


@pytest.mark.parametrize("case", BEIT3_CASES)
def test_every_stage_in_int8(tmp_path: Path, case: str) -> None:
    golden = read_beit3_golden(case)
    (pixels,) = golden.model.pixels()
    with VisionEncoder(write_beit3(tmp_path / "mmproj.gguf", golden.model), n_threads=2) as encoder:
        errors = errors_of_stages(encoder, golden)
        assert max(errors.values()) < INT8_TOLERANCE, errors
        assert smallest_cosine(encoder.encode(pixels), golden.image_embeddings) > SMALLEST_COSINE


@pytest.mark.parametrize("case", BEIT3_CASES)
def test_numpy_agrees_with_pytorch(case: str) -> None:
    """Written apart from each other, so that one misreading of the specification cannot be in both."""
    golden = read_beit3_golden(case)
    (pixels,), model = golden.model.pixels(), NumpyBeit3(golden.model)
    for stream, expected in zip(model.residual_streams(pixels), golden.residual_streams, strict=True):
        assert np.abs(stream - expected).max() / np.abs(expected).max() < 2e-6  # observed 6e-7
    assert np.abs(model.encode(pixels) - golden.image_embeddings).max() < 2e-6 * np.abs(golden.image_embeddings).max()


@pytest.mark.parametrize("weights", ("f16", "bf16", "q8_0", "q4_0"))
def test_weight_types(tmp_path: Path, weights: str) -> None:
    model = Beit3Model(n_query=5)
    path = write_beit3(tmp_path / "mmproj.gguf", model, weights=weights)
    (pixels,), expected = model.pixels(), NumpyBeit3(model).encode(model.pixels()[0])
    with VisionEncoder(path, precision="float") as encoder:
        assert largest_error(encoder.encode(pixels), expected) < FLOAT_TOLERANCE
    with VisionEncoder(path) as encoder:
        assert smallest_cosine(encoder.encode(pixels), expected) > SMALLEST_COSINE


def test_unusual_sizes(tmp_path: Path) -> None:
    model = Beit3Model(patch_size=3, grid=3, n_embd=21, n_head=3, n_ff=37, n_query=1, n_layer=1, n_out=13)
    path, (pixels,) = write_beit3(tmp_path / "mmproj.gguf", model), model.pixels()
    with VisionEncoder(path, precision="float") as encoder:
        assert largest_error(encoder.encode(pixels), NumpyBeit3(model).encode(pixels)) < FLOAT_TOLERANCE


@pytest.mark.parametrize("precision", ("int8", "float"))
def test_threads_and_batches_agree_bit_for_bit(tmp_path: Path, precision: Precision) -> None:
    model = Beit3Model(grid=7, n_query=9)
    path, pixels = write_beit3(tmp_path / "mmproj.gguf", model), model.pixels(5)
    pixels[2] *= 30  # an image with other outliers than the rest
    batch = VisionEncoder(path, n_threads=1, precision=precision).encode(pixels)
    for n_threads in (1, 2, 7):
        with VisionEncoder(path, n_threads=n_threads, precision=precision) as encoder:
            for image, expected in zip(pixels, batch, strict=True):
                np.testing.assert_array_equal(encoder.encode(image), expected)
            np.testing.assert_array_equal(encoder.project(encoder.hidden_states(pixels)), batch)
            streams = encoder.residual_stream(pixels, 2)
            np.testing.assert_array_equal(encoder.residual_stream(pixels[4], 2), streams[4])


@pytest.mark.parametrize("isa", _core.available_isas())
def test_every_instruction_set(tmp_path: Path, isa: str) -> None:
    """Each in a process of its own: int8 gives products of equal bits, and what is between them differs by rounding."""
    model = Beit3Model(n_layer=2)
    path = write_beit3(tmp_path / "mmproj.gguf", model)
    program = f"""
import sys
import numpy as np
from palo_cpp.vision.encoder import VisionEncoder

pixels = np.load({str(tmp_path / "pixels.npy")!r})
for precision in ("float", "int8"):
    with VisionEncoder({str(path)!r}, precision=precision) as encoder:
        assert encoder.isa == {isa!r}
        np.save({str(tmp_path)!r} + "/" + precision, encoder.encode(pixels))
"""
    (pixels,) = model.pixels()
    np.save(tmp_path / "pixels.npy", pixels)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, env=os.environ | {"PALO_CPP_ISA": isa})
    expected = NumpyBeit3(model).encode(pixels)
    assert largest_error(np.load(tmp_path / "float.npy"), expected) < FLOAT_TOLERANCE
    assert smallest_cosine(np.load(tmp_path / "int8.npy"), expected) > SMALLEST_COSINE


# Outlier channels ----------------------------------------------------------------------------------------------------

OUTLIERS = [3, 100, 101, 333]  # two of them share a group of 64
Change = Callable[[Beit3Model], None]


def _wide_model() -> Beit3Model:
    return Beit3Model(grid=8, n_embd=512, n_head=8, n_ff=1024, n_layer=4, n_query=16, n_out=512)


def _unchanged(_model: Beit3Model) -> None:
    pass


def _large_in_the_residual_stream(model: Beit3Model) -> None:
    model.tensors["v.query"][:, OUTLIERS] *= 50
    model.tensors["v.pos"][:, OUTLIERS] *= 50


def _large_and_constant_in_the_residual_stream(model: Beit3Model) -> None:
    for side in "ab":
        model.tensors[f"v.blk.0.{side}.ffn_down.bias"][OUTLIERS] += 50


def _large_after_the_norms(model: Beit3Model) -> None:
    """The weights after them take it back, so that the model stays what it was."""
    layers = {"ln1": ("attn_q", "attn_k", "attn_v"), "attn_ln": ("attn_out",), "ln2": ("ffn_up",)}
    for i in range(model.n_layer):
        for norm, after in (layers | {"ffn_ln": ("ffn_down",)}).items():
            for side in "ab":
                for part in ("weight", "bias"):
                    model.tensors[f"v.blk.{i}.{side}.{norm}.{part}"][OUTLIERS] *= 50
                for layer in after:
                    model.tensors[f"v.blk.{i}.{side}.{layer}.weight"][:, OUTLIERS] /= 50


def _larger_than_all_else_after_the_inner_norms(model: Beit3Model) -> None:
    for i in range(model.n_layer):
        for side in "ab":
            for norm in ("attn_ln", "ffn_ln"):
                model.tensors[f"v.blk.{i}.{side}.{norm}.weight"][OUTLIERS] *= 50


def _large_before_the_mapping(model: Beit3Model) -> None:
    model.tensors["v.post_ln.b.weight"][OUTLIERS] *= 50


def _keys_with_biases(model: Beit3Model) -> None:
    """What both sets' keys have in common may not cost the scores their resolution."""
    for i in range(model.n_layer):
        for side in "ab":
            model.tensors[f"v.blk.{i}.{side}.attn_k.bias"] += 20


CASES: tuple[tuple[Change, float], ...] = (
    (_unchanged, 0.99961),
    (_large_in_the_residual_stream, 0.99973),
    (_large_and_constant_in_the_residual_stream, 0.99987),
    (_large_after_the_norms, 0.99961),
    (_larger_than_all_else_after_the_inner_norms, 0.99972),
    (_large_before_the_mapping, 0.99970),
    (_keys_with_biases, 0.99962),
)


@pytest.mark.parametrize(("change", "observed"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_outlier_channels_cost_nothing(tmp_path: Path, change: Change, observed: float) -> None:
    model = _wide_model()
    change(model)
    path, pixels = write_beit3(tmp_path / "mmproj.gguf", model, weights="f16"), model.pixels()
    with VisionEncoder(path, precision="float") as encoder:
        expected = encoder.encode(pixels)
    with VisionEncoder(path) as encoder:
        cosine = smallest_cosine(encoder.encode(pixels), expected)
    assert cosine > max(SMALLEST_COSINE, observed - 2e-4)


# What a file says ----------------------------------------------------------------------------------------------------


def test_info(tmp_path: Path) -> None:
    changes = {"general.name": "eye", "palo.pair_id": "abc"}
    with VisionEncoder(write_beit3(tmp_path / "mmproj.gguf", Beit3Model(), changes=changes)) as encoder:
        info = encoder.info
    assert (info.tower, info.image_size, info.patch_size, info.n_patches) == ("beit3", 16, 4, 16)
    assert (info.n_hidden, info.n_image_tokens, info.n_embd, info.n_embd_vision) == (8, 8, 160, 128)
    assert (info.n_layer, info.projector, info.preprocess) == (3, "mlp", "stretch")
    assert (info.image_mean, info.image_std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (info.pair_id, info.name) == ("abc", "eye")
    path = write_beit3(tmp_path / "plain.gguf", Beit3Model(), changes={"palo.image_preprocess": None})
    with VisionEncoder(path) as encoder:
        assert encoder.info.preprocess == "stretch"
    with VisionEncoder(write_mmproj(tmp_path / "clip.gguf", Mmproj())) as encoder:
        assert (encoder.info.tower, encoder.info.n_hidden) == ("clip", 16)


def test_the_mapping_alone(tmp_path: Path) -> None:
    golden = read_beit3_golden("heads_of_64")
    path = write_beit3(tmp_path / "mmproj.gguf", golden.model)
    with VisionEncoder(path, precision="float", with_tower=False) as encoder:
        assert largest_error(encoder.project(golden.hidden_states), golden.image_embeddings) < FLOAT_TOLERANCE


def test_the_last_layer_needs_only_keys_and_values_of_image_tokens(tmp_path: Path) -> None:
    model = Beit3Model()
    whole = VisionEncoder(write_beit3(tmp_path / "whole.gguf", model)).encode(model.pixels()[0])
    for part in ("attn_q", "attn_out", "attn_ln", "ln2", "ffn_up", "ffn_ln", "ffn_down"):
        for kind in ("weight", "bias"):
            del model.tensors[f"v.blk.2.a.{part}.{kind}"]
    with VisionEncoder(write_beit3(tmp_path / "less.gguf", model)) as encoder:
        np.testing.assert_array_equal(encoder.encode(model.pixels()[0]), whole)


def test_residual_stream_of_clip_ends_in_its_hidden_states(tmp_path: Path) -> None:
    short, (pixels,) = Mmproj(n_layer=1, projector="identity"), Mmproj().pixels()
    whole = Mmproj(n_layer=2, projector="identity")
    whole.tensors |= {name: values for name, values in short.tensors.items() if name in whole.tensors}
    with VisionEncoder(write_mmproj(tmp_path / "whole.gguf", whole), precision="float") as encoder:
        stream = encoder.residual_stream(pixels, 1)
        for n_run in (-1, 2):
            with pytest.raises(ArgumentError, match=f"n_run: expected 0 to 1, got {n_run}"):
                encoder.residual_stream(pixels, n_run)
    with VisionEncoder(write_mmproj(tmp_path / "short.gguf", short), precision="float") as encoder:
        np.testing.assert_array_equal(stream[1:], encoder.hidden_states(pixels))


BAD_METADATA: tuple[tuple[str, Any, str], ...] = (
    ("general.architecture", "cpmbee", "general.architecture: expected clip or beit3 .*, got 'cpmbee'"),
    ("beit3.image_size", 0, "beit3.image_size: expected 1 to 16384, got 0"),
    ("beit3.image_size", 17, "beit3.image_size: expected a multiple of patch_size 4, got 17"),
    ("beit3.image_size", 20, r"v.pos: expected shape \[25, 128\], got \[16, 128\]"),
    ("beit3.image_size", None, "beit3.image_size: expected in the metadata, got no such key"),
    ("beit3.patch_size", 8, r"v.patch.weight: expected shape \[128, 192\]"),
    ("beit3.embedding_length", 2**31, "beit3.embedding_length: expected 1 to 65536"),
    ("beit3.attention.head_count", 3, "beit3.embedding_length: expected a multiple of head_count 3, got 128"),
    ("beit3.feed_forward_length", 255, r"v.blk.0.a.ffn_ln.weight: expected shape \[255\]"),
    ("beit3.block_count", 4, "without v.blk.3.a.ln1.weight, .* more; convert"),
    ("beit3.block_count", "3", "beit3.block_count: expected a whole number, got '3'"),
    ("beit3.query_count", 0, "beit3.query_count: expected 1 to 4096, got 0"),
    ("beit3.query_count", 2**32 - 1, "beit3.query_count: expected 1 to 4096"),
    ("beit3.query_count", 9, r"v.query: expected shape \[9, 128\], got \[8, 128\]"),
    ("beit3.attention.layer_norm_epsilon", float("nan"), "beit3.attention.layer_norm_epsilon: expected a number above"),
    ("beit3.image_mean", [0.5], "beit3.image_mean: expected three numbers"),
    ("beit3.image_std", [0.5, 0.0, 0.5], "beit3.image_std: expected finite numbers above 0"),
    ("palo.image_preprocess", "squeeze", "palo.image_preprocess: expected pad, crop or stretch, got 'squeeze'"),
)


@pytest.mark.parametrize(("key", "value", "message"), BAD_METADATA)
def test_bad_metadata(tmp_path: Path, key: str, value: Any, message: str) -> None:
    path = write_beit3(tmp_path / "mmproj.gguf", Beit3Model(), changes={key: value})
    with pytest.raises(ModelFormatError, match=message) as caught:
        VisionEncoder(path)
    assert str(caught.value).startswith("mmproj.gguf: ")
    assert "\n" not in str(caught.value)


BAD_TENSORS: tuple[tuple[str, Any, str], ...] = (
    ("v.cls", None, "without v.cls; convert"),
    ("v.blk.2.b.ffn_ln.bias", None, "without v.blk.2.b.ffn_ln.bias; convert"),
    ("mm.2.weight", None, "without mm.2.weight; convert"),
    ("v.query", np.ones((8, 127), np.float32), r"v.query: expected shape \[8, 128\]"),
    ("v.blk.1.a.attn_out.weight", np.ones((128, 129), np.float32), r"expected shape \[128, 128\]"),
    ("v.blk.0.b.ffn_down.weight", np.ones((256, 128), np.float32), r"expected shape \[128, 256\]"),
    ("v.blk.0.b.attn_ln.weight", np.full(128, np.nan, np.float32), "expected finite weights, got NaN"),
    ("v.patch.bias", np.full(128, np.inf, np.float32), "expected finite weights, got NaN or infinity"),
    ("v.post_ln.b.bias", np.ones(128, np.int32), "expected type f32, f16, bf16, q8_0 or q4_0, got ggml type 26"),
)


@pytest.mark.parametrize(("name", "values", "message"), BAD_TENSORS)
def test_bad_tensors(tmp_path: Path, name: str, values: np.ndarray | None, message: str) -> None:
    model = Beit3Model()
    del model.tensors[name]
    if values is not None:
        model.tensors[name] = values
    with pytest.raises(ModelFormatError, match=message) as caught:
        VisionEncoder(write_beit3(tmp_path / "mmproj.gguf", model))
    assert str(caught.value).startswith("mmproj.gguf: ")
    assert "\n" not in str(caught.value)


def test_a_cut_or_flipped_file_is_an_error_or_works(tmp_path: Path) -> None:
    whole = write_beit3(tmp_path / "mmproj.gguf", Beit3Model(n_layer=1), weights="f16").read_bytes()
    random = np.random.default_rng(0)
    for i in range(60):
        data = bytearray(whole)
        place = int(random.integers(4000 if i % 3 == 1 else len(data)))
        if i % 3 == 0:
            del data[place:]
        else:
            data[place] ^= 1 << int(random.integers(8))
        path = tmp_path / "damaged.gguf"
        path.write_bytes(data)
        try:
            with VisionEncoder(path) as encoder:
                shape = (3, encoder.info.image_size, encoder.info.image_size)
                assert encoder.encode(np.zeros(shape, np.float32)).ndim == 2
        except ModelFormatError as error:
            assert "\n" not in str(error)
