"""A trained run -> a checkpoint in PALO's published layout, which `palo-cpp convert` takes like any other.

`python -m nano.export nano/runs/default nano/runs/default/checkpoint`; no other way leads from a run to GGUF files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file

from nano.data import IMAGE_MEAN, IMAGE_STD
from nano.model import Nano, Sizes
from nano.stages import ALL
from nano.training_run import TOKENIZER, checkpoint_of

NAME = "PALO-Nano"
_DTYPES = {"f32": torch.float32, "f16": torch.float16}


def load_run(folder: Path) -> Nano:
    """The model of a run as the last stage has it, float32 on the CPU."""
    state = torch.load(checkpoint_of(folder, ALL), map_location="cpu", weights_only=True)
    nano = Nano(Sizes(**state["plan"]["sizes"]))
    prefix = "nano."
    nano.load_state_dict({k.removeprefix(prefix): v for k, v in state["learner"].items() if k.startswith(prefix)})
    return nano.eval()


def export(nano: Nano, tokenizer: Path, folder: Path, *, dtype: str = "f16", n_shards: int = 1) -> Path:
    """Write a checkpoint as the hub repositories of PALO hold it, CLIP inside.

    Args:
        nano: the model.
        tokenizer: its SentencePiece file.
        folder: where to; made if missing.
        dtype: of the weights, f32 or f16.
        n_shards: weight files; more than one come with an index.

    Returns:
        The folder.
    """
    tower = folder / "vision_tower"
    tower.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to(_DTYPES[dtype]).contiguous() for name, value in nano.state_dict().items()}
    _write_weights(folder, tensors, n_shards)
    _write_json(folder / "config.json", _llama_config(nano.sizes, dtype) | _multimodal_config(nano.sizes))
    _write_json(tower / "config.json", _clip_config(nano.sizes))
    _write_json(tower / "preprocessor_config.json", _preprocessor_config(nano.sizes))
    shutil.copyfile(tokenizer, folder / "tokenizer.model")
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(nano.sizes))
    _write_json(folder / "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    return folder


def _write_weights(folder: Path, tensors: dict[str, torch.Tensor], n_shards: int) -> None:
    if n_shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = list(tensors), dict[str, str]()
    for i in range(n_shards):
        file_name = f"model-{i + 1:05}-of-{n_shards:05}.safetensors"
        shard = {name: tensors[name] for name in names[i::n_shards]}
        save_file(shard, folder / file_name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file_name)
    n_bytes = sum(value.numel() * value.element_size() for value in tensors.values())
    index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)


def _llama_config(sizes: Sizes, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["PaloForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": sizes.n_embd,
        "initializer_range": 0.02,
        "intermediate_size": sizes.n_ff,
        "max_position_embeddings": sizes.n_ctx,
        "model_type": "palo",
        "num_attention_heads": sizes.n_head,
        "num_hidden_layers": sizes.n_layer,
        "num_key_value_heads": sizes.n_head,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": {"f32": "float32", "f16": "float16"}[dtype],
        "use_cache": True,
        "vocab_size": sizes.n_vocab,
    }


def _multimodal_config(sizes: Sizes) -> dict[str, Any]:
    return {
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": sizes.vision_n_embd,
        "mm_projector_type": sizes.projector,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "vision_tower",
        "tokenizer_model_max_length": sizes.n_ctx,
        "tokenizer_padding_side": "right",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
    }


def _clip_config(sizes: Sizes) -> dict[str, Any]:
    return {
        "architectures": ["CLIPVisionModel"],
        "attention_dropout": 0.0,
        "hidden_act": "quick_gelu",
        "hidden_size": sizes.vision_n_embd,
        "image_size": sizes.image_size,
        "intermediate_size": sizes.vision_n_ff,
        "layer_norm_eps": 1e-05,
        "model_type": "clip_vision_model",
        "num_attention_heads": sizes.vision_n_head,
        "num_channels": 3,
        "num_hidden_layers": sizes.vision_n_layer,
        "patch_size": sizes.patch_size,
        "projection_dim": sizes.vision_n_embd,
    }


def _preprocessor_config(sizes: Sizes) -> dict[str, Any]:
    return {
        "crop_size": sizes.image_size,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
        "resample": 3,
        "size": sizes.image_size,
    }


def _tokenizer_config(sizes: Sizes) -> dict[str, Any]:
    special = {"__type": "AddedToken", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": special | {"content": "<s>"},
        "eos_token": special | {"content": "</s>"},
        "unk_token": special | {"content": "<unk>"},
        "legacy": False,
        "model_max_length": sizes.n_ctx,
        "pad_token": None,
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--dtype", type=click.Choice(list(_DTYPES)), default="f16", show_default=True)
@click.option("--shards", "n_shards", type=click.IntRange(min=1), default=1, show_default=True)
def main(run: Path, folder: Path, dtype: str, n_shards: int) -> None:
    """Export the model of RUN into FOLDER."""
    export(load_run(run), run / TOKENIZER, folder, dtype=dtype, n_shards=n_shards)
    click.echo(f"wrote {folder}; next: palo-cpp convert {folder} -o MODELS --name {NAME} --outtype q8_0")


if __name__ == "__main__":
    main()
