"""Small random eyes of VisCPM: their published tensors, their mmproj files, and their model in numpy float64."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from mmproj_files import Array, gelu_erf, layer_norm, softmax
from numpy.typing import NDArray
from tiny_gguf import add_value, finish

_ENCODER = "vpm.beit3.encoder."
# published name -> name in the file, of one parameter set
_NORMS = {"self_attn_layer_norm.{S}": "ln1", "self_attn.inner_attn_ln.{S}": "attn_ln", "final_layer_norm.{S}": "ln2"}
_LINEARS = {
    **{f"self_attn.{part}_proj.{{S}}": f"attn_{part}" for part in ("q", "k", "v", "out")},
    "ffn.{S}.fc1": "ffn_up",
    "ffn.{S}.fc2": "ffn_down",
}
_FFN_NORM = {"ffn.{S}.ffn_layernorm": "ffn_ln"}


@dataclass
class Beit3Model:
    """Sizes of a model; every weight is exact in f16. `tensors` are the mmproj file's."""

    grid: int = 4
    patch_size: int = 4
    n_embd: int = 128
    n_head: int = 2
    n_ff: int = 256
    n_layer: int = 3
    n_query: int = 8
    n_out: int = 160
    seed: int = 0
    tensors: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tensors:
            self.tensors = dict(_file_tensors(self, self.state()))

    @property
    def image_size(self) -> int:
        return self.grid * self.patch_size

    @property
    def n_tokens(self) -> int:
        return 1 + self.grid**2 + self.n_query

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The tensors of a checkpoint under their published names, as far as the eye needs them."""
        return {name: _draw(name, shape, self.seed) for name, shape in _published_shapes(self)}

    def metadata(self) -> dict[str, Any]:
        return {
            "general.type": "mmproj",
            "beit3.image_size": self.image_size,
            "beit3.patch_size": self.patch_size,
            "beit3.embedding_length": self.n_embd,
            "beit3.feed_forward_length": self.n_ff,
            "beit3.block_count": self.n_layer,
            "beit3.attention.head_count": self.n_head,
            "beit3.attention.layer_norm_epsilon": 1e-5,
            "beit3.query_count": self.n_query,
            "beit3.projection_dim": self.n_out,
            "beit3.image_mean": [0.5, 0.5, 0.5],
            "beit3.image_std": [0.5, 0.5, 0.5],
            "palo.image_preprocess": "stretch",
        }

    def pixels(self, n_images: int = 1) -> NDArray[np.float32]:
        random = np.random.default_rng(self.seed + 1)
        return random.standard_normal((n_images, 3, self.image_size, self.image_size)).astype(np.float32)


def _published_shapes(m: Beit3Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "query", (m.n_query, m.n_embd)
    yield "vpm.beit3.vision_embed.cls_token", (1, 1, m.n_embd)
    yield "vpm.beit3.vision_embed.proj.weight", (m.n_embd, 3, m.patch_size, m.patch_size)
    yield "vpm.beit3.vision_embed.proj.bias", (m.n_embd,)
    yield _ENCODER + "embed_positions.A.weight", (m.grid**2 + 3, m.n_embd)
    yield _ENCODER + "embed_positions.B.weight", (m.n_query + 5, m.n_embd)
    widths = {"ffn.{S}.fc1": (m.n_ff, m.n_embd), "ffn.{S}.fc2": (m.n_embd, m.n_ff)}
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(_NORMS, (m.n_embd,)),
        **dict.fromkeys(_FFN_NORM, (m.n_ff,)),
        **{name: widths.get(name, (m.n_embd, m.n_embd)) for name in _LINEARS},
    }
    for i in range(m.n_layer):
        for name, shape in shapes.items():
            for side in "AB":
                yield from _with_bias(f"{_ENCODER}layers.{i}.{name.format(S=side)}", shape)
    yield from _with_bias(_ENCODER + "layer_norm.B", (m.n_embd,))
    yield from _with_bias("mapping.0", (m.n_out, m.n_embd))
    yield from _with_bias("mapping.2", (m.n_out, m.n_out))


def _with_bias(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield name + ".weight", shape
    yield name + ".bias", shape[:1]


def _draw(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    is_norm = len(shape) == 1 and name.endswith("weight")
    is_matrix = len(shape) > 1 and name.endswith("weight") and "embed_positions" not in name
    size = 1 / np.sqrt(np.prod(shape[1:])) if is_matrix else 0.2
    values = size * random.standard_normal(shape) + is_norm
    return values.astype(np.float16).astype(np.float32)


def _file_tensors(m: Beit3Model, state: dict[str, NDArray[np.float32]]) -> Iterator[tuple[str, Array]]:
    """As convert/families/viscpm/tensor_rows.py describes the file."""
    a, b = (state[f"{_ENCODER}embed_positions.{side}.weight"] for side in "AB")
    yield "v.patch.weight", state["vpm.beit3.vision_embed.proj.weight"]
    yield "v.patch.bias", state["vpm.beit3.vision_embed.proj.bias"]
    yield "v.cls", state["vpm.beit3.vision_embed.cls_token"][0, 0] + a[2]
    yield "v.pos", a[3 : 3 + m.grid**2]
    yield "v.query", state["query"] + b[2 : 2 + m.n_query]
    names = {"layer_norm.B": "v.post_ln.b"}
    for i in range(m.n_layer):
        for source, part in (_NORMS | _FFN_NORM | _LINEARS).items():
            for side in "AB":
                names[f"layers.{i}.{source.format(S=side)}"] = f"v.blk.{i}.{side.lower()}.{part}"
    sources = {_ENCODER + source: name for source, name in names.items()} | {"mapping.0": "mm.0", "mapping.2": "mm.2"}
    for source, name in sources.items():
        for part in ("weight", "bias"):
            yield f"{name}.{part}", state[f"{source}.{part}"]


def write_beit3(path: Path, model: Beit3Model, *, weights: str = "f32", changes: dict[str, Any] | None = None) -> Path:
    """Write the file; `weights` and `changes` as in `mmproj_files.write_mmproj`."""
    kind = gguf.GGMLQuantizationType[weights.upper()]
    block = gguf.GGML_QUANT_SIZES[kind][0]
    writer = gguf.GGUFWriter(path, "beit3")
    for key, value in (model.metadata() | (changes or {})).items():
        add_value(writer, key, value)
    for name, values in model.tensors.items():
        is_matrix = values.ndim > 1 and name not in ("v.pos", "v.query") and values.shape[-1] % block == 0
        if is_matrix and weights != "f32":
            raw = gguf.quants.quantize(values, kind)
            model.tensors[name] = gguf.quants.dequantize(raw, kind).reshape(values.shape)
            writer.add_tensor(name, raw, raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    finish(writer)
    return path


class NumpyBeit3:
    """The same model in numpy float64 on the file's tensors."""

    def __init__(self, model: Beit3Model) -> None:
        self.m = model
        self.w = {name: values.astype(np.float64) for name, values in model.tensors.items()}

    def patch_embeddings(self, pixels: Array) -> Array:
        m = self.m
        grid = pixels.astype(np.float64).reshape(3, m.grid, m.patch_size, m.grid, m.patch_size)
        patches = grid.transpose(1, 3, 0, 2, 4).reshape(m.grid**2, -1)
        return patches @ self.w["v.patch.weight"].reshape(m.n_embd, -1).T + self.w["v.patch.bias"]

    def residual_streams(self, pixels: Array) -> list[Array]:
        patches = self.patch_embeddings(pixels) + self.w["v.pos"]
        streams = [np.concatenate([self.w["v.cls"][None], patches, self.w["v.query"]])]
        for i in range(self.m.n_layer):
            x = streams[-1]
            x = x + self.both(i, "attn_out", self.both(i, "attn_ln", self.attention(i, self.both(i, "ln1", x))))
            inner = gelu_erf(self.both(i, "ffn_up", self.both(i, "ln2", x)))
            streams.append(x + self.both(i, "ffn_down", self.both(i, "ffn_ln", inner)))
        return streams

    def hidden_states(self, pixels: Array) -> Array:
        return self.norm(self.residual_streams(pixels)[-1][-self.m.n_query :], "v.post_ln.b")

    def project(self, hidden: Array) -> Array:
        return self.linear(gelu_erf(self.linear(hidden.astype(np.float64), "mm.0")), "mm.2")

    def encode(self, pixels: Array) -> Array:
        return self.project(self.hidden_states(pixels))

    def both(self, layer: int, part: str, x: Array) -> Array:
        """Set a on class token and patches, set b on the queries."""
        run = self.norm if "ln" in part else self.linear
        n = 1 + self.m.grid**2
        return np.concatenate([run(x[:n], f"v.blk.{layer}.a.{part}"), run(x[n:], f"v.blk.{layer}.b.{part}")])

    def attention(self, layer: int, x: Array) -> Array:
        q, k, v = (
            self.both(layer, f"attn_{part}", x).reshape(len(x), self.m.n_head, -1).transpose(1, 0, 2) for part in "qkv"
        )
        mixed = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])) @ v
        return np.asarray(mixed.transpose(1, 0, 2).reshape(len(x), -1))

    def linear(self, x: Array, name: str) -> Array:
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def norm(self, x: Array, name: str) -> Array:
        return layer_norm(x, self.w[name + ".weight"], self.w[name + ".bias"], 1e-5)
