"""What programs, editors and hands do to checkpoints on the way: what is harmless is accepted, the rest is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from converted_files import edit_config, keys, read_gguf
from native_checkpoint import write_native_checkpoint
from palo_cpp.convert import convert
from palo_cpp.convert.json_file import Config

from palo_cpp.errors import ModelFormatError, ModelNotFoundError, PaloError


def contents(source: Path, output: Path) -> tuple[bytes, bytes]:
    done = convert(source, output, name="model")
    return done.model_path.read_bytes(), done.mmproj_path.read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("expected")
    return contents(checkpoints.write_checkpoint(folder / "source"), folder / "out")


# --- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_the_encodings_of_windows_are_harmless(tmp_path, encoding, expected):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    for path in source.rglob("*.json"):
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert contents(source, tmp_path / "out") == expected


def test_numbers_as_other_programs_write_them(tmp_path, expected):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    edit_config(source, hidden_size=256.0, num_hidden_layers="2", vocab_size="960.0", rms_norm_eps="1e-05", seed=None)
    edit_config(source, tie_word_embeddings="false", rope_theta="10000", num_key_value_heads=2.0)
    assert contents(source, tmp_path / "out") == expected


def test_nan_and_infinity_where_nothing_is_computed_with_them(tmp_path, expected):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    edit_config(source, initializer_range=float("nan"), loss=float("inf"), minus=float("-inf"))
    assert "NaN" in (source / "config.json").read_text() and "-Infinity" in (source / "config.json").read_text()
    assert contents(source, tmp_path / "out") == expected


@pytest.mark.parametrize("dtype", [{"dtype": "float16"}, {"dtype": None}, {"torch_dtype": "auto"}])
def test_the_weights_say_their_type_not_the_config(tmp_path, dtype, expected):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    del config["torch_dtype"]
    (source / "config.json").write_text(json.dumps(config | dtype))
    assert contents(source, tmp_path / "out") == expected


@pytest.mark.parametrize(
    "value", [True, "many", 2.5, "2.5", 0, -1, "0x100", [256], float("nan"), 1e300, "9" * 500, None]
)
def test_other_sizes_are_refused(value):
    with pytest.raises(ModelFormatError, match=r"config\.json: n: expected a positive integer, got"):
        Config(Path("config.json"), {"n": value}).size("n")


@pytest.mark.parametrize("value", [True, "small", "nan", float("inf"), "-1", 0, [1.0]])
def test_other_numbers_are_refused(value):
    with pytest.raises(ModelFormatError, match="x: expected a positive number, got"):
        Config(Path("config.json"), {"x": value}).number("x", 1.0)


@pytest.mark.parametrize("value", ["yes", 2, [], {}])
def test_other_flags_are_refused(value):
    with pytest.raises(ModelFormatError, match="x: expected true or false, got"):
        Config(Path("config.json"), {"x": value}).flag("x", False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"vocab_size": 960', '"vocab_size": 960,'),
        ('"use_cache": true,', '"use_cache": true, // a comment'),
        ('"use_cache": true,', '"use_cache": true'),
    ],
)
def test_json_that_was_edited_wrongly_names_the_line(tmp_path, old, new):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    text = (source / "config.json").read_text()
    assert old in text
    (source / "config.json").write_text(text.replace(old, new))
    n_lines = text[: text.index(old)].count("\n") + 1
    lines = f"({n_lines}|{n_lines + 1})"  # the place where the parser stumbles may be the next line
    with pytest.raises(ModelFormatError, match=rf"config\.json: could not read it as JSON: .* at line {lines}, column"):
        convert(source, tmp_path / "out")


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llava.safetensors", "model.fp16.safetensors", "weights of हिन्दी.safetensors"])
def test_a_lone_file_under_another_name(tmp_path, name, expected):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    (source / "model.safetensors").rename(source / name)
    assert contents(source, tmp_path / "out") == expected


def test_two_files_under_other_names_are_not_guessed(tmp_path):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    shutil.copy(source / "model.safetensors", source / "a.safetensors")
    (source / "model.safetensors").rename(source / "b.safetensors")
    with pytest.raises(ModelFormatError, match=r"expected one model\.safetensors, got a\.safetensors, b\.safetensors"):
        convert(source, tmp_path / "out")


def test_shards_without_their_index(tmp_path, expected):
    source = checkpoints.write_checkpoint(tmp_path / "source", n_shards=3)
    (source / "model.safetensors.index.json").unlink()
    assert contents(source, tmp_path / "out") == expected
    (source / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"expected 3 shards, got model-00001-of-00003.*fetch the others"):
        convert(source, tmp_path / "out2")


def test_an_index_names_all_shards_that_are_missing(tmp_path):
    source = checkpoints.write_checkpoint(tmp_path / "source", n_shards=5, weights="pickle")
    for i in (2, 4):
        (source / f"pytorch_model-0000{i}-of-00005.bin").unlink()
    message = (
        r"2 of 5 shards are not there: pytorch_model-00002-of-00005\.bin, pytorch_model-00004-of-00005\.bin; fetch"
    )
    with pytest.raises(ModelNotFoundError, match=message):
        convert(source, tmp_path / "out")


def test_a_whole_file_counts_before_an_old_index(tmp_path, expected):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    assert contents(source, tmp_path / "out") == expected


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    source = checkpoints.write_checkpoint(tmp_path / "source", n_shards=2)
    shutil.copy(source / "model-00001-of-00002.safetensors", source / "model-00002-of-00002.safetensors")
    with pytest.raises(ModelFormatError, match="is in two shards, model-00001-of-00002"):
        convert(source, tmp_path / "out")


# --- names ----------------------------------------------------------------------------------------------------------


def change_tensors(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Whatever is written from now on is changed before."""
    write = checkpoints.write_safetensors
    monkeypatch.setattr(
        checkpoints, "write_safetensors", lambda path, tensors, dtype: write(path, change(tensors), dtype)
    )


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model."])
def test_what_trainers_put_before_the_names(tmp_path, wrapper, expected, monkeypatch):
    change_tensors(monkeypatch, lambda tensors: {wrapper + name: value for name, value in tensors.items()})
    source = checkpoints.write_checkpoint(tmp_path / "source")
    assert contents(source, tmp_path / "out") == expected


