"""VisCPM-Chat converted: the files run in numpy and give the reference's numbers; every tensor, key and refusal."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from gguf.quants import dequantize
from palo_cpp.convert import convert, quantize
from palo_cpp.convert.families.viscpm.mixtures import TYPES, has_more_bits
from viscpm_checkpoint import (
    TINY,
    WIDE,
    cpm_bee_tensors,
    viscpm_tensors,
    vocabulary,
    write_viscpm_checkpoint,
    write_vocabulary,
)
from viscpm_goldens import STAGE_PROMPTS, read_stages
from viscpm_numpy import NumpyBee, numpy_beit3, read_gguf

from palo_cpp import ArgumentError, ModelFormatError, ModelNotFoundError
from palo_cpp.families.viscpm.protocol import prompt_segments, request_cells
from palo_cpp.families.viscpm.tokenizer import BeeTokenizer
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.segments import ImageSegment, Turn

PICTURE = ImageSegment("a picture", TINY.n_queries)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_viscpm_checkpoint(tmp_path_factory.mktemp("checkpoint") / "VisCPM-Chat")


@pytest.fixture(scope="module")
def exact(checkpoint, tmp_path_factory):
    """Both files in float32: nothing is rounded but by arithmetic."""
    return convert(checkpoint, tmp_path_factory.mktemp("exact"), outtype="f32", mmproj_outtype="f32")


def cells_of(name: str, n_vocab: int):
    question = STAGE_PROMPTS[name]
    turns = [Turn(*each) for each in question.history] + [Turn(question.text)]
    if question.has_image:
        turns[0] = Turn(turns[0].question, turns[0].answer, images=(PICTURE,))
    return request_cells(prompt_segments(BeeTokenizer(vocabulary()), turns), n_vocab)


def test_the_tower_sees_what_the_reference_sees(exact):
    stages = read_stages()
    got = numpy_beit3(exact.mmproj_path, stages["pixels"])
    np.testing.assert_allclose(got, stages["image_embeddings"], atol=2e-5)  # observed 2e-6


@pytest.mark.parametrize("name", list(STAGE_PROMPTS))
def test_hidden_states_and_logits_are_the_references(exact, name):
    """The prompt at once, then three tokens of the answer one by one: the reference computes all of it at once."""
    stages = read_stages()
    bee = NumpyBee(exact.model_path)
    cells = cells_of(name, bee.n_vocab)
    hidden = [bee.prefill(cells, {"a picture": stages["image_embeddings"]})]
    said = [(6, 0), (25, 0), (1, 1) if cells.columns else (46, 0)]
    hidden += [bee.step([0], [token]) for token in said]
    rows = np.concatenate(hidden)
    np.testing.assert_allclose(rows, stages[f"{name}_hidden"], atol=2e-4)  # observed 2e-5
    np.testing.assert_allclose(bee.logits(rows), stages[f"{name}_logits"], atol=1e-3)  # observed 1e-4


def test_tensors_and_keys_are_those_of_the_table(exact):
    from palo_cpp.convert.families.viscpm import tensor_rows

    documented = tensor_rows.__doc__ or ""
    for path in exact.paths.values():
        header = read_header(path)
        for key in (*header.metadata, *header.arrays):
            if key.startswith(("cpmbee.", "beit3.", "tokenizer.ggml.", "palo.")) and key != "palo.version":
                assert key.removesuffix("_token_id").split(".")[-1].split("_")[-1] in documented, key
    text = read_header(exact.model_path)
    assert text.metadata["general.architecture"] == "cpmbee" and text.languages == ("zh", "en")
    assert [token.decode() for token in text.tokens] == vocabulary()
    assert text.metadata["cpmbee.embedding_scale"] == text.metadata["cpmbee.logit_scale"] == 1 / 8
    assert text.metadata["cpmbee.scales_folded"] is True
    assert text.tensors["rel_attn_bias"].shape[:2] == (TINY.n_head, 512) and text.tensors["rel_attn_bias"].type == 1
    vision = read_header(exact.mmproj_path)
    assert vision.is_mmproj and vision.metadata["beit3.query_count"] == TINY.n_queries
    assert vision.pair_id == text.pair_id is not None


def test_every_tensor_is_used_or_dropped_for_a_reason(exact):
    sources = {tensor.source.name for file in exact.plan.files for tensor in file.tensors}
    sources |= {operand.name for file in exact.plan.files for tensor in file.tensors for operand in tensor.operands}
    dropped = dict(exact.plan.dropped)
    assert sources | set(dropped) == set(viscpm_tensors()) and not sources & set(dropped)
    assert set(dropped) == {
        "vpm.mim_head.weight",
        "vpm.mim_head.bias",
        "vpm.beit3.text_embed.weight",
        "vpm.beit3.vision_embed.mask_token",
        "vpm.beit3.encoder.layer_norm.A.weight",
        "vpm.beit3.encoder.layer_norm.A.bias",
    }
    assert all(dropped.values())


def test_scales_are_folded_before_rounding(checkpoint, exact, tmp_path):
    """The divisor of ffn_down, sqrt(96), is no power of two: a half of the quotient is not a quotient of the half."""
    weights = viscpm_tensors()["llm.encoder.layers.1.ffn.ffn.w_out.weight"]
    wanted = weights * np.float32(1 / math.sqrt(TINY.n_ff))
    _, tensors = read_gguf(exact.model_path)
    np.testing.assert_array_equal(tensors["blk.1.ffn_down.weight"], wanted)
    half = convert(checkpoint, tmp_path)
    _, tensors = read_gguf(half.model_path)
    np.testing.assert_array_equal(tensors["blk.1.ffn_down.weight"], wanted.astype(np.float16))
    np.testing.assert_array_equal(tensors["token_embd.weight"], viscpm_tensors()["llm.input_embedding.weight"])


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return write_viscpm_checkpoint(tmp_path_factory.mktemp("wide") / "VisCPM-Chat", WIDE)


@pytest.mark.parametrize("outtype", TYPES)
def test_types(wide, tmp_path, outtype):
    import gguf

    done = convert(wide, tmp_path, outtype=outtype)
    types = {n: gguf.GGMLQuantizationType(t.type).name for n, t in read_header(done.model_path).tensors.items()}
    assert done.model_path.name == f"VisCPM-Chat-{outtype.upper()}.gguf"
    embedding = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}.get(outtype, "Q6_K")
    assert types["token_embd.weight"] == embedding and types["rel_attn_bias"] == "F16"
    main = {"q6_k": "Q6_K", "q5_k_m": "Q5_K", "q4_k_m": "Q4_K", "q4_0": "Q4_0"}.get(outtype, embedding)
    assert {types[f"blk.{i}.attn_q.weight"] for i in range(WIDE.n_layer)} == {main}
    finer = {i for i in range(WIDE.n_layer) if types[f"blk.{i}.ffn_down.weight"] != main}
    assert finer == ({0, 3, 6, 7} if outtype in ("q5_k_m", "q4_k_m") else set())
    assert {types[f"blk.{i}.attn_v.weight"] for i in finer} <= {"Q6_K"}


def test_the_mixture_of_the_published_model():
    """48 layers: 6 first, 6 last, every third of the 36 between, as llama.cpp counts them."""
    finer = [i for i in range(48) if has_more_bits(i, 48)]
    assert finer == [*range(6), *range(8, 42, 3), *range(42, 48)] and len(finer) == 24


def test_rows_of_no_whole_blocks_get_a_type_that_fits(checkpoint, tmp_path):
    types = read_header(convert(checkpoint, tmp_path, outtype="q4_k_m").model_path).tensors
    assert {types[name].type for name in ("token_embd.weight", "blk.0.ffn_down.weight")} == {
        8
    }  # q8_0: 64 and 96 values


@pytest.mark.parametrize("outtype", ["q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0"])
def test_quantizing_later_gives_the_same_as_at_once(wide, tmp_path, outtype):
    """From f32: from f16 the scales would be rounded once before."""
    at_once = convert(wide, tmp_path / "once", outtype=outtype).model_path
    plain = convert(wide, tmp_path / "plain", outtype="f32").model_path
    later = quantize(plain, tmp_path, outtype)
    assert later.name == at_once.name
    first, second = (read_gguf(path) for path in (at_once, later))
    assert first[0].keys() == second[0].keys()
    for name, values in first[1].items():
        np.testing.assert_array_equal(values, second[1][name])


def test_quantized_weights_are_near(wide, tmp_path):
    import gguf

    for outtype, most in (("q8_0", 0.01), ("q6_k", 0.03), ("q4_k_m", 0.12), ("q4_0", 0.15)):
        reader = gguf.GGUFReader(convert(wide, tmp_path / outtype, outtype=outtype).model_path)
        (tensor,) = (each for each in reader.tensors if each.name == "blk.5.ffn_up.weight")
        wanted = viscpm_tensors(WIDE)["llm.encoder.layers.5.ffn.ffn.w_in.w_1.weight"] / 16
        got = dequantize(tensor.data, tensor.tensor_type)
        assert np.abs(got - wanted).mean() < most * np.abs(wanted).mean(), outtype


def test_two_conversions_are_one_file(checkpoint, tmp_path):
    first, second = (convert(checkpoint, tmp_path / name) for name in "ab")
    for role, path in first.paths.items():
        assert path.read_bytes() == second.paths[role].read_bytes()


def test_without_config_json(tmp_path, exact):
    folder = write_viscpm_checkpoint(tmp_path / "download", config=False)
    done = convert(folder, tmp_path / "out", outtype="f32", mmproj_outtype="f32", name="VisCPM-Chat")
    assert read_header(done.model_path).pair_id == read_header(exact.model_path).pair_id
    assert {t.name: t.n_bytes for t in read_header(done.model_path).tensors.values()} == {
        t.name: t.n_bytes for t in read_header(exact.model_path).tensors.values()
    }


def test_several_checkpoints_in_one_folder(tmp_path):
    folder = write_viscpm_checkpoint(tmp_path / "VisCPM-Chat")
    for seed, name in enumerate(("pytorch_model.v1.bin", "pytorch_model.zhplus.bin"), 1):
        write_viscpm_checkpoint(folder, seed=seed, weights=name)
    main = convert(folder, tmp_path / "out")
    assert any("pytorch_model.v1.bin" in warning and "give the path" in warning for warning in main.plan.warnings)
    later = convert(folder / "pytorch_model.v1.bin", tmp_path / "out")
    assert (main.plan.name, later.plan.name) == ("VisCPM-Chat", "VisCPM-Chat-v1")
    assert read_header(main.model_path).pair_id != read_header(later.model_path).pair_id
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelFormatError, match=r"expected one file of weights, got pytorch_model.v1.bin, .*zhplus.bin"):
        convert(folder, tmp_path / "out")


@pytest.mark.parametrize(("prefix", "head"), [("", False), ("cpmbee.", True)])
def test_cpm_bee_alone(tmp_path, prefix, head):
    """As OpenBMB/CPM-Bee saves it, and as transformers does."""
    tensors = cpm_bee_tensors(prefix=prefix)
    if head:
        tensors["lm_head.weight"] = tensors[f"{prefix}input_embedding.weight"]
    folder = write_viscpm_checkpoint(tmp_path / "cpm-bee", tensors=tensors, config=False)
    done = convert(folder, tmp_path / "out", outtype="f32")
    assert list(done.paths) == ["text"] and "CPM-Bee without a vision tower" in str(done.plan)
    bee = NumpyBee(done.model_path)
    assert bee.logits(bee.prefill(cells_of("en", bee.n_vocab), {})).shape[1] == bee.n_vocab


def test_the_users_terms_are_said(exact):
    assert "individuals" in exact.plan.warnings[0] and "research" in exact.plan.warnings[0]


def damaged(folder, change):
    tensors = viscpm_tensors()
    change(tensors)
    return write_viscpm_checkpoint(folder / "VisCPM-Chat", tensors=tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("query"), "VisCPM-Chat: expected a tensor query, got none"),
        (lambda t: t.pop("llm.input_embedding.weight"), "expected a tensor llm.input_embedding.weight, got none"),
        (lambda t: t.pop("vpm.beit3.encoder.layers.1.ffn.B.fc2.bias"), "1 missing: vpm.beit3.encoder.layers.1.ffn.B"),
        (lambda t: t.update({"vpm.new": t["query"]}), "1 left over: vpm.new"),
        (
            lambda t: t.update({"llm.encoder.layers.2.ffn.ffn.w_out.weight": t["query"]}),
            "1 wrong shape: llm.encoder.layers.2.ffn.ffn.w_out.weight",
        ),
        (
            lambda t: t.update({"vpm.beit3.encoder.embed_positions.A.weight": t["query"]}),
            "expected positions of 2 unused rows, a class token and a square of patches",
        ),
        (lambda t: t.update({"query": t["query"][0]}), r"tensor query: expected 2 dimensions, got shape \[128\]"),
        (lambda t: t["query"].fill(np.nan), "a value is not finite"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, change, message):
    with pytest.raises(ModelFormatError, match=message):
        convert(damaged(tmp_path, change), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.gguf"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: (f / "vocab.txt").unlink(), ModelNotFoundError, "vocab.txt: expected the vocabulary, got no file"),
        (
            lambda f: write_vocabulary(f, vocabulary()[:-1]),
            ModelFormatError,
            "expected 219 lines, as the embedding has",
        ),
        (lambda f: (f / "vocab.txt").write_bytes(b"\xff\xfe"), ModelFormatError, "vocab.txt: expected UTF-8"),
        (lambda f: (f / "vocab.txt").write_bytes(b"a\nb\n"), ModelFormatError, "expected <pad> in line 1, got 'a'"),
        (lambda f: (f / "pytorch_model.bin").unlink(), ModelNotFoundError, "expected weights in pytorch_model.bin"),
        (
            lambda f: (f / "config.json").write_text(json.dumps({"model_type": "viscpmchatbee", "dim_ff": 97})),
            ModelFormatError,
            "config.json: dim_ff: expected 96, as the weights have it, got 97",
        ),
    ],
)
def test_damaged_folders_are_refused(tmp_path, change, error, message):
    folder = write_viscpm_checkpoint(tmp_path / "VisCPM-Chat")
    change(folder)
    with pytest.raises(error, match=message):
        convert(folder, tmp_path / "out")


def test_options_that_do_not_apply_are_refused(checkpoint, tmp_path):
    for option in ("base", "vision_tower"):
        with pytest.raises(ArgumentError, match=r"--[a-z-]+: expected none for VisCPM"):
            convert(checkpoint, tmp_path, **{option: tmp_path})
    with pytest.raises(
        ArgumentError, match="--outtype: expected one of f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0"
    ):
        convert(checkpoint, tmp_path, outtype="iq4_xs")


def test_a_vocabulary_from_windows(tmp_path, exact):
    folder = write_viscpm_checkpoint(tmp_path / "VisCPM-Chat")
    path = folder / "vocab.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_header(convert(folder, tmp_path / "out").model_path).tokens == read_header(exact.model_path).tokens
