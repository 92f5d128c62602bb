"""Compare the reference with transformers when goldens are made: it has the same tower and the same decoder."""

from __future__ import annotations

from pathlib import Path

import torch
from golden_files import GoldenModel, golden_pixels, size_of_grid
from reference import clip_vit, llama
from reference.checkpoint import Checkpoint, read_checkpoint
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM


def compare_with_transformers(folder: Path) -> dict[str, float]:
    """Largest absolute difference of each stage, beside the largest absolute value there."""
    checkpoint = read_checkpoint(GoldenModel(grid=5).write(folder / "cross_check"))
    pixels = torch.from_numpy(golden_pixels(size_of_grid(5)))
    embeddings = checkpoint.state["model.embed_tokens.weight"][torch.arange(3, 203)]
    hidden = clip_vit.hidden_states(checkpoint.state, checkpoint.vision_config, pixels)
    logits = llama.forward(checkpoint.state, checkpoint.config, embeddings)
    return {
        "hidden_states": float((hidden - _vision(checkpoint, pixels)).abs().max()),
        "hidden_states_max": float(hidden.abs().max()),
        "logits": float((logits - _logits(checkpoint, embeddings)).abs().max()),
        "logits_max": float(logits.abs().max()),
    }


def _vision(checkpoint: Checkpoint, pixels: torch.Tensor) -> torch.Tensor:
    model = CLIPVisionModel(CLIPVisionConfig(**checkpoint.vision_config, attn_implementation="eager"))
    state = {name: value for name, value in checkpoint.state.items() if name.startswith("vision_model.")}
    if not any(name.startswith("vision_model.") for name in model.state_dict()):  # transformers 5 drops the prefix
        state = {name.removeprefix("vision_model."): value for name, value in state.items()}
    _load(model, state)
    output = model.eval()(pixels[None], output_hidden_states=True)
    return output.hidden_states[-2][0, 1:]


def _logits(checkpoint: Checkpoint, embeddings: torch.Tensor) -> torch.Tensor:
    config = {k: v for k, v in checkpoint.config.items() if not k.startswith(("mm_", "torch_dtype", "architectures"))}
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager"))
    names = set(model.state_dict())
    _load(model, {name: value for name, value in checkpoint.state.items() if name in names})
    return model.eval()(inputs_embeds=embeddings[None]).logits[0, -1]


def _load(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load every parameter; buffers may be missing, for they are computed."""
    result = model.load_state_dict(state, strict=False)
    missing = set(result.missing_keys) & {name for name, _ in model.named_parameters()}
    assert not missing, missing
    assert not result.unexpected_keys, result.unexpected_keys
