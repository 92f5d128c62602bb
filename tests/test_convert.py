"""Every published layout becomes the two GGUF files, with the right values, keys and refusals."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints
import gguf
import jinja2
import numpy as np
import pytest
from numpy.typing import NDArray
from palo_cpp.convert import Progress, convert, summarize
from palo_cpp.convert.gguf_output import interleave_rope_rows
from random_model import SMALL, draw, plan_llama, plan_lora, plan_model, plan_projector, plan_vision_model
from tensor_files import write_safetensors, write_torch_zip

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError, PaloError

Tensors = dict[str, NDArray[np.float32]]


def read_gguf(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors, in float32, row-major."""
    tensors = {}
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        tensors[tensor.name] = values.reshape([int(d) for d in reversed(tensor.shape)])
    return tensors


def keys(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def file_hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


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


# --- refusals -------------------------------------------------------------------------------------------------------


def changed_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors: dict[str, Any] = {**draw(plan_model(SMALL, "ldpnet"), 0)}
    prefix = "model.vision_tower.vision_tower."
    tensors |= {prefix + name: values for name, values in draw(plan_vision_model(SMALL), 0).items()}
    change(tensors)
    write_safetensors(folder / "model.safetensors", tensors, "f32")


def test_every_tensor_is_accounted_for(tmp_path: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        del tensors["model.layers.1.mlp.up_proj.weight"]
        del tensors["model.mm_projector.model.mlp.3.bias"]
        tensors["model.norm.weight"] = np.zeros(255, np.float32)
        tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(256, np.float32)
        tensors["model.image_newline"] = np.zeros(256, np.float32)

    source = checkpoints.write_checkpoint(tmp_path / "source")
    changed_weights(source, change)
    with pytest.raises(ModelFormatError) as caught:
        convert(source, tmp_path / "out")
    assert "2 missing: model.layers.1.mlp.up_proj.weight, mm_projector.model.mlp.3.bias" in str(caught.value)
    assert "1 wrong shape: model.norm.weight (expected [256], got [255])" in str(caught.value)
    assert "2 left over: model.layers.0.self_attn.q_proj.bias, model.image_newline" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    changed_weights(source, lambda tensors: tensors["lm_head.weight"].__setitem__((3, 5), value))
    with pytest.raises(ModelFormatError, match=r"lm_head\.weight.*not finite"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_values_beyond_f16_need_another_type(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    changed_weights(source, lambda tensors: tensors["lm_head.weight"].__setitem__((3, 5), 7e4))
    with pytest.raises(ModelFormatError, match=r"lm_head\.weight.*too large for f16.*bf16"):
        convert(source, tmp_path / "out")
    assert read_gguf(convert(source, tmp_path / "out", outtype="bf16").model_path)["output.weight"].max() > 6.9e4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mm_projector_type": "qformer"}, "mm_projector_type: expected one of .*'qformer'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end"),
        ({"mm_vision_select_feature": "cls_patch"}, "mm_vision_select_feature: expected patch"),
        ({"mm_vision_select_layer": -9}, "mm_vision_select_layer"),
        ({"model_type": "gpt2"}, "model_type: expected palo or llava"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling: expected none or linear"),
        ({"hidden_size": 0}, "hidden_size: expected a positive integer"),
        ({"num_key_value_heads": 3}, "heads"),
        ({"vocab_size": "many"}, "vocab_size: expected a positive integer"),
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio: expected pad or square"),
    ],
)
def test_unknown_configurations_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    edit_config(source, **change)
    with pytest.raises(ModelFormatError, match=message):
        convert(source, tmp_path / "out")


def test_what_is_missing_is_named_with_the_way_to_pass_it(tmp_path: Path) -> None:
    apart = checkpoints.write_checkpoint(tmp_path / "apart", clip_inside=False)
    shutil.move(apart / "vision_tower", tmp_path / "tower")
    edit_config(apart, mm_vision_tower="openai/clip-vit-large-patch14-336")
    with pytest.raises(ModelNotFoundError, match=r"openai/clip-vit-large-patch14-336.*--vision-tower"):
        convert(apart, tmp_path / "out")
    assert convert(apart, tmp_path / "out", vision_tower=tmp_path / "tower").mmproj_path.is_file()
    lora = checkpoints.write_checkpoint(tmp_path / "lora", lora=True)
    shutil.move(lora / "base", tmp_path / "vicuna")
    with pytest.raises(ModelNotFoundError, match=r"LoRA adapter needs its base model base.*--base"):
        convert(lora, tmp_path / "out")
    assert convert(lora, tmp_path / "out", base=tmp_path / "vicuna").model_path.is_file()
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        convert(tmp_path / "nothing", tmp_path / "out")
    (lora / "tokenizer.model").unlink(missing_ok=True)
    (tmp_path / "vicuna" / "tokenizer.model").unlink()
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.model"):
        convert(lora, tmp_path / "out", base=tmp_path / "vicuna")


def test_a_tuned_tower_inside_wins_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", seed=1)
    same = checkpoints.write_checkpoint(tmp_path / "same", seed=1, clip_inside=False, dtype="f16") / "vision_tower"
    other = checkpoints.write_checkpoint(tmp_path / "other", seed=2, clip_inside=False) / "vision_tower"
    assert convert(source, tmp_path / "out", vision_tower=same).plan.warnings == []
    plan = convert(source, tmp_path / "out2", vision_tower=other).plan
    assert "differ between the checkpoint" in plan.warnings[0] and "differ between" in caplog.text
    name = plan.mmproj.file_name
    first, second = (read_gguf(tmp_path / out / name) for out in ("out", "out2"))
    np.testing.assert_array_equal(first["v.class_embd"], second["v.class_embd"])


@pytest.mark.parametrize("where", [".", "gguf", "vision_tower/gguf"])
def test_the_output_is_never_inside_the_source(tmp_path: Path, where: str) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", clip_inside=False)
    before = file_hashes(source)
    with pytest.raises(ArgumentError, match="inside the source"):
        convert(source, source / where)
    assert file_hashes(source) == before


def test_arguments_are_checked(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    with pytest.raises(ArgumentError, match="--outtype: expected one of f32, f16"):
        convert(source, tmp_path / "out", outtype="q17")
    with pytest.raises(ArgumentError, match="--mmproj-outtype: expected one of f32, f16, bf16, q8_0"):
        convert(source, tmp_path / "out", mmproj_outtype="q4_k_m")
    with pytest.raises(ArgumentError, match="--name"):
        convert(source, tmp_path / "out", name="../evil")
    (tmp_path / "file").write_text("")
    with pytest.raises(PaloError, match="expected a folder"):
        convert(source, tmp_path / "file")


@pytest.mark.parametrize("ending", ["lora_A.weight", "lora_magnitude_vector"])
def test_odd_lora_adapters_are_refused(tmp_path: Path, ending: str) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", lora=True)
    lora: dict[str, Any] = {**draw(plan_lora(SMALL, checkpoints.LORA_RANK), 0)}
    lora[f"base_model.model.model.layers.9.self_attn.q_proj.{ending}"] = np.ones((8, 256), np.float32)
    write_safetensors(source / "adapter_model.safetensors", lora, "f32")
    with pytest.raises(ModelFormatError, match=r"lora|lacks its weight"):
        convert(source, tmp_path / "out")


# --- all or nothing -------------------------------------------------------------------------------------------------


def test_dry_run_writes_nothing_and_tells_everything(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    planned = convert(source, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    done = convert(source, tmp_path / "out")
    assert planned.plan == done.plan or planned.plan.to_dict() == done.plan.to_dict()
    names = [tensor["name"] for tensor in json.loads(json.dumps(planned.plan.to_dict()))["text"]["tensors"]]
    assert set(names) == set(read_gguf(done.model_path))
    text = str(planned.plan)
    assert "token_embd.weight" in text and "computed from rope_theta" in text and "Disk:" in text
    n_weights = sum(t.n_bytes for t in gguf.GGUFReader(done.model_path).tensors)
    assert planned.plan.text.n_bytes == n_weights


def test_progress_counts_every_tensor_and_byte(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    seen: list[Progress] = []
    convert(source, tmp_path / "out", outtype="q4_0", progress=seen.append)
    assert [p.n_tensors_done for p in seen] == list(range(1, seen[-1].n_tensors + 1))
    assert all(a.n_bytes_done <= b.n_bytes_done <= b.n_bytes for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("at", [1, 30, 85])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, error: type[BaseException], at: int) -> None:
    def stop(progress: Progress) -> None:
        if progress.n_tensors_done == at:
            raise error

    source = checkpoints.write_checkpoint(tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    (out / "source-Q4_0.gguf").write_text("an older one")
    with pytest.raises(error):
        convert(source, out, outtype="q4_0", progress=stop)
    assert [path.name for path in out.iterdir()] == ["source-Q4_0.gguf"]
    assert (out / "source-Q4_0.gguf").read_text() == "an older one"
    convert(source, out, outtype="q4_0")
    assert summarize(out / "source-Q4_0.gguf").file_type == "Q4_0"


_SLOW_CONVERSION = """
import sys, time
from palo_cpp.convert import convert
def report(progress):
    print(progress.n_tensors_done, flush=True)
    time.sleep(0.05)
convert(sys.argv[1], sys.argv[2], progress=report)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    command = [sys.executable, "-c", _SLOW_CONVERSION, str(source), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [path.name[0] for path in (tmp_path / "out").iterdir()] == ["."]  # nothing that looks like a model
        process.send_signal(number)
        started = time.monotonic()
        assert process.wait(timeout=20) != 0 and time.monotonic() - started < 10
    assert not (tmp_path / "out").exists()


def test_no_room_on_the_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(PaloError, match="GiB of free space"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- damaged files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "vision_tower/config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_one_clear_error(tmp_path: Path, name: str, content: bytes) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    (source / name).write_bytes(content)
    with pytest.raises(ModelFormatError, match=name.split("/")[-1]):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b\x0c", b"\xff" * 40])
def test_damaged_tokenizer_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    (source / "tokenizer.model").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"tokenizer\.model"):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize("shard", ["../model.safetensors", "absent.safetensors"])
def test_index_with_a_bad_shard(tmp_path: Path, shard: str) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source", n_shards=2)
    index = json.loads((source / "model.safetensors.index.json").read_text())
    index["weight_map"]["lm_head.weight"] = shard
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises((ModelFormatError, ModelNotFoundError), match=r"shard|fetch it"):
        convert(source, tmp_path / "out")


def test_lone_projector_may_be_hidden_behind_a_whole_checkpoint(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    write_torch_zip(source / "mm_projector.bin", draw(plan_projector(SMALL, "ldpnet"), 99), "f32")
    done = convert(source, tmp_path / "out", mmproj_outtype="f32")
    expected = draw(plan_projector(SMALL, "ldpnet"), 0)["model.mm_projector.model.mlp.1.bias"]
    np.testing.assert_array_equal(read_gguf(done.mmproj_path)["mm.model.mlp.1.bias"], expected)
