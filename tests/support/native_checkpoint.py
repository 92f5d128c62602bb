"""Small random LLaVA-1.5 checkpoints as transformers writes them, with numpy alone: `LlavaForConditionalGeneration`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import DATA
from numpy.typing import NDArray
from random_model import ODD, Size, draw, plan_model, plan_vision_model
from tensor_files import write_safetensors
from tokenizer_files import IMAGE_TOKEN, write_tokenizer_json

# More rows than tokens, as where an embedding matrix was padded to a multiple of 32.
NATIVE_SIZE = replace(ODD, n_vocab=992)
# How transformers names the tensors: (decoder, output matrix, projector, tower), in its files and in memory.
STYLES = {
    "transformers 5": ("language_model.model.", "language_model.lm_head.", "multi_modal_projector.", "vision_tower."),
    "transformers 4": (
        "language_model.model.",
        "language_model.lm_head.",
        "multi_modal_projector.",
        "vision_tower.vision_model.",
    ),
    "in memory 5": ("model.language_model.", "lm_head.", "model.multi_modal_projector.", "model.vision_tower."),
    "in memory 4": (
        "model.language_model.",
        "lm_head.",
        "model.multi_modal_projector.",
        "model.vision_tower.vision_model.",
    ),
}


def native_tensors(style: str = "transformers 5", size: Size = NATIVE_SIZE, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The weights under the names of a style, with the last layer of the tower that is never run."""
    text, output, projector, vision = STYLES[style]
    prefixes = {
        "model.mm_projector.0.": f"{projector}linear_1.",
        "model.mm_projector.2.": f"{projector}linear_2.",
        "model.": text,
        "lm_head.": output,
        "vision_model.": vision,
    }
    drawn = draw(plan_model(size, "mlp2x_gelu"), seed) | draw(plan_vision_model(size), seed)
    tensors: dict[str, NDArray[Any]] = {}
    for name, values in drawn.items():
        prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
        tensors[prefixes[prefix] + name[len(prefix) :]] = values
    return tensors


def write_native_checkpoint(
    folder: Path,
    *,
    style: str = "transformers 5",
    tokenizer: str = "json",
    dtype: str = "f16",
    size: Size = NATIVE_SIZE,
    seed: int = 0,
    wrapper: str = "",
) -> Path:
    """Write one checkpoint.

    Args:
        folder: where to; made if missing.
        style: a key of `STYLES`.
        tokenizer: "json", as transformers 5 saves it, or "model", SentencePiece's.
        dtype: of the weight file.
        size: sizes of the model.
        seed: of all the weights.
        wrapper: what a trainer puts before every name, as "module.".

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {wrapper + name: values for name, values in native_tensors(style, size, seed).items()}
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    _write_json(folder / "config.json", native_config(size))
    _write_json(folder / "processor_config.json", {"image_processor": _image_processor(size)})
    if tokenizer == "json":
        write_tokenizer_json(folder)
    else:
        shutil.copyfile(DATA / "tokenizer.model", folder / "tokenizer.model")
    return folder


def native_config(size: Size = NATIVE_SIZE) -> dict[str, Any]:
    """config.json as transformers 5.24 writes it."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "dtype": "float16",
        "image_seq_length": size.n_patches,
        "image_token_index": IMAGE_TOKEN,
        "model_type": "llava",
        "multimodal_projector_bias": True,
        "projector_hidden_act": "gelu",
        "text_config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": size.n_embd // size.n_head,
            "hidden_act": "silu",
            "hidden_size": size.n_embd,
            "initializer_range": 0.02,
            "intermediate_size": size.n_ff,
            "max_position_embeddings": size.n_ctx,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": size.n_head,
            "num_hidden_layers": size.n_layer,
            "num_key_value_heads": size.n_head_kv,
            "pad_token_id": None,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"},
            "tie_word_embeddings": False,
            "use_cache": True,
            "vocab_size": size.n_vocab,
        },
        "tie_word_embeddings": False,
        "transformers_version": "5.24.0",
        "vision_config": {
            "attention_dropout": 0.0,
            "hidden_act": "quick_gelu",
            "hidden_size": size.vision_n_embd,
            "image_size": size.image_size,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "intermediate_size": size.vision_n_ff,
            "layer_norm_eps": 1e-05,
            "model_type": "clip_vision_model",
            "num_attention_heads": size.vision_n_head,
            "num_channels": 3,
            "num_hidden_layers": size.vision_n_layer,
            "patch_size": size.patch_size,
            "projection_dim": 64,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }


def _image_processor(size: Size) -> dict[str, Any]:
    return {
        "crop_size": {"height": size.image_size, "width": size.image_size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.4375, 0.40625],  # not CLIP's, so that it shows where they come from
        "image_processor_type": "CLIPImageProcessor",
        "image_std": [0.25, 0.28125, 0.3125],
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": size.image_size},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def golden_prompt(size: Size, before: list[int], after: list[int]) -> list[int]:
    """Ids as transformers takes them: one image token for each patch, which it replaces by the image's embeddings."""
    return [*before, *[IMAGE_TOKEN] * size.n_patches, *after]


def golden_pixels(size: Size = NATIVE_SIZE) -> NDArray[np.float32]:
    """What the golden's image is, float32 [3, image_size, image_size]."""
    generator = np.random.Generator(np.random.PCG64(15))
    return generator.standard_normal((3, size.image_size, size.image_size)).astype(np.float32)
