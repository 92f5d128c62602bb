"""Checkpoints as transformers writes them, against goldens of transformers itself (goldens/make_native_goldens.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted_files import edit_config, keys, read_gguf
from golden_files import FOLDER, checksum
from multimodal_logits import logits_after
from native_checkpoint import (
    NATIVE_SIZE,
    STYLES,
    golden_pixels,
    native_config,
    native_tensors,
    write_native_checkpoint,
)
from numpy.typing import NDArray
from palo_cpp.convert import convert, summarize
from palo_cpp.convert.families.palo.llava_config import llava_config
from palo_cpp.convert.families.palo.sizes import text_sizes, vision_sizes
from palo_cpp.convert.json_file import Config
from tensor_files import write_safetensors, write_torch_zip

from palo_cpp import Palo
from palo_cpp.errors import ModelFormatError
from palo_cpp.vision.encoder import VisionEncoder

# --- values ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(FOLDER / "native_llava.npz") as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    tensors = native_tensors()
    assert str(golden["weights_checksum"]) == checksum(*(tensors[name] for name in sorted(tensors)))
    assert str(golden["pixels_checksum"]) == checksum(golden_pixels())
    return golden


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    source = write_native_checkpoint(folder / "llava-native")
    convert(source, folder / "gguf", outtype="f32", mmproj_outtype="f32")
    return folder / "gguf"


@pytest.fixture(scope="module")
def embeddings(converted: Path) -> NDArray[np.float32]:
    with VisionEncoder(converted / "mmproj-llava-native-F32.gguf", n_threads=1, precision="float") as encoder:
        return encoder.encode(golden_pixels())


def relative_error(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def test_image_embeddings_are_those_of_transformers(golden, embeddings):
    assert relative_error(embeddings, golden["image_embeddings"]) < 5e-6  # observed 9.7e-7


def test_logits_in_ten_languages_are_those_of_transformers(golden, converted, embeddings):
    prompts = json.loads(str(golden["prompts"]))
    assert len(prompts) == 10
    parts = [[before, embeddings, after] for before, after in prompts.values()]
    for got, expected in zip(logits_after(converted / "llava-native-F32.gguf", parts), golden["logits"], strict=True):
        assert relative_error(got, expected) < 2e-5  # observed at most 8.0e-6
        assert np.argmax(got) == np.argmax(expected)


# --- names and layouts ----------------------------------------------------------------------------------------------


def contents(folder: Path, **options: Any) -> tuple[bytes, ...]:
    """Everything that a checkpoint becomes."""
    source = write_native_checkpoint(folder / "llava", **options)
    done = convert(source, folder / "gguf", name="model")
    return done.model_path.read_bytes(), done.mmproj_path.read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    return contents(tmp_path_factory.mktemp("expected"))


@pytest.mark.parametrize("style", STYLES)
def test_the_names_of_every_transformers(tmp_path, style, expected):
    assert contents(tmp_path, style=style) == expected


@pytest.mark.parametrize("style", ["transformers 5", "in memory 4"])
@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "base_model.model.", "model.", "module._orig_mod."])
def test_what_trainers_put_before_the_names(tmp_path, style, wrapper, expected):
    if wrapper == "model." and style == "in memory 4":
        wrapper = "model.module."  # Lightning's attribute, over DataParallel
    assert contents(tmp_path, style=style, wrapper=wrapper) == expected


def test_wrappers_inside_a_name(tmp_path, expected):
    source = write_native_checkpoint(tmp_path / "llava")
    tensors = native_tensors()
    compiled = {
        name.replace("model.layers.1.", "model.layers.1._orig_mod."): tensor for name, tensor in tensors.items()
    }
    assert compiled.keys() != tensors.keys()
    write_safetensors(source / "model.safetensors", compiled, "f16")
    assert convert(source, tmp_path / "gguf", name="model").model_path.read_bytes() == expected[0]


def test_the_sentencepiece_model_gives_the_same_file_but_for_the_added_tokens(tmp_path, expected):
    model = contents(tmp_path, tokenizer="model")
    assert model[1] == expected[1]
    done = keys(tmp_path / "gguf" / "model-F16.gguf")
    (tmp_path / "expected.gguf").write_bytes(expected[0])
    json_file = keys(tmp_path / "expected.gguf")
    for name in ("tokens", "scores", "token_type"):
        assert done[f"tokenizer.ggml.{name}"][:960] == json_file[f"tokenizer.ggml.{name}"][:960], name
    assert json_file["tokenizer.ggml.tokens"][959:963] == ["二", "<image>", "<pad>", "[PAD962]"]
    assert json_file["tokenizer.ggml.token_type"][960:963] == [3, 3, 5]


def test_the_keys_come_from_the_nested_configs(tmp_path, expected):
    for name, content in zip(("text", "vision"), expected, strict=True):
        (tmp_path / name).write_bytes(content)
    text, vision = keys(tmp_path / "text"), keys(tmp_path / "vision")
    assert (text["llama.vocab_size"], text["llama.rope.freq_base"]) == (992, 5000.0)
    assert (text["llama.attention.head_count_kv"], text["llama.attention.key_length"]) == (2, 64)
    assert (vision["clip.projector_type"], vision["clip.vision.feature_layer"]) == ("mlp", [2])
    assert vision["palo.image_preprocess"] == "crop"
    assert vision["clip.vision.image_mean"] == [0.5, 0.4375, 0.40625]


@pytest.mark.parametrize("processor", [{"do_pad": True}, {"do_pad": False}, None])
def test_do_pad_is_the_preprocessing(tmp_path, processor):
    source = write_native_checkpoint(tmp_path / "llava")
    (source / "processor_config.json").unlink()
    if processor is not None:
        (source / "preprocessor_config.json").write_text(json.dumps(processor))
    done = convert(source, tmp_path / "gguf")
    assert summarize(done.mmproj_path).preprocess == ("pad" if processor == {"do_pad": True} else "crop")
    assert done.plan.warnings == []


def test_another_way_to_prepare_images_is_said(tmp_path):
    source = write_native_checkpoint(tmp_path / "llava")
    size = {"height": 70, "width": 70}
    (source / "preprocessor_config.json").write_text(json.dumps({"resample": 2, "do_center_crop": False, "size": size}))
    warnings = convert(source, tmp_path / "gguf", dry_run=True).plan.warnings
    for key in ("do_center_crop: expected True, got False", "resample: expected 3, got 2", "size: stretches images"):
        assert any(key in warning for warning in warnings), key


def test_tied_embeddings(tmp_path):
    source = write_native_checkpoint(tmp_path / "llava")
    config = native_config()
    config["text_config"]["tie_word_embeddings"] = True
    (source / "config.json").write_text(json.dumps(config))
    done = convert(source, tmp_path / "gguf")
    assert "output.weight" not in read_gguf(done.model_path)


# --- sizes that transformers leaves out -----------------------------------------------------------------------------


def sizes(config: dict[str, Any]) -> tuple[Any, Any]:
    flat = llava_config(Config(Path("config.json"), {"model_type": "llava", **config}), None)
    vision = vision_sizes(Config(flat.path, flat.get("vision_config")), flat.get("mm_vision_select_layer"), None)
    return text_sizes(flat), vision


def test_llava_1_5_7b_as_the_hub_has_it():
    """llava-hf/llava-1.5-7b-hf, config.json of 2023: transformers 4 writes only what differs from its defaults."""
    text, vision = sizes(
        {
            "architectures": ["LlavaForConditionalGeneration"],
            "ignore_index": -100,
            "image_token_index": 32000,
            "pad_token_id": 32001,
            "projector_hidden_act": "gelu",
            "text_config": {
                "_name_or_path": "lmsys/vicuna-7b-v1.5",
                "architectures": ["LlamaForCausalLM"],
                "max_position_embeddings": 4096,
                "model_type": "llama",
                "rms_norm_eps": 1e-05,
                "torch_dtype": "float16",
                "vocab_size": 32064,
            },
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "transformers_version": "4.36.0.dev0",
            "vision_config": {
                "hidden_size": 1024,
                "image_size": 336,
                "intermediate_size": 4096,
                "model_type": "clip_vision_model",
                "num_attention_heads": 16,
                "num_hidden_layers": 24,
                "patch_size": 14,
                "projection_dim": 768,
                "vocab_size": 32000,
            },
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "vocab_size": 32064,
        }
    )
    assert (text.n_embd, text.n_ff, text.n_layer, text.n_head, text.n_head_kv) == (4096, 11008, 32, 32, 32)
    assert (text.n_vocab, text.n_ctx_train, text.rms_norm_eps, text.rope_theta) == (32064, 4096, 1e-5, 10000.0)
    assert (vision.n_embd, vision.n_ff, vision.n_layer, vision.n_head) == (1024, 4096, 24, 16)
    assert (vision.image_size, vision.patch_size, vision.layer_norm_eps, vision.hidden_act) == (
        336,
        14,
        1e-5,
        "quick_gelu",
    )
    assert vision.select_layer == 23


def test_defaults_of_llama_and_clip():
    text, vision = sizes({"text_config": {"model_type": "llama"}, "vision_config": {"model_type": "clip_vision_model"}})
    assert (text.n_vocab, text.n_ctx_train, text.rms_norm_eps) == (32000, 2048, 1e-6)
    assert (vision.n_embd, vision.n_ff, vision.n_layer, vision.n_head) == (768, 3072, 12, 12)
    assert (vision.image_size, vision.patch_size) == (224, 32)
    _, vision = sizes({"text_config": {}})
    assert (vision.n_embd, vision.n_layer, vision.image_size, vision.patch_size) == (1024, 24, 336, 14)


def test_null_is_as_good_as_left_out():
    nulls = {"vocab_size": None, "hidden_size": None, "num_key_value_heads": None, "head_dim": None}
    text, vision = sizes({"text_config": nulls, "vision_config": {"model_type": None, "image_size": None}})
    assert (text.n_vocab, text.n_embd, text.n_head_kv, text.head_dim) == (32000, 4096, 32, 128)
    assert vision.image_size == 224


@pytest.mark.parametrize("layer", [-2, 2, [-2]])
def test_the_select_layer_may_be_a_list_of_one(tmp_path, layer):
    source = write_native_checkpoint(tmp_path / "llava")
    edit_config(source, vision_feature_layer=layer)
    assert keys(convert(source, tmp_path / "gguf").mmproj_path)["clip.vision.feature_layer"] == [2]


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_config": {"model_type": "qwen2"}}, "text_config.model_type: expected llama, got 'qwen2'"),
        (
            {"vision_config": {"model_type": "siglip_vision_model"}},
            "vision_config.model_type: expected clip_vision_model, got 'siglip_vision_model'",
        ),
        ({"projector_hidden_act": "gelu_new"}, "projector_hidden_act: expected gelu, got 'gelu_new'"),
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy: expected default, got 'full'"),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias: expected True, got False"),
        ({"vision_feature_layer": [-2, -5]}, r"vision_feature_layer: expected one layer \(as -2\), got \[-2, -5\]"),
        ({"vision_feature_layer": "last"}, "vision_feature_layer: expected one layer"),
        ({"text_config": ["llama"]}, "text_config: expected a dictionary"),
        ({"text_config": {"rope_parameters": {"rope_type": "llama3"}}}, "rope_scaling: expected none or linear"),
    ],
)
def test_what_the_family_does_not_have_is_named_before_the_weights_are_read(tmp_path, change, message):
    source = write_native_checkpoint(tmp_path / "llava")
    edit_config(source, **change)
    if "rope" not in message:  # the sizes are read after the weights
        (source / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelFormatError, match=message):
        convert(source, tmp_path / "gguf")


# --- adapters -------------------------------------------------------------------------------------------------------


def lora(name: str, n_out: int, n_in: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(len(name))
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((4, n_in), (n_out, 4)))
    return {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}


@pytest.mark.parametrize("style", ["transformers 4", "in memory 5"])
def test_an_adapter_of_peft_without_a_config_of_its_own(tmp_path, style):
    base = write_native_checkpoint(tmp_path / "base", style=style, dtype="f32")
    text, _, projector, vision = STYLES[style]
    query, tower = f"{text}layers.1.self_attn.q_proj", f"{vision}encoder.layers.0.self_attn.v_proj"
    updates = lora(query, 256, 256) | lora(tower, 64, 64)
    trained = np.full((256, 64), 0.5, np.float32)
    updates[f"base_model.model.{projector}linear_1.weight"] = trained
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write_safetensors(adapter / "adapter_model.safetensors", updates, "f32")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "modules_to_save": ["multi_modal_projector"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "../base"}))

    edit_config(base, _name_or_path="llava-hf/llava-1.5-7b-hf")
    done = convert(adapter, tmp_path / "gguf", outtype="f32", mmproj_outtype="f32")
    assert done.model_path.name == "adapter-F32.gguf"
    text_file, vision_file = read_gguf(done.model_path), read_gguf(done.mmproj_path)
    np.testing.assert_array_equal(vision_file["mm.0.weight"], trained)
    prefix = "base_model.model."
    weights = native_tensors(style)
    expected = weights[f"{tower}.weight"] + 2 * (
        updates[f"{prefix}{tower}.lora_B.weight"] @ updates[f"{prefix}{tower}.lora_A.weight"]
    )
    np.testing.assert_allclose(vision_file["v.blk.0.attn_v.weight"], expected, rtol=1e-5, atol=1e-6)
    plain = read_gguf(convert(base, tmp_path / "plain", outtype="f32").model_path)
    differing = {name for name in text_file if not np.array_equal(text_file[name], plain[name])}
    assert differing == {"blk.1.attn_q.weight"}


def test_a_module_that_was_not_named_is_refused(tmp_path):
    write_native_checkpoint(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write_safetensors(
        adapter / "adapter_model.safetensors", {"base_model.model.lm_head.weight": np.ones((2, 2))}, "f32"
    )
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "../base"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match="expected lora_A and lora_B matrices"):
        convert(adapter, tmp_path / "gguf")


# --- the whole way --------------------------------------------------------------------------------------------------


def test_a_question_about_an_image(converted, picture):
    with Palo(converted, n_threads=1) as palo:
        answer = palo.ask(picture, "इस तस्वीर में क्या है?", lang="hi", max_tokens=8)
    assert answer.timings.n_images_encoded == 1 and answer.timings.n_generated > 0
    assert [(image.preprocess, image.n_tokens) for image in answer.inputs.images] == [("crop", NATIVE_SIZE.n_patches)]


def test_pickles_and_shards(tmp_path, expected):
    source = write_native_checkpoint(tmp_path / "llava")
    (source / "model.safetensors").unlink()
    write_torch_zip(source / "pytorch_model.bin", native_tensors(), "f16")
    done = convert(source, tmp_path / "gguf", name="model")
    assert (done.model_path.read_bytes(), done.mmproj_path.read_bytes()) == expected


def test_an_odd_and_an_even_grid(tmp_path):
    size = replace(NATIVE_SIZE, image_size=56)
    done = convert(write_native_checkpoint(tmp_path / "llava", size=size), tmp_path / "gguf")
    assert done.plan.facts == {"projector": "mlp2x_gelu", "n_image_tokens": 16}
