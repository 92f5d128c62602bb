"""Every published layout becomes the two GGUF files, with the right values and keys."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints
import jinja2
import numpy as np
import pytest
from converted_files import Tensors, edit_config, file_hashes, keys, read_gguf
from numpy.typing import NDArray
from palo_cpp.convert import convert, summarize
from palo_cpp.convert.families.palo.rope_rows import interleave_rope_rows
from random_model import SMALL, draw, plan_llama, plan_lora, plan_projector, plan_vision_model

# --- values ---------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, dict[str, Any]] = {
    "palo": {},
    "pickle": {"weights": "pickle"},
    "pickle shards": {"weights": "pickle", "n_shards": 3, "dtype": "f16"},
    "safetensors shards, bf16": {"n_shards": 2, "dtype": "bf16"},
    "tower apart, with text half": {"clip_inside": False, "weights": "pickle"},
    "tower apart, vision only": {"clip_inside": False, "clip_text_half": False},
    "lora": {"lora": True},
    "lora, pickles, tower apart": {"lora": True, "weights": "pickle", "clip_inside": False, "dtype": "f16"},
    "lone projector": {"lone_projector": True, "dtype": "f16"},
    "llava 1.5": {"layout": "llava", "projector": "mlp2x_gelu"},
    "mobilevlm v1": {"layout": "mobilevlm", "projector": "ldpnet", "dtype": "f16"},
    "mobilevlm v2": {"layout": "mobilevlm", "projector": "ldpnetv2"},
    "linear": {"projector": "linear"},
    "identity": {"projector": "identity"},
    "mlp3x": {"projector": "mlp3x_gelu"},
    "no old buffers": {"buffers": False},
    "odd grid": {"size": checkpoints.ODD},
}


def expected_text(options: dict[str, Any]) -> Tensors:
    tensors = draw(plan_llama(options.get("size", SMALL)), 11)
    if options.get("lora"):
        lora = draw(plan_lora(SMALL, checkpoints.LORA_RANK), 11)
        scale = checkpoints.LORA_ALPHA / checkpoints.LORA_RANK
        for name in [name for name in tensors if name.endswith("_proj.weight")]:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[name] = tensors[name] + scale * (lora[f"{stem}.lora_B.weight"] @ lora[f"{stem}.lora_A.weight"])
    return tensors


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_layout(tmp_path: Path, options: dict[str, Any]) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", seed=11, **options)
    before = file_hashes(source)
    done = convert(source, tmp_path / "out", outtype="f32", mmproj_outtype="f32")
    assert file_hashes(source) == before

    text, mmproj = read_gguf(done.model_path), read_gguf(done.mmproj_path)
    model = expected_text(options)
    for name, heads in (("q", SMALL.n_head), ("k", SMALL.n_head_kv)):
        np.testing.assert_allclose(
            text[f"blk.1.attn_{name}.weight"],
            interleave_rope_rows(model[f"model.layers.1.self_attn.{name}_proj.weight"], heads),
            rtol=1e-5,  # LoRA's sum, in another order; without LoRA the values are equal
            atol=1e-6 if options.get("lora") else 0,
        )
    for ours, theirs in {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
        "blk.1.attn_v.weight": "model.layers.1.self_attn.v_proj.weight",
        "blk.1.attn_output.weight": "model.layers.1.self_attn.o_proj.weight",
        "blk.0.ffn_gate.weight": "model.layers.0.mlp.gate_proj.weight",
        "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }.items():
        np.testing.assert_allclose(text[ours], model[theirs], rtol=1e-5, atol=1e-6 if options.get("lora") else 0)
    check_mmproj(mmproj, options)


def check_mmproj(mmproj: dict[str, NDArray[Any]], options: dict[str, Any]) -> None:
    projector = options.get("projector", "ldpnet")
    size = options.get("size", SMALL).for_projector(projector)
    tower, weights = draw(plan_vision_model(size), 11), draw(plan_projector(size, projector), 11)
    for ours, theirs in {
        "v.class_embd": "embeddings.class_embedding",
        "v.patch_embd.weight": "embeddings.patch_embedding.weight",
        "v.position_embd.weight": "embeddings.position_embedding.weight",
        "v.pre_ln.bias": "pre_layrnorm.bias",
        "v.blk.1.attn_q.weight": "encoder.layers.1.self_attn.q_proj.weight",
        "v.blk.1.attn_out.bias": "encoder.layers.1.self_attn.out_proj.bias",
        "v.blk.0.ln2.weight": "encoder.layers.0.layer_norm2.weight",
        "v.blk.0.ffn_up.weight": "encoder.layers.0.mlp.fc1.weight",
        "v.blk.0.ffn_down.weight": "encoder.layers.0.mlp.fc2.weight",
    }.items():
        np.testing.assert_array_equal(mmproj[ours], tower[f"vision_model.{theirs}"])
    assert not any(name.startswith(("v.blk.2.", "v.post_ln")) for name in mmproj)  # never needed at layer -2
    ours_projector = {name: values for name, values in mmproj.items() if name.startswith("mm.")}
    assert len(ours_projector) == len(weights)
    for name, values in weights.items():
        short = name.removeprefix("model.mm_projector.")
        short = {"mlp.mlp": "model.mlp", "peg.peg": "model.peg"}.get(short[:7], short[:7]) + short[7:]
        mapped = "mm.0." + short if projector == "linear" else "mm." + short
        np.testing.assert_array_equal(ours_projector[mapped].ravel(), values.ravel(), err_msg=name)


def test_one_model_in_every_layout_and_dtype_is_one_file(tmp_path: Path) -> None:
    contents = set()
    for i, options in enumerate(({}, {"weights": "pickle", "n_shards": 2}, {"dtype": "bf16"}, {"clip_inside": False})):
        source = checkpoints.write_checkpoint(tmp_path / str(i), **options)
        done = convert(source, tmp_path / f"out{i}", name="model")
        tensors = {**read_gguf(done.model_path), **read_gguf(done.mmproj_path)}
        contents.add(hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest())
    assert len(contents) == 1


def test_tied_embeddings_have_no_output_matrix(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    edit_config(source, tie_word_embeddings=True)
    done = convert(source, tmp_path / "out")
    assert "output.weight" not in read_gguf(done.model_path)
    assert any(name == "lm_head.weight" and "tie_word" in reason for name, reason in done.plan.dropped)


def test_more_embedding_rows_than_pieces_and_added_tokens(tmp_path: Path) -> None:
    size = replace(SMALL, n_vocab=970)
    source = checkpoints.write_checkpoint(tmp_path / "source", size=size, added_tokens={"<image>": 960, "<pad>": 963})
    tokens = keys(convert(source, tmp_path / "out").model_path)
    assert len(tokens["tokenizer.ggml.tokens"]) == 970
    assert tokens["tokenizer.ggml.tokens"][960] == "<image>" and tokens["tokenizer.ggml.tokens"][969] == "[PAD969]"
    types = tokens["tokenizer.ggml.token_type"]
    assert [types[i] for i in (0, 1, 2, 960, 961, 963)] == [2, 3, 3, 4, 5, 4]
    assert types.count(6) == 256  # bytes


# --- keys -----------------------------------------------------------------------------------------------------------


def test_keys(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "PALO-Small", image_aspect_ratio="square", legacy=True)
    (source / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [en]\n---\n# A model\n")
    edit_config(source, _name_or_path="MBZUAI/PALO-Small")
    done = convert(source, tmp_path / "out", outtype="q8_0", mmproj_outtype="bf16")
    assert [done.model_path.name, done.mmproj_path.name] == ["PALO-Small-Q8_0.gguf", "mmproj-PALO-Small-BF16.gguf"]
    text, mmproj = keys(done.model_path), keys(done.mmproj_path)
    for file in (text, mmproj):
        assert file["general.name"] == "PALO-Small" and file["general.license"] == "apache-2.0"
        assert file["general.languages"] == ["en", "zh", "hi", "es", "fr", "ar", "bn", "ru", "ur", "ja"]
        assert file["general.source.url"].endswith("/MBZUAI/PALO-Small")
    assert len(text["palo.pair_id"]) == 32 and text["palo.pair_id"] == mmproj["palo.pair_id"]
    assert text["general.architecture"] == "llama" and text["general.file_type"] == 7
    assert text["palo.tokenizer_legacy"] is True and text["tokenizer.ggml.add_space_prefix"] is True
    assert text["llama.attention.head_count_kv"] == 2 and text["llama.rope.freq_base"] == 10000
    assert mmproj["general.architecture"] == "clip" and mmproj["general.type"] == "mmproj"
    assert mmproj["clip.projector_type"] == "ldp" and mmproj["palo.image_preprocess"] == "crop"
    assert mmproj["clip.vision.feature_layer"] == [2] and mmproj["clip.vision.block_count"] == 2
    assert mmproj["clip.use_gelu"] is False and mmproj["general.file_type"] == 32
    np.testing.assert_allclose(mmproj["clip.vision.image_std"], [0.26862954, 0.26130258, 0.27577711])


@pytest.mark.parametrize(
    ("tuned", "expected"), [(2048, 2048), (4096, None), (10**30, None), (None, None), ("2048", None), (0, None)]
)
def test_context_that_palo_was_trained_with(tmp_path: Path, tuned: object, expected: int | None) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "PALO-Small")
    edit_config(source, max_position_embeddings=4096, tokenizer_model_max_length=tuned)
    text = keys(convert(source, tmp_path / "out").model_path)
    assert (text["llama.context_length"], text.get("palo.context_length")) == (4096, expected)


def test_pair_id_depends_on_the_weights_only(tmp_path: Path) -> None:
    ids = []
    for i, (seed, outtype) in enumerate([(0, "f16"), (0, "q4_k_m"), (1, "f16")]):
        source = checkpoints.write_checkpoint(tmp_path / str(i), seed=seed)
        ids.append(summarize(convert(source, tmp_path / f"out{i}", outtype=outtype).model_path).pair_id)
    assert ids[0] == ids[1] != ids[2]


SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)


def test_chat_template_is_vicuna_v1_byte_for_byte(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    template = keys(convert(source, tmp_path / "out").model_path)["tokenizer.chat_template"]
    render = jinja2.Environment().from_string(template).render
    user, answer = {"role": "user", "content": "<image>\nक्या?"}, {"role": "assistant", "content": "यह।"}
    assert render(messages=[user], add_generation_prompt=True) == SYSTEM + "USER: <image>\nक्या? ASSISTANT:"
    assert (
        render(messages=[user, answer, {"role": "user", "content": "और?"}], add_generation_prompt=True)
        == SYSTEM + "USER: <image>\nक्या? ASSISTANT: यह।</s>USER: और? ASSISTANT:"
    )
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url"}]
    assert render(messages=[{"role": "user", "content": parts}]) == SYSTEM + "USER: <image>\nWhat? "
    system = {"role": "system", "content": "Be brief."}
    assert render(messages=[system, user]) == "Be brief. USER: <image>\nक्या? "
