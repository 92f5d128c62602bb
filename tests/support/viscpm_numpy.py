"""The two GGUF files of VisCPM-Chat run in numpy, float32: what a program has to do after the conversion, and no more.

It takes everything from the files: if a scale were folded twice or a position not added, its numbers would not be the
goldens'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize
from numpy.typing import NDArray

from palo_cpp.families.viscpm.protocol import RequestCells, bias_rows

F32 = NDArray[np.float32]
_erf = np.vectorize(math.erf, otypes=[np.float32])


def gelu_erf(x: F32) -> F32:
    result: F32 = 0.5 * x * (1 + _erf(x / np.sqrt(np.float32(2))))
    return result


def softmax(x: F32) -> F32:
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    result: F32 = weights / weights.sum(axis=-1, keepdims=True)
    return result


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, F32]]:
    """Keys, and tensors row-major in float32."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        str(t.name): dequantize(t.data, t.tensor_type).reshape(tuple(reversed(t.shape.tolist()))).astype(np.float32)
        for t in reader.tensors
    }
    return keys, tensors


class NumpyBee:
    """CPM-Bee from its file; it holds one prompt and the paths of its answer."""

    def __init__(self, path: Path) -> None:
        self.keys, self.tensors = read_gguf(path)
        self.eps = self.keys["cpmbee.attention.layer_norm_rms_epsilon"]
        self.n_layer = self.keys["cpmbee.block_count"]
        self.n_head = self.keys["cpmbee.attention.head_count"]
        self.n_vocab = len(self.keys["tokenizer.ggml.tokens"])

    def embed(self, ids: NDArray[np.int32], subs: NDArray[np.int32]) -> F32:
        rows = self.tensors["token_embd.weight"][ids] * np.float32(self.keys["cpmbee.embedding_scale"])
        n = rows.shape[1]
        inverse = (self.keys["cpmbee.rotary.base"] ** (-np.arange(0, n, 2) / n)).astype(np.float16)
        angles = ((subs * self.keys["cpmbee.rotary.scale"]).astype(np.float16)[:, None] * inverse).astype(np.float32)
        first, second = rows[:, : n // 2], rows[:, n // 2 :]
        cos, sin = np.cos(angles), np.sin(angles)
        turned: F32 = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)
        return turned

    def prefill(self, cells: RequestCells, images: Mapping[str, F32]) -> F32:
        """Hidden states [n, n_embd] of a prompt; the paths start anew."""
        rows = self.embed(cells.ids, cells.subs)
        for name, begin in cells.images:
            rows[begin : begin + len(images[name])] = images[name]
        self._cells, self._extra = cells, self.embed(*_columns(cells)) if cells.columns else None
        where = cells.positions, cells.segments
        hidden, self._prompt = self._forward(rows, where, [], [])
        self._paths: list[tuple[list[Any], list[tuple[NDArray[np.int32], NDArray[np.int32]]]]] = [([], [])]
        return hidden

    def step(self, parents: Sequence[int], tokens: Sequence[tuple[int, int]]) -> F32:
        """Append a token (id, sub id) to each path; hidden states [n_paths, n_embd]."""
        paths, rows = [], []
        for parent, (token, sub) in zip(parents, tokens, strict=True):
            held, placed = self._paths[parent]
            where = np.array([len(held)], np.int32), np.array([self._cells.answer_segment], np.int32)
            row = self.embed(np.array([token], np.int32), np.array([sub], np.int32))
            before = [(self._cells.positions, self._cells.segments), *placed]
            hidden, new = self._forward(row, where, [self._prompt, *held], before)
            paths.append(([*held, new], [*placed, where]))
            rows.append(hidden[0])
        self._paths = paths
        return np.stack(rows)

    def logits(self, hidden: F32) -> F32:
        """[n, n_embd] -> [n, n_vocab + words of the request]."""
        known = hidden @ self.tensors["token_embd.weight"].T * np.float32(self.keys["cpmbee.logit_scale"])
        if self._extra is None:
            return known
        both: F32 = np.concatenate([known, hidden @ self._extra.T], axis=1)
        return both

    def _forward(self, x: F32, where: Any, held: list[Any], before: list[Any]) -> tuple[F32, list[tuple[F32, F32]]]:
        """Rows that see all that is held and each other; keys and values of each layer for those after them."""
        positions = np.concatenate([*(p for p, _ in before), where[0]]).astype(np.int32)
        segments = np.concatenate([*(s for _, s in before), where[1]]).astype(np.int32)
        rows = bias_rows(where, (positions, segments), self._cells.relations)
        bias = self.tensors["rel_attn_bias"][rows].transpose(2, 0, 1)  # [n_head, n, n_keys]
        divisor, new = np.float32(self.keys["cpmbee.residual_divisor"]), []
        for i in range(self.n_layer):
            w = {name.split(".")[2]: t for name, t in self.tensors.items() if name.startswith(f"blk.{i}.")}
            norm = self._norm(x, w["attn_norm"])
            q, k, v = (self._heads(norm @ w[name].T) for name in ("attn_q", "attn_k", "attn_v"))
            new.append((k, v))
            keys = np.concatenate([*(each[i][0] for each in held), k], axis=1)
            values = np.concatenate([*(each[i][1] for each in held), v], axis=1)
            mixed = softmax(q @ keys.transpose(0, 2, 1) / np.sqrt(np.float32(q.shape[-1])) + bias) @ values
            x = (x + mixed.transpose(1, 0, 2).reshape(len(x), -1) @ w["attn_output"].T) / divisor
            norm = self._norm(x, w["ffn_norm"])
            x = (x + (gelu_erf(norm @ w["ffn_gate"].T) * (norm @ w["ffn_up"].T)) @ w["ffn_down"].T) / divisor
        return self._norm(x, self.tensors["output_norm.weight"]), new

    def _norm(self, x: F32, weight: F32) -> F32:
        result: F32 = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self.eps)) * weight
        return result

    def _heads(self, x: F32) -> F32:
        return x.reshape(len(x), self.n_head, -1).transpose(1, 0, 2)


