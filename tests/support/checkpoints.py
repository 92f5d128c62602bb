"""Small random checkpoints in the published layouts of PALO, LLaVA-1.5 and MobileVLM, written with numpy alone.

`write_checkpoint` puts into a folder what the hub repository of such a model holds:

    FOLDER/                config.json, tokenizer files, weights (and their index where sharded)
    FOLDER/vision_tower/   CLIP's config.json and preprocessor_config.json, and its weights where they are not inside;
                           `mm_vision_tower` names this folder, relative to FOLDER
    FOLDER/base/           the base LLaMA, for LoRA and for a lone mm_projector.bin
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from random_model import (
    ODD,
    ODD9,
    SMALL,
    Size,
    draw,
    plan_clip_text_half,
    plan_llama,
    plan_lora,
    plan_model,
    plan_projector,
    plan_vision_model,
    rotary_inv_freq,
)
from tensor_files import write_safetensors, write_torch_zip

__all__ = ["ODD", "ODD9", "SMALL", "Size", "write_checkpoint"]

DATA = Path(__file__).parents[1] / "data"
PROJECTORS = ("linear", "identity", "mlp2x_gelu", "mlp3x_gelu", "ldpnet", "ldpnetv2")
LORA_RANK, LORA_ALPHA = 8, 16

_Tensors = dict[str, NDArray[np.generic]]
_MODEL_TYPES = {
    "palo": ("palo", "PaloForCausalLM"),
    "llava": ("llava_llama", "LlavaLlamaForCausalLM"),
    "mobilevlm": ("mobilevlm", "MobileLlamaForCausalLM"),
}


def write_checkpoint(
    folder: Path | str,
    *,
    layout: str = "palo",
    projector: str = "ldpnet",
    weights: str = "safetensors",
    n_shards: int = 1,
    dtype: str = "f32",
    clip_inside: bool = True,
    clip_text_half: bool = True,
    lora: bool = False,
    lone_projector: bool = False,
    buffers: bool = True,
    legacy: bool | None = False,
    added_tokens: Mapping[str, int] | None = None,
    image_aspect_ratio: str = "pad",
    seed: int = 0,
    size: Size = SMALL,
) -> Path:
    """Write one small random checkpoint.

    Args:
        folder: Where to; made if missing.
        layout: "palo", "llava" (LLaVA-1.5) or "mobilevlm" (V1 with `ldpnet`, V2 with `ldpnetv2`).
        projector: The published `mm_projector_type`.
        weights: "safetensors" or "pickle".
        n_shards: Weight files; more than one come with an index.
        dtype: "f32", "f16" or "bf16" of the weight files; the values are the same in all three.
        clip_inside: CLIP under `model.vision_tower.vision_tower.` (as a tuned copy in `non_lora_trainables.bin` with
            `lora`), or only in the tower's folder.
        clip_text_half: The tower's own folder holds a whole CLIPModel, or the vision half alone.
        lora: An adapter over FOLDER/base.
        lone_projector: `mm_projector.bin` over FOLDER/base; CLIP is in the tower's folder.
        buffers: Also the computed buffers of old checkpoints, `inv_freq` and `position_ids`.
        legacy: The tokenizer's `legacy` flag; None leaves it out.
        added_tokens: `added_tokens.json`: text -> id, from 960 on; `size.n_vocab` must have rows for them.
        image_aspect_ratio: "pad", or "square" for no padding.
        seed: Of all the weights.
        size: Sizes of the model.

    Returns:
        The folder.
    """
    folder, size = Path(folder), size.for_projector(projector)
    files = _WeightFiles(weights, dtype, n_shards)
    clip_inside = clip_inside and not lone_projector
    _write_vision_tower(folder / "vision_tower", files, size, seed, None if clip_inside else clip_text_half, buffers)
    config = _llama_config(size, dtype) | _multimodal_config(layout, projector, size, image_aspect_ratio)
    vision = _vision_tensors(size, seed, buffers, "model.vision_tower.vision_tower.") if clip_inside else {}
    has_base = lora or lone_projector
    if has_base:
        config["_name_or_path"] = "base"
        _write_base(folder / "base", files, size, seed, buffers)
        trained: _Tensors = {**draw(plan_projector(size, projector), seed), **vision}
        _write_trained(folder, files, size, seed, trained, None if lora else dtype)
    else:
        files.write(folder, {**draw(plan_model(size, projector), seed), **_inv_freq(size, buffers), **vision})
    _write_json(folder / "config.json", config)
    _write_tokenizer(folder / "base" if has_base else folder, legacy, added_tokens)
    return folder


class _WeightFiles:
    """How the weights are stored: kind, dtype and shards."""

    def __init__(self, weights: str, dtype: str, n_shards: int) -> None:
        self.stem, self.suffix = {"safetensors": ("model", "safetensors"), "pickle": ("pytorch_model", "bin")}[weights]
        self._write = {"safetensors": write_safetensors, "pickle": write_torch_zip}[weights]
        self._dtype, self._n_shards = dtype, n_shards

    def write(self, folder: Path, tensors: _Tensors, *, stem: str | None = None) -> None:
        """Write `tensors` as one file, or as shards with their index."""
        if self._n_shards == 1 or stem:
            self._write(folder / f"{stem or self.stem}.{self.suffix}", tensors, self._dtype)
            return
        weight_map: dict[str, str] = {}
        n_bytes, n_shards = 0, self._n_shards
        for i, names in enumerate(np.array_split(np.array(list(tensors)), n_shards), start=1):
            file_name = f"{self.stem}-{i:05}-of-{n_shards:05}.{self.suffix}"
            shard = {str(name): tensors[str(name)] for name in names}
            n_bytes += self._write(folder / file_name, shard, self._dtype)
            weight_map |= dict.fromkeys(shard, file_name)
        index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
        _write_json(folder / f"{self.stem}.{self.suffix}.index.json", index)


def _vision_tensors(size: Size, seed: int, buffers: bool, prefix: str = "") -> _Tensors:
    """CLIP's vision half; drawn under its own names, so inside and apart are the same tower."""
    tensors: _Tensors = {prefix + name: values for name, values in draw(plan_vision_model(size), seed).items()}
    if buffers:
        name = f"{prefix}vision_model.embeddings.position_ids"
        tensors[name] = np.arange(size.n_patches + 1, dtype=np.int64)[None]
    return tensors


