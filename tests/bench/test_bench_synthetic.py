"""Random models: true shapes, the quantizer's own types, sane values, whole files or none."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import stock_llama
from click.testing import CliRunner
from gguf.quants import dequantize
from palo_cpp.convert import quantize
from palo_cpp.convert.families.palo.sizes import Projector
from palo_cpp.convert.families.palo.tensor_rows import text_specs, vision_specs
from palo_cpp.convert.file_types import FILE_TYPES

from palo_cpp.bench import synthetic
from palo_cpp.bench.cache_folder import cache_folder, cached_files
from palo_cpp.bench.palo_sizes import CLIP_L_336, PALO_MODELS, PaloSizes, vocabulary
from palo_cpp.bench.random_blocks import n_bytes, random_tensor
from palo_cpp.bench.synthetic import synthetic_mmproj, synthetic_text
from palo_cpp.cli import palo_cpp
from palo_cpp.errors import ArgumentError, PaloError
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.vision.encoder import VisionEncoder

# Rows of 256 for k-quants, layers enough for their mixtures; LDP at llama.cpp's fixed grid of 24 x 24 patches.
SMALL = PaloSizes(
    "small",
    replace(PALO_MODELS["7b"].text, n_embd=256, n_ff=256, n_layer=8, n_head=4, n_head_kv=4, head_dim=64, n_vocab=300),
    replace(CLIP_L_336, n_embd=32, n_ff=64, n_layer=2, n_head=2, select_layer=1),
    Projector("ldpnet", "ldp", 0, 32, 256),
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    monkeypatch.setenv("PALO_CPP_CACHE", str(folder))
    return folder


def types_of(path):
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


# --- shapes


@pytest.mark.parametrize(
    ("name", "n_parameters", "n_image_tokens"),
    # The published counts of MobileLLaMA-1.4B, LLaMA-7B and LLaMA-13B.
    [("mobile", 1_364_297_728, 144), ("7b", 6_738_415_616, 576), ("13b", 13_015_864_320, 576)],
)
def test_the_published_models_have_their_true_sizes(name, n_parameters, n_image_tokens):
    sizes = PALO_MODELS[name]
    assert sum(math.prod(spec.shape) for spec in text_specs(sizes.text)) == n_parameters
    assert sizes.n_image_tokens == n_image_tokens
    assert sizes.projector.n_out == sizes.text.n_embd
    # CLIP's vision model of ViT-L/14-336 has 303,507,456 parameters; its last layer and post-LayerNorm never run.
    n_layer = 12 * 1024**2 + 13 * 1024
    assert sum(math.prod(spec.shape) for spec in vision_specs(sizes.vision)) == 303_507_456 - n_layer - 2 * 1024


# --- values


@pytest.mark.parametrize(
    "type_name", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
)
def test_values_have_the_spread_asked_for_and_no_mean(type_name):
    data = random_tensor("a", (256, 1024), type_name, std=0.02)
    assert data.nbytes == n_bytes((256, 1024), type_name)
    values = dequantize(data, gguf.GGMLQuantizationType[type_name]).reshape(-1).astype(np.float64)
    assert values.size == 256 * 1024
    assert np.isfinite(values).all()
    assert values.std() == pytest.approx(0.02, rel=0.05)  # observed: within 2.5 %
    assert abs(values.mean()) < 0.0005  # observed: below 0.00015
    assert np.abs(values).max() < 0.2


def test_a_seed_makes_the_same_bytes_and_another_one_others():
    def draw(name="a", seed=0):
        return random_tensor(name, (4, 256), "Q4_K", std=1.0, seed=seed).tobytes()

    assert draw() == draw()
    assert len({draw(), draw(seed=1), draw(name="b")}) == 3


def test_a_mean_moves_floats():
    values = random_tensor("norm", (4096,), "F32", std=0.1, mean=1.0).view(np.float32)
    assert values.mean() == pytest.approx(1.0, abs=0.01)


# --- files


@pytest.mark.parametrize("outtype", ["q4_0", "q4_1", "q4_k_s", "q4_k_m", "q5_0", "q5_k_s", "q5_k_m", "q6_k", "q8_0"])
def test_types_are_those_of_llama_cpps_quantizer(outtype, tmp_path):
    quantized = quantize(synthetic_text(SMALL, "f32"), tmp_path / "quantized.gguf", outtype)
    ours = synthetic_text(SMALL, outtype)
    assert types_of(ours) == types_of(quantized)
    key = "general.file_type"
    assert read_header(ours).metadata[key] == read_header(quantized).metadata[key] == FILE_TYPES[outtype][0]


@pytest.mark.parametrize("outtype", ["q4_k_m", "bf16"])
def test_stock_llama_cpp_runs_the_decoder_and_its_logits_are_finite(outtype):
    logits = stock_llama.logits(synthetic_text(SMALL, outtype), [1, 270, 280, 290])
    assert np.isfinite(logits).all() and logits.std() > 0.01


@pytest.mark.parametrize("outtype", ["f32", "f16", "q8_0"])
def test_both_encoders_load_the_tower_and_agree(outtype):
    text, mmproj = synthetic_text(SMALL, "f16"), synthetic_mmproj(SMALL, outtype)
    # llama.cpp at our pin shifts the positions by one (see test_convert_llama.py), which an even image hides.
    image = np.full((336, 336, 3), 100, np.uint8)
    with VisionEncoder(mmproj, n_threads=1) as encoder:
        mean, std = np.asarray(encoder.info.image_mean), np.asarray(encoder.info.image_std)
        ours = encoder.encode(((image / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32))
    theirs = stock_llama.image_embeddings(text, mmproj, image)
    assert ours.shape == theirs.shape == (144, 256)
    assert np.isfinite(ours).all() and ours.std() > 0.01
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert np.median(cosines) > 0.999  # observed: 0.9998 and more


def test_nobody_takes_a_random_model_for_a_real_one():
    for path in (synthetic_text(SMALL, "q8_0", seed=7), synthetic_mmproj(SMALL, "f16", seed=7)):
        metadata = read_header(path).metadata
        assert metadata["general.name"] == "synthetic small (random weights, seed 7)"
        assert metadata["palo.synthetic"] is True
        assert "synthetic-small-seed7-" in path.name


def test_both_files_carry_one_pair_id():
    text, mmproj = read_header(synthetic_text(SMALL, "q8_0")), read_header(synthetic_mmproj(SMALL, "f16"))
    assert text.pair_id == mmproj.pair_id is not None


def test_a_seed_makes_the_same_file(tmp_path, monkeypatch):
    first = synthetic_text(SMALL, "q4_0").read_bytes()
    monkeypatch.setenv("PALO_CPP_CACHE", str(tmp_path / "another"))
    assert synthetic_text(SMALL, "q4_0").read_bytes() == first


def test_a_file_that_is_there_is_taken():
    path = synthetic_text(SMALL, "q4_0")
    before = path.stat().st_mtime_ns
    said = []
    assert synthetic_text(SMALL, "Q4_0", report=said.append) == path
    assert path.stat().st_mtime_ns == before and said == []


def test_a_stub_is_small_and_as_wide():
    text = read_header(synthetic_text(PALO_MODELS["13b"], "q8_0", is_stub=True))
    assert text.metadata["llama.embedding_length"] == 5120
    assert text.size_bytes < 150e6


def test_the_vocabulary_is_whole_and_has_no_doubles():
    table = vocabulary(32000)
    tokens, types = table.tokens, table.types
    assert len(set(tokens)) == len(tokens) == len(types) == 32000
    assert tokens[:4] == [b"<unk>", b"<s>", b"</s>", b"<0x00>"]
    assert all(token.decode() for token in tokens)


def test_any_text_can_be_tokenized():
    with LanguageModel(synthetic_text(SMALL, "q8_0"), n_ctx=64, n_threads=1) as model:
        for text in ("hello there", "इस तस्वीर में क्या है?", "🙂"):
            tokens = model.tokenize(text)
            assert b"".join(map(model.token_bytes, tokens)).decode().strip() == text


# --- the cache


def test_the_cache_is_where_the_user_says(cache, monkeypatch, tmp_path):
    assert cache_folder() == cache
    monkeypatch.delenv("PALO_CPP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "xdg" / "palo_cpp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "palo_cpp"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "palo_cpp"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "palo_cpp" / "Cache"


def test_an_interrupted_run_leaves_nothing(cache, monkeypatch):
    calls = []

    def draw(name, *arguments, **options):
        calls.append(name)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return random_tensor(name, *arguments, **options)

    monkeypatch.setattr(synthetic, "random_tensor", draw)
    with pytest.raises(KeyboardInterrupt):
        synthetic_text(SMALL, "q4_0")
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_said_before_anything_is_written(monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(PaloError, match=r"of free space, got 0\.0 GiB"):
        synthetic_text(SMALL, "q4_0")
    assert cached_files() == []


@pytest.mark.parametrize(("make", "outtype"), [(synthetic_text, "q2_k"), (synthetic_mmproj, "q4_0")])
def test_unknown_types_are_refused(make, outtype):
    with pytest.raises(ArgumentError, match="outtype: expected one of"):
        make(SMALL, outtype)
    assert cached_files() == []


def test_progress_tells_sizes():
    said = []
    synthetic_text(SMALL, "q4_0", report=said.append)
    assert said[0].startswith("writing synthetic-small-Q4_0.gguf (") and "MiB)" in said[0]
    assert "100 %" in said[-1]
    assert len(set(said)) == len(said), "a log repeats nothing"


def test_removal_lists_and_removes_random_models_alone(cache):
    paths = {str(synthetic_text(SMALL, "q4_0")), str(synthetic_mmproj(SMALL, "f16"))}
    partial = Path(next(iter(paths))).with_name(".left-over.partial-1234")
    partial.write_bytes(b"x")
    other = cache / "images" / "kept"
    other.parent.mkdir()
    other.write_bytes(b"kept")
    result = CliRunner().invoke(palo_cpp, ["bench", "--remove-synthetic", "--json"])
    assert result.exit_code == 0, result.output
    removed = json.loads(result.stdout)["removed"]
    assert {entry["path"] for entry in removed} == {*paths, str(partial)}
    assert all(entry["n_bytes"] > 0 for entry in removed)
    assert [path for path in cache.rglob("*") if path.is_file()] == [other]
    assert not (cache / "synthetic").exists()


def test_removal_of_one_model_keeps_the_others():
    kept = synthetic_mmproj(replace(SMALL, name="other"), "f16")
    gone = synthetic_mmproj(SMALL, "f16")
    result = CliRunner().invoke(palo_cpp, ["bench", "small", "--remove-synthetic"])
    assert result.exit_code == 0 and f"removed {gone} (" in result.stdout and "1 files" in result.stdout
    assert kept.is_file() and not gone.exists()


def test_removal_of_nothing_is_no_error():
    result = CliRunner().invoke(palo_cpp, ["bench", "--remove-synthetic"])
    assert result.exit_code == 0 and result.stdout == "0 files, 0 bytes\n"