def _columns(cells: RequestCells) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    ids, subs = np.array(cells.columns, np.int32).T
    return ids, subs


def numpy_beit3(path: Path, pixels: F32) -> F32:
    """Image embeddings [n_queries, width of the language model] of pixels [3, S, S]."""
    keys, w = read_gguf(path)
    n_head, p = keys["beit3.attention.head_count"], keys["beit3.patch_size"]
    side = keys["beit3.image_size"] // p
    patches = pixels.reshape(3, side, p, side, p).transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
    patches = patches @ w["v.patch.weight"].reshape(len(w["v.patch.weight"]), -1).T + w["v.patch.bias"]
    rows = {"a": np.concatenate([w["v.cls"][None], patches + w["v.pos"]]), "b": w["v.query"]}
    n_image = len(rows["a"])

    def norm(name: str, x: F32) -> F32:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(
            (centred**2).mean(axis=-1, keepdims=True) + keys["beit3.attention.layer_norm_epsilon"]
        )
        result: F32 = (scaled * w[f"{name}.weight"] + w[f"{name}.bias"]).astype(np.float32)
        return result

    def linear(name: str, x: F32) -> F32:
        result: F32 = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        return result

    for i in range(keys["beit3.block_count"]):
        normed = {s: norm(f"v.blk.{i}.{s}.ln1", x) for s, x in rows.items()}
        q, k, v = (
            np.concatenate([linear(f"v.blk.{i}.{s}.attn_{part}", x) for s, x in normed.items()])
            .reshape(n_image + len(rows["b"]), n_head, -1)
            .transpose(1, 0, 2)
            for part in "qkv"
        )
        mixed = (softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])) @ v).transpose(1, 0, 2)
        joined = mixed.reshape(len(mixed), -1)
        for s, part in (("a", joined[:n_image]), ("b", joined[n_image:])):
            x = rows[s] + linear(f"v.blk.{i}.{s}.attn_out", norm(f"v.blk.{i}.{s}.attn_ln", part))
            up = gelu_erf(linear(f"v.blk.{i}.{s}.ffn_up", norm(f"v.blk.{i}.{s}.ln2", x)))
            rows[s] = x + linear(f"v.blk.{i}.{s}.ffn_down", norm(f"v.blk.{i}.{s}.ffn_ln", up))
    return linear("mm.2", gelu_erf(linear("mm.0", norm("v.post_ln.b", rows["b"]))))


class NumpyBeeEngine:
    """`NumpyBee` as a `BeeEngine`, with room for as many tokens as a test wants."""

    n_threads = 1

    def __init__(self, path: Path, n_ctx: int = 3513) -> None:
        self._bee, self.n_ctx, self.is_closed = NumpyBee(path), n_ctx, False
        self.n_embd = self._bee.keys["cpmbee.embedding_length"]

    def prefill(
        self, cells: RequestCells, images: Mapping[int, F32], _should_stop: Callable[[], bool] | None = None
    ) -> F32:
        # What the answer begins with is a step of its own here.
        at = int(cells.is_context.sum())
        parts = {name: getattr(cells, name)[:at] for name in ("ids", "subs", "positions", "segments")}
        self._bee.prefill(replace(cells, **parts), {name: images[begin] for name, begin in cells.images})
        for token in zip(cells.ids[at:], cells.subs[at:], strict=True):
            hidden = self._bee.step([0], [token])
        logits: F32 = self._bee.logits(hidden)[0]
        return logits

    def step(
        self,
        parents: Sequence[int],
        ids: Sequence[int],
        *,
        segments: Sequence[int],
        positions: Sequence[int],
        subs: Sequence[int],
    ) -> F32:
        assert set(segments) == {self._bee._cells.answer_segment} and len(set(positions)) == 1
        return self._bee.logits(self._bee.step(parents, list(zip(ids, subs, strict=True))))

    def close(self) -> None:
        self.is_closed = True