def _inv_freq(size: Size, buffers: bool) -> _Tensors:
    names = [f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(size.n_layer)]
    return {name: rotary_inv_freq(size) for name in names} if buffers else {}


def _write_vision_tower(
    folder: Path, files: _WeightFiles, size: Size, seed: int, text_half: bool | None, buffers: bool
) -> None:
    """The tower's own folder; with `text_half` None only its two configurations, for its weights are elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _clip_config(size, whole=bool(text_half)))
    _write_json(folder / "preprocessor_config.json", _preprocessor_config(size))
    if text_half is None:
        return
    tensors = _vision_tensors(size, seed, buffers)
    if text_half:
        tensors |= draw(plan_clip_text_half(size), seed)
        if buffers:
            tensors["text_model.embeddings.position_ids"] = np.arange(77, dtype=np.int64)[None]
    files.write(folder, tensors, stem=files.stem)


def _write_base(folder: Path, files: _WeightFiles, size: Size, seed: int, buffers: bool) -> None:
    """A plain LLaMA checkpoint."""
    folder.mkdir(exist_ok=True)
    files.write(folder, {**draw(plan_llama(size), seed), **_inv_freq(size, buffers)})
    _write_json(folder / "config.json", _llama_config(size, "f16"))


def _write_trained(
    folder: Path, files: _WeightFiles, size: Size, seed: int, trained: _Tensors, lone_dtype: str | None
) -> None:
    """What was trained over a base: `mm_projector.bin` of `lone_dtype`, or with None a LoRA and what goes with it."""
    if lone_dtype is None:
        _write_lora(folder, files, size, seed, trained)
    else:
        write_torch_zip(folder / "mm_projector.bin", trained, lone_dtype)


def _write_lora(folder: Path, files: _WeightFiles, size: Size, seed: int, trained: _Tensors) -> None:
    files.write(folder, {**draw(plan_lora(size, LORA_RANK), seed)}, stem="adapter_model")
    prefixed = {f"base_model.model.{name}": values for name, values in trained.items()}
    write_torch_zip(folder / "non_lora_trainables.bin", prefixed, "f32")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = {
        "base_model_name_or_path": "base",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0.05,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": LORA_RANK,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
    }
    _write_json(folder / "adapter_config.json", config)


def _write_tokenizer(folder: Path, legacy: bool | None, added_tokens: Mapping[str, int] | None) -> None:
    shutil.copyfile(DATA / "tokenizer.model", folder / "tokenizer.model")
    special = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    tokens = {
        f"{key}_token": {"__type": "AddedToken", "content": content, **special}
        for key, content in {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}.items()
    }
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "model_max_length": 2048,
        "pad_token": None,
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        **tokens,
    }
    _write_json(folder / "tokenizer_config.json", config if legacy is None else config | {"legacy": legacy})
    _write_json(folder / "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    if added_tokens:
        _write_json(folder / "added_tokens.json", dict(added_tokens))


def _llama_config(size: Size, dtype: str) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": size.n_embd,
        "initializer_range": 0.02,
        "intermediate_size": size.n_ff,
        "max_position_embeddings": size.n_ctx,
        "model_type": "llama",
        "num_attention_heads": size.n_head,
        "num_hidden_layers": size.n_layer,
        "num_key_value_heads": size.n_head_kv,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[dtype],
        "transformers_version": "4.31.0",
        "use_cache": True,
        "vocab_size": size.n_vocab,
    }


def _multimodal_config(layout: str, projector: str, size: Size, image_aspect_ratio: str) -> dict[str, object]:
    model_type, architecture = _MODEL_TYPES[layout]
    config: dict[str, object] = {
        "architectures": [architecture],
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": image_aspect_ratio,
        "mm_hidden_size": size.vision_n_embd,
        "mm_projector_type": projector,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "vision_tower",
        "model_type": model_type,
        "tokenizer_model_max_length": 2048,
        "tokenizer_padding_side": "right",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
    }
    return config | ({"vision_tower_type": "clip"} if layout == "mobilevlm" else {})


def _clip_config(size: Size, *, whole: bool) -> dict[str, object]:
    vision = {
        "attention_dropout": 0.0,
        "hidden_act": "quick_gelu",
        "hidden_size": size.vision_n_embd,
        "image_size": size.image_size,
        "intermediate_size": size.vision_n_ff,
        "layer_norm_eps": 1e-05,
        "model_type": "clip_vision_model",
        "num_attention_heads": size.vision_n_head,
        "num_channels": 3,
        "num_hidden_layers": size.vision_n_layer,
        "patch_size": size.patch_size,
        "projection_dim": 32,
    }
    if not whole:
        return {"architectures": ["CLIPVisionModel"], **vision}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    text |= {"max_position_embeddings": 77, "vocab_size": 64, "projection_dim": 32}
    config = {"architectures": ["CLIPModel"], "logit_scale_init_value": 2.6592, "model_type": "clip"}
    return {
        **config,
        "projection_dim": 32,
        "text_config": {"model_type": "clip_text_model", **text},
        "vision_config": vision,
    }


def _preprocessor_config(size: Size) -> dict[str, object]:
    return {
        "crop_size": size.image_size,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": size.image_size,
    }


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
