"""Sizes of a model, read from the shapes of its tensors: a downloaded checkpoint need not have a config.json."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from palo_cpp.errors import ModelFormatError

from ...json_file import Config
from ...stored_tensor import Shape, Tensors

EMBEDDING = "llm.input_embedding.weight"
BIAS = "llm.position_bias.relative_attention_bias"
QUERY = "query"
HEAD_DIM = 64  # of every BEiT-3; neither a shape nor the published config.json says it


@dataclass(frozen=True)
class TextSizes:
    """Sizes of CPM-Bee; `n_buckets` are those of positions, `n_segment_buckets` those of relations."""

    n_vocab: int
    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_buckets: int
    n_segment_buckets: int
    max_distance: int
    eps: float

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head


@dataclass(frozen=True)
class VisionSizes:
    """Sizes of BEiT-3; `n_a` and `n_b` are rows of the two tables of positions."""

    image_size: int
    patch_size: int
    n_embd: int
    n_ff: int
    n_layer: int
    n_queries: int
    n_a: int
    n_b: int

    @property
    def n_head(self) -> int:
        """Heads of attention."""
        return self.n_embd // HEAD_DIM

    @property
    def n_patches(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch_size) ** 2


def text_sizes(tensors: Tensors, config: Config) -> TextSizes:
    """Sizes of the language model.

    Raises:
        ModelFormatError: a tensor is missing or has a shape that cannot be; config.json says something else.
    """
    n_vocab, n_embd = _shape(tensors, EMBEDDING, 2, config)
    n_rows, n_head = _shape(tensors, BIAS, 2, config)
    n_ff, _ = _shape(tensors, "llm.encoder.layers.0.ffn.ffn.w_in.w_0.weight", 2, config)
    n_buckets = config.size("position_bias_num_buckets", n_rows // 2)
    sizes = TextSizes(
        n_vocab=n_vocab,
        n_embd=n_embd,
        n_ff=n_ff,
        n_layer=_n_layers(tensors, "llm.encoder.layers."),
        n_head=n_head,
        n_buckets=n_buckets,
        n_segment_buckets=config.size("position_bias_num_segment_buckets", n_rows - n_buckets),
        max_distance=config.size("position_bias_max_distance", 2048),
        eps=config.number("eps", 1e-6),
    )
    if n_embd % (2 * n_head) or sizes.n_buckets + sizes.n_segment_buckets != n_rows:
        raise ModelFormatError(
            f"{config.path.parent}: {BIAS}: expected a row for each of {sizes.n_buckets} and {sizes.n_segment_buckets} "
            f"buckets and a column for each head of width {n_embd}, got {[n_rows, n_head]}; fetch the checkpoint again"
        )
    _check_config(config, sizes)
    return sizes


def vision_sizes(tensors: Tensors, config: Config) -> VisionSizes:
    """Sizes of the vision tower.

    Raises:
        ModelFormatError: a tensor is missing or has a shape that cannot be.
    """
    n_queries, n_embd = _shape(tensors, QUERY, 2, config)
    *_, patch_size = _shape(tensors, "vpm.beit3.vision_embed.proj.weight", 4, config)
    n_a, _ = _shape(tensors, "vpm.beit3.encoder.embed_positions.A.weight", 2, config)
    n_b, _ = _shape(tensors, "vpm.beit3.encoder.embed_positions.B.weight", 2, config)
    n_ff, _ = _shape(tensors, "vpm.beit3.encoder.layers.0.ffn.A.fc1.weight", 2, config)
    side = math.isqrt(max(n_a - 3, 0))
    if side < 1 or side * side + 3 != n_a or n_b < n_queries + 2 or n_embd % HEAD_DIM:
        raise ModelFormatError(
            f"{config.path.parent}: expected positions of 2 unused rows, a class token and a square of patches, and of "
            f"2 unused rows and {n_queries} queries, of a width in heads of {HEAD_DIM}, got {n_a} and {n_b} rows of "
            f"{n_embd}; fetch the checkpoint again"
        )
    return VisionSizes(
        image_size=side * patch_size,
        patch_size=patch_size,
        n_embd=n_embd,
        n_ff=n_ff,
        n_layer=_n_layers(tensors, "vpm.beit3.encoder.layers."),
        n_queries=n_queries,
        n_a=n_a,
        n_b=n_b,
    )


def _shape(tensors: Tensors, name: str, n_dims: int, config: Config) -> Shape:
    if name not in tensors:
        raise ModelFormatError(f"{config.path.parent}: expected a tensor {name}, got none; fetch the checkpoint again")
    shape = tensors[name].shape
    if len(shape) != n_dims or not all(0 < n < 2**24 for n in shape):
        raise ModelFormatError(
            f"{config.path.parent}: tensor {name}: expected {n_dims} dimensions, got shape {list(shape)}; "
            "fetch the checkpoint again"
        )
    return shape


def _n_layers(tensors: Tensors, prefix: str) -> int:
    """One more than the highest number; a gap shows as tensors that are missing."""
    numbers = (re.match(r"\d{1,3}(?=\.)", name[len(prefix) :]) for name in tensors if name.startswith(prefix))
    return 1 + max((int(number[0]) for number in numbers if number), default=-1)


def _check_config(config: Config, sizes: TextSizes) -> None:
    """What a config.json says must be true of the weights beside it."""
    said = {
        "vocab_size": sizes.n_vocab,
        "hidden_size": sizes.n_embd,
        "dim_ff": sizes.n_ff,
        "num_hidden_layers": sizes.n_layer,
        "num_attention_heads": sizes.n_head,
        "dim_head": sizes.head_dim,
    }
    for key, number in said.items():
        if config.size(key, number) != number:
            raise ModelFormatError(
                f"{config.path}: {key}: expected {number}, as the weights have it, got {config.get(key)!r}; "
                "put the config.json of this checkpoint there"
            )
