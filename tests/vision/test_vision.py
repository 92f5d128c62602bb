"""The C++ vision encoder against the same model in numpy float64: projectors, grids, weight types, old files."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmproj_files import Mmproj, NumpyModel, write_mmproj

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError, PaloError
from palo_cpp.vision.encoder import Precision, VisionEncoder

PROJECTORS = ("identity", "linear", "mlp", "mlp3x_gelu", "ldp", "ldpv2")


def largest_error(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    return float(np.abs(got - expected).max() / np.abs(expected).max())


# Over all cases and stages here.
TOLERANCE_INT8 = 0.05  # observed 0.040
SMALLEST_COSINE_INT8 = 0.999  # observed 0.99911


def smallest_cosine(got: np.ndarray, expected: np.ndarray) -> float:
    """Of the rows, in float64."""
    a, b = got.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / norms).min())


def check(path: Path, model: Mmproj) -> None:
    """Each stage alone on one image, then all of it, in both precisions."""
    (pixels,), reference = model.pixels(), NumpyModel(model)
    with VisionEncoder(path, n_threads=2, precision="float") as encoder:
        hidden = encoder.hidden_states(pixels)
        assert largest_error(encoder.patch_embeddings(pixels), reference.patch_embeddings(pixels)) < 2e-6
        assert largest_error(hidden, reference.hidden_states(pixels)) < 2e-6
        assert largest_error(encoder.project(hidden), reference.project(hidden)) < 2e-6
        assert largest_error(encoder.encode(pixels), reference.encode(pixels)) < 4e-6
    with VisionEncoder(path, n_threads=2) as encoder:
        assert encoder.precision == "int8"
        for stage, values in (("patch_embeddings", pixels), ("hidden_states", pixels), ("project", hidden)):
            got, expected = getattr(encoder, stage)(values), getattr(reference, stage)(values)
            assert largest_error(got, expected) < TOLERANCE_INT8, stage
        got, expected = encoder.encode(pixels), reference.encode(pixels)
        assert largest_error(got, expected) < TOLERANCE_INT8
        assert smallest_cosine(got, expected) > SMALLEST_COSINE_INT8


@pytest.mark.parametrize("grid", (2, 4, 5, 9))
@pytest.mark.parametrize("projector", PROJECTORS)
def test_stages(tmp_path: Path, projector: str, grid: int) -> None:
    model = Mmproj(projector=projector, grid=grid)
    path = write_mmproj(tmp_path / "mmproj.gguf", model)
    check(path, model)
    with VisionEncoder(path) as encoder:
        side = {"ldp": (grid + 1) // 2, "ldpv2": grid // 2}.get(projector, grid)
        assert encoder.info.n_image_tokens == side**2
        assert encoder.info.projector == ("mlp" if projector.startswith("mlp") else projector)
        assert encoder.encode(model.pixels()[0]).shape == (encoder.info.n_image_tokens, encoder.info.n_embd)


@pytest.mark.parametrize("weights", ("f32", "f16", "bf16", "q8_0", "q4_0"))
def test_weight_types(tmp_path: Path, weights: str) -> None:
    model = Mmproj(projector="ldp", n_ff=128)
    check(write_mmproj(tmp_path / "mmproj.gguf", model, weights=weights), model)


def test_unusual_sizes(tmp_path: Path) -> None:
    model = Mmproj(patch_size=3, grid=3, n_embd=21, n_head=3, n_ff=37, n_out=13, n_squeezed=1, eps=1e-3, use_gelu=True)
    check(write_mmproj(tmp_path / "mmproj.gguf", model), model)


@pytest.mark.parametrize("precision", ("int8", "float"))
def test_threads_and_batches_agree_bit_for_bit(tmp_path: Path, precision: Precision) -> None:
    model = Mmproj(grid=9)
    # Five images: more than go through the tower together.
    path, pixels = write_mmproj(tmp_path / "mmproj.gguf", model), model.pixels(5)
    batch = VisionEncoder(path, n_threads=1, precision=precision).encode(pixels)
    assert batch.shape[0] == 5
    for n_threads in (1, 2, 7):
        with VisionEncoder(path, n_threads=n_threads, precision=precision) as encoder:
            assert encoder.n_threads == n_threads
            for image, expected in zip(pixels, batch, strict=True):
                np.testing.assert_array_equal(encoder.encode(image), expected)
            hidden = encoder.hidden_states(pixels)
            np.testing.assert_array_equal(encoder.hidden_states(pixels[4]), hidden[4])
            np.testing.assert_array_equal(encoder.project(hidden), batch)
    with VisionEncoder(path) as encoder:
        assert encoder.encode(pixels[:0]).shape == (0, *batch.shape[1:])


def test_several_python_threads_share_an_encoder(tmp_path: Path) -> None:
    model = Mmproj(n_layer=1)
    encoder = VisionEncoder(write_mmproj(tmp_path / "mmproj.gguf", model), n_threads=2)
    pixels, results = model.pixels(4), [np.zeros(0)] * 4
    expected = encoder.encode(pixels)

    def encode(i: int) -> None:
        for _ in range(5):
            results[i] = encoder.encode(pixels[i])

    threads = [threading.Thread(target=encode, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.stack(results), expected)


def test_ffn_names_swapped_as_in_files_of_2023(tmp_path: Path) -> None:
    model = Mmproj(projector="mlp")
    names = dict(model.tensors)
    for name in names:
        if "ffn_up" in name:
            other = name.replace("ffn_up", "ffn_down")
            model.tensors[name], model.tensors[other] = names[other], names[name]
    # Those files do not name the kind of projector either, and count the layers that the converter kept.
    changes = {"clip.projector_type": None, "clip.has_llava_projector": True, "clip.vision.feature_layer": None}
    path = write_mmproj(tmp_path / "mmproj.gguf", model, changes=changes)
    model.tensors = names
    check(path, model)


def test_square_ffn_follows_the_writer(tmp_path: Path) -> None:
    model = Mmproj(n_ff=64, projector="identity")
    ours = write_mmproj(tmp_path / "ours.gguf", model, changes={"palo.version": "0.1.0"})
    check(ours, model)
    (pixels,) = model.pixels()
    old = VisionEncoder(write_mmproj(tmp_path / "old.gguf", model)).encode(pixels)
    assert largest_error(old, NumpyModel(model).encode(pixels)) > 1e-2


LAYERS = (
    # (block_count, feature_layer, has post_ln) -> layers that run, of a file that holds 3
    (3, [2], False, 2),
    (3, [3], True, 3),
    (3, 1, False, 1),
    (3, None, False, 3),  # last layer dropped by the converter
    (3, None, True, 2),  # the whole tower
    (4, None, False, 3),  # block_count counts the layer that was dropped
)


@pytest.mark.parametrize(("block_count", "feature_layer", "has_post_ln", "n_layer"), LAYERS)
def test_select_layer(tmp_path: Path, block_count: int, feature_layer: Any, has_post_ln: bool, n_layer: int) -> None:
    model = Mmproj(n_layer=3, projector="identity")
    if has_post_ln:
        model.tensors["v.post_ln.weight"] = model.tensors["v.pre_ln.weight"]
    changes = {"clip.vision.block_count": block_count, "clip.vision.feature_layer": feature_layer}
    path = write_mmproj(tmp_path / "mmproj.gguf", model, changes=changes)
    model.n_layer = n_layer
    check(path, model)


def test_info(tmp_path: Path) -> None:
    changes = {"general.name": "PALO-tiny", "palo.pair_id": "abc", "palo.image_preprocess": "crop"}
    with VisionEncoder(write_mmproj(tmp_path / "mmproj.gguf", Mmproj(grid=5), changes=changes)) as encoder:
        info = encoder.info
    assert (info.image_size, info.patch_size, info.n_patches, info.n_image_tokens) == (20, 4, 25, 9)
    assert (info.n_embd, info.n_embd_vision, info.n_layer, info.projector) == (96, 64, 2, "ldp")
    assert (info.preprocess, info.pair_id, info.name) == ("crop", "abc", "PALO-tiny")
    assert info.image_std == pytest.approx((0.27, 0.26, 0.28))
    with VisionEncoder(write_mmproj(tmp_path / "plain.gguf", Mmproj())) as encoder:
        assert (encoder.info.preprocess, encoder.info.pair_id, encoder.info.name) == ("pad", None, "plain")


BAD_METADATA: tuple[tuple[str, Any, str], ...] = (
    ("clip.vision.image_size", 0, "image_size: expected 1 to 16384, got 0"),
    ("clip.vision.image_size", 17, "expected a multiple of patch_size 4, got 17"),
    ("clip.vision.image_size", 20, r"v.position_embd.weight: expected shape \[26, 64\]"),
    ("clip.vision.image_size", 2**32 - 1, "image_size: expected 1 to 16384"),
    ("clip.vision.image_size", "16", "image_size: expected a whole number, got '16'"),
    ("clip.vision.image_size", True, "image_size: expected a whole number, got True"),
    ("clip.vision.image_size", None, "image_size: expected in the metadata, got no such key"),
    ("clip.vision.patch_size", 0, "patch_size: expected 1 to 16, got 0"),
    ("clip.vision.patch_size", 8, r"v.patch_embd.weight: expected shape \[64, 192\]"),
    ("clip.vision.embedding_length", 0, "embedding_length: expected 1 to 65536, got 0"),
    ("clip.vision.embedding_length", 128, r"v.patch_embd.weight: expected shape \[128, 48\]"),
    ("clip.vision.attention.head_count", 0, "head_count: expected 1 to 64, got 0"),
    ("clip.vision.attention.head_count", 5, "expected a multiple of head_count 5, got 64"),
    ("clip.vision.feed_forward_length", 2**31, "feed_forward_length: expected 1 to 65536"),
    ("clip.vision.feed_forward_length", 95, r"ffn_up.weight: expected shape \[95, 64\]"),
    ("clip.vision.attention.layer_norm_epsilon", float("nan"), "epsilon: expected a number above 0"),
    ("clip.vision.attention.layer_norm_epsilon", float("inf"), "epsilon: expected a number above 0"),
    ("clip.vision.attention.layer_norm_epsilon", 0.0, "epsilon: expected a number above 0"),
    ("clip.vision.attention.layer_norm_epsilon", -1e-5, "epsilon: expected a number above 0"),
    ("clip.vision.feature_layer", [3], "feature_layer: expected one of 0 to 2, got 3"),
    ("clip.vision.feature_layer", [-2], "feature_layer: expected one of 0 to 2"),
    ("clip.vision.feature_layer", [1, 2], "feature_layer: expected one of 0 to 2"),
    ("clip.vision.image_mean", [0.5, 0.5], "image_mean: expected three numbers"),
    ("clip.vision.image_std", [0.5, 0.0, 0.5], "image_std: expected finite numbers above 0"),
    ("clip.vision.image_std", [0.5, float("nan"), 0.5], "image_std: expected finite numbers above 0"),
    ("clip.use_gelu", "yes", "use_gelu: expected true or false"),
    ("clip.projector_type", "resampler", "projector_type: expected mlp, .* got 'resampler'"),
    ("clip.projector_type", None, "projector_type: expected mlp, .* got None"),
    ("clip.projector_type", "mlp", "without mm.0.weight, mm.0.bias, mm.2.weight, mm.2.bias; convert"),
    ("clip.has_vision_encoder", False, "has_vision_encoder: expected true"),
    ("palo.image_preprocess", "zoom", "image_preprocess: expected pad, crop or stretch, got 'zoom'"),
)


@pytest.mark.parametrize(("key", "value", "message"), BAD_METADATA)
def test_bad_metadata(tmp_path: Path, key: str, value: Any, message: str) -> None:
    changes = {key: value}
    if key == "clip.vision.feature_layer" and value == [3]:
        changes["clip.vision.block_count"] = 2
        message = r"feature_layer: expected one of 0 to 2, got \[3\]"
    path = write_mmproj(tmp_path / "mmproj.gguf", Mmproj(), changes=changes)
    with pytest.raises(ModelFormatError, match=message) as caught:
        VisionEncoder(path)
    assert str(caught.value).startswith("mmproj.gguf: ")
    assert "\n" not in str(caught.value)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    model = Mmproj()
    for name in ("v.blk.1.attn_q.bias", "mm.model.mb_block.2.block.0.1.weight", "v.class_embd"):
        del model.tensors[name]
    with pytest.raises(ModelFormatError) as caught:
        VisionEncoder(write_mmproj(tmp_path / "mmproj.gguf", model))
    for name in ("v.blk.1.attn_q.bias", "mm.model.mb_block.2.block.0.1.weight", "v.class_embd"):
        assert name in str(caught.value)


BAD_TENSORS: tuple[tuple[str, Any, str], ...] = (
    ("v.blk.0.ln1.weight", np.ones(63, np.float32), r"expected shape \[64\], got \[63\]"),
    ("v.blk.0.attn_q.weight", np.ones((64, 65), np.float32), r"expected shape \[64, 64\]"),
    (
        "v.blk.0.attn_q.weight",
        np.ones((64, 64), np.int32),
        "expected type f32, f16, bf16, q8_0 or q4_0, got ggml type 26",
    ),
    ("v.blk.0.attn_q.weight", np.full((64, 64), np.nan, np.float32), "expected finite weights, got NaN or infinity"),
    ("v.pre_ln.bias", np.full(64, np.inf, np.float16), "expected finite weights"),
    ("mm.model.mlp.1.bias", np.ones((2, 48), np.float32), "expected 1 dimensions, got"),
)


@pytest.mark.parametrize(("name", "values", "message"), BAD_TENSORS)
def test_bad_tensors(tmp_path: Path, name: str, values: np.ndarray, message: str) -> None:
    model = Mmproj()
    model.tensors[name] = values
    with pytest.raises(ModelFormatError, match=name + ".*" + message):
        VisionEncoder(write_mmproj(tmp_path / "mmproj.gguf", model))


def test_halves_are_read_exactly(tmp_path: Path) -> None:
    """Every exponent, subnormal numbers and both signs, through a patch convolution that picks single weights."""
    mantissas = np.array([0, 1, 2, 3, 511, 512, 1022, 1023], np.uint16)
    positive = (np.arange(31, dtype=np.uint16)[:, None] << 10 | mantissas).ravel()
    halves = np.resize(np.concatenate([positive, positive | 0x8000]).view(np.float16), (64, 3, 4, 4))
    model = Mmproj()
    model.tensors["v.patch_embd.weight"] = halves
    pixels = np.zeros((3, 3, 16, 16), np.float32)  # patch p of image c: a single one, at place p of channel c
    for p in range(16):
        pixels[np.arange(3), np.arange(3), p // 4 * 4 + p // 4, p % 4 * 4 + p % 4] = 1
    with VisionEncoder(write_mmproj(tmp_path / "mmproj.gguf", model), precision="float") as encoder:
        got = encoder.patch_embeddings(pixels).reshape(3, 4, 4, 64)
    expected = halves.astype(np.float32).transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(got, expected)


def test_convolutions_written_squeezed(tmp_path: Path) -> None:
    model = Mmproj()
    squeezed = {name: values.squeeze() for name, values in model.tensors.items() if ".0.0.weight" in name}
    for name in squeezed:
        model.tensors[name] = squeezed[name]
    check(write_mmproj(tmp_path / "mmproj.gguf", model), model)


def test_wrong_arguments(tmp_path: Path) -> None:
    path = write_mmproj(tmp_path / "mmproj.gguf", Mmproj())
    with pytest.raises(ModelNotFoundError, match="no file there"):
        VisionEncoder(tmp_path / "other.gguf")
    with pytest.raises(ModelNotFoundError):
        VisionEncoder(tmp_path)
    for n_threads in (-1, 513):
        with pytest.raises(ArgumentError, match=f"n_threads: expected 1 to 512, got {n_threads}"):
            VisionEncoder(path, n_threads=n_threads)
    with VisionEncoder(path) as encoder:
        for shape in ((3, 16, 15), (16, 16, 3), (1, 1, 3, 16, 16), (16,)):
            with pytest.raises(ArgumentError, match=r"encode: expected shape \[3, 16, 16\] or \[n, ...\], got"):
                encoder.encode(np.zeros(shape, np.float32))
        with pytest.raises(ArgumentError, match="project: expected shape"):
            encoder.project(np.zeros((15, 64), np.float32))
    with pytest.raises(PaloError, match="closed"):
        encoder.encode(np.zeros((3, 16, 16), np.float32))


def test_isa_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mmproj(tmp_path / "mmproj.gguf", Mmproj())
    monkeypatch.setenv("PALO_CPP_ISA", "ref")
    assert VisionEncoder(path).isa == "ref"
    monkeypatch.setenv("PALO_CPP_ISA", "abacus")
    with pytest.raises(ArgumentError, match="PALO_CPP_ISA: expected one of"):
        VisionEncoder(path)


def test_forked_child_computes(tmp_path: Path) -> None:
    """A forked child has none of the pool's threads: it must neither hang nor crash."""
    path = write_mmproj(tmp_path / "mmproj.gguf", Mmproj(n_layer=1))
    program = f"""
import os, sys
import numpy as np
from palo_cpp.vision.encoder import Precision, VisionEncoder
encoder = VisionEncoder({str(path)!r}, n_threads=2)
pixels = np.ones((3, 16, 16), np.float32)
expected = encoder.encode(pixels)
child = os.fork()
if child == 0:
    same = np.array_equal(encoder.encode(pixels), expected)
    encoder.close()
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_core_brings_the_one_ggml() -> None:
    """The core needs no llama_cpp imported first, and afterwards there is still one ggml in the process."""
    program = """
import pathlib
import palo_cpp._core
import llama_cpp
maps = pathlib.Path("/proc/self/maps")
if maps.exists():
    files = {line.split()[-1] for line in maps.read_text().splitlines() if "libggml-base" in line}
    assert len(files) == 1, files
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_the_compiled_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "palo_cpp._core", None)
    monkeypatch.delattr(sys.modules["palo_cpp"], "_core", raising=False)
    with pytest.raises(PaloError, match=r"install the package with `pip install .`"):
        VisionEncoder(tmp_path / "mmproj.gguf")