def test_two_names_for_one_tensor_are_refused(tmp_path, monkeypatch):
    write = checkpoints.write_safetensors
    monkeypatch.setattr(
        checkpoints,
        "write_safetensors",
        lambda path, tensors, dtype: write(
            path, {**tensors, "module.lm_head.weight": tensors["lm_head.weight"]}, dtype
        ),
    )
    source = checkpoints.write_checkpoint(tmp_path / "source")
    with pytest.raises(ModelFormatError, match=r"lm_head\.weight and module\.lm_head\.weight are the same tensor"):
        convert(source, tmp_path / "out")


# --- other models ---------------------------------------------------------------------------------------------------

KNOWN = "expected one of palo, llava, llava_llama, mobilevlm, mobilellama, llama, viscpmchatbee, cpmbee, got"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (
            {"model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"]},
            r"'qwen2_vl' \(Qwen2VLForConditionalGeneration\)",
        ),
        ({"model_type": "llava_next"}, "'llava_next'"),
        ({"architectures": ["GPT2LMHeadModel"]}, r"None \(GPT2LMHeadModel\)"),
        ({"model_type": ["llava"]}, r"\['llava'\]"),
    ],
)
def test_an_unknown_architecture_is_named_before_anything_else(tmp_path, config, named):
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config))
    (source / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(
        ModelFormatError, match=rf"config\.json: model_type: {KNOWN} {named}; only PALO, LLaVA-1\.5 and"
    ):
        convert(source, tmp_path / "out")


def test_a_config_without_a_model_type_may_name_its_architecture(tmp_path, expected):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    del config["model_type"]
    (source / "config.json").write_text(json.dumps(config))
    assert contents(source, tmp_path / "out") == expected


def test_quantized_weights_are_named(tmp_path):
    source = write_native_checkpoint(tmp_path / "llava")
    edit_config(source, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(ModelFormatError, match="quantization_config: expected unquantized weights, got 'bitsandbytes'"):
        convert(source, tmp_path / "out")
    lora = checkpoints.write_checkpoint(tmp_path / "lora", lora=True)
    edit_config(lora, quantization_config={"load_in_4bit": True})  # QLoRA: the base's own files are not quantized
    assert convert(lora, tmp_path / "out").model_path.is_file()


def test_a_list_of_tensors_that_do_not_fit_stays_short(tmp_path):
    source = checkpoints.write_checkpoint(tmp_path / "source")
    edit_config(source, num_hidden_layers=40)
    with pytest.raises(ModelFormatError, match=r"342 missing: model\.layers\.2\..* and 322 more"):
        convert(source, tmp_path / "out")


def test_another_vision_tower_is_named(tmp_path):
    source = checkpoints.write_checkpoint(tmp_path / "source", clip_inside=False)
    config = json.loads((source / "vision_tower" / "config.json").read_text())
    (source / "vision_tower" / "config.json").write_text(json.dumps(config | {"model_type": "siglip"}))
    with pytest.raises(ModelFormatError, match="model_type: expected clip or clip_vision_model, got 'siglip'"):
        convert(source, tmp_path / "out")


def test_a_tower_that_transformers_5_saved(tmp_path):
    """`CLIPVisionModel` has no `vision_model.` in its names there, and its config may leave out what is a default."""
    source = checkpoints.write_checkpoint(tmp_path / "source", clip_inside=False, clip_text_half=False)
    plain = read_gguf(convert(source, tmp_path / "plain").mmproj_path)
    tower = source / "vision_tower"
    content = (tower / "model.safetensors").read_bytes()
    n_header = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n_header])
    renamed = json.dumps({name.removeprefix("vision_model."): entry for name, entry in header.items()}).encode()
    (tower / "model.safetensors").write_bytes(len(renamed).to_bytes(8, "little") + renamed + content[8 + n_header :])
    config = json.loads((tower / "config.json").read_text())
    left_out: dict[str, Any] = {"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu", "num_channels": 3}
    assert all(config.pop(key) == value for key, value in left_out.items())
    (tower / "config.json").write_text(json.dumps(config))
    done = convert(source, tmp_path / "out")
    found = read_gguf(done.mmproj_path)
    assert found.keys() == plain.keys() and all((found[name] == plain[name]).all() for name in plain)
    assert keys(done.mmproj_path)["clip.vision.attention.layer_norm_epsilon"] == pytest.approx(1e-5)


def test_a_folder_of_another_kind_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    native = write_native_checkpoint(tmp_path / "native")
    (native / "model.safetensors").unlink()
    for folder in (tmp_path / "empty", native, tmp_path / "nothing"):
        with pytest.raises(PaloError) as caught:
            convert(folder, tmp_path / "out")
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
