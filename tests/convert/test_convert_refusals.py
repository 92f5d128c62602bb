"""What the converter refuses, and that it writes all or nothing."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import gguf
import numpy as np
import pytest
from converted_files import edit_config, file_hashes, read_gguf
from palo_cpp.convert import Progress, convert, summarize
from random_model import SMALL, draw, plan_lora, plan_model, plan_projector, plan_vision_model
from tensor_files import write_safetensors, write_torch_zip

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError, PaloError

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
        ({"model_type": "gpt2"}, "model_type: expected one of palo, llava"),
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
    name = plan.file("mmproj").file_name
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
    assert planned.plan.file("text").n_bytes == n_weights


def test_progress_counts_every_tensor_and_byte(tmp_path: Path) -> None:
    source = checkpoints.write_checkpoint(tmp_path / "source")
    seen: list[Progress] = []
    convert(source, tmp_path / "out", outtype="q4_0", progress=seen.append)
    assert [p.n_tensors_done for p in seen] == list(range(1, seen[-1].n_tensors + 1))
    assert all(a.n_bytes_done <= b.n_bytes_done <= b.n_bytes for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("at", [1, 30, 60])
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
        assert {path.name[0] for path in (tmp_path / "out").iterdir()} == {"."}  # nothing that looks like a model
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
