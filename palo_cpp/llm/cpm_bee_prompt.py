"""A prompt as CPM-Bee takes it: tokens in the segments of a tree, with the tokens of unknown words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError

Integers = Sequence[int] | NDArray[Any]
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class BeePrompt:
    """A prompt, whole: its context tokens see each other in both directions.

    Attributes:
        ids: [n] tokens of the vocabulary; an unknown word's is that of `<unk>`.
        subs: [n] number of an unknown word among those of its id, else 0.
        segments: [n] node of the request's tree.
        positions: [n] place; only differences within a segment count.
        contexts: [n] whether a token is context. One that is not (the answer's) is seen by none before it.
        relations: [n_segments, n_segments] code of the query's segment to the key's: 0 for the same one.
        images: index of the first row -> embeddings [m, n_embd] f32 that take the place of the tokens' from there on.
        extra: (id, sub) of the unknown words that may be answered: columns of the logits after the vocabulary's.
    """

    ids: Integers
    subs: Integers
    segments: Integers
    positions: Integers
    contexts: Integers
    relations: NDArray[Any] | Sequence[Sequence[int]]
    images: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    extra: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        return len(self.ids)


def rows_of(ids: Integers, subs: Integers, segments: Integers, positions: Integers) -> NDArray[np.int32]:
    """Four columns [n, 4] i32, as the core takes them.

    Raises:
        ArgumentError: they are not of one length, or no whole numbers of 32 bits.
    """
    names = {"ids": ids, "subs": subs, "segments": segments, "positions": positions}
    columns = [_integers(name, values, 1) for name, values in names.items()]
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(columns[0]):
            raise ArgumentError(f"{name}: expected {len(columns[0])}, one for each token, got {len(column)}")
    return np.ascontiguousarray(np.stack(columns, axis=1))


def prompt_arrays(prompt: BeePrompt, n_embd: int) -> dict[str, NDArray[Any]]:
    """A prompt as the core takes it.

    Args:
        prompt: what to prefill.
        n_embd: width of an embedding.

    Returns:
        Arguments of `_core.CpmBee.prefill`.

    Raises:
        ArgumentError: shapes that contradict each other, or image embeddings that are no numbers.
    """
    rows = rows_of(prompt.ids, prompt.subs, prompt.segments, prompt.positions)
    relations = _integers("relations", prompt.relations, 2)
    if relations.shape[0] != relations.shape[1]:
        raise ArgumentError(f"relations: expected a square of segments, got {list(relations.shape)}")
    image_rows, embeddings = _image_rows(prompt, n_embd)
    extra = _integers("extra", np.asarray(prompt.extra, np.int64).reshape(-1, 2), 2)
    return {
        "rows": rows,
        "is_context": _integers("contexts", np.asarray(prompt.contexts).astype(np.int32), 1),
        "relations": relations,
        "image_rows": image_rows,
        "image_embeddings": embeddings,
        "extra": extra,
    }


def _image_rows(prompt: BeePrompt, n_embd: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    rows: list[int] = []
    blocks: list[NDArray[np.float32]] = [np.empty((0, n_embd), np.float32)]
    for first, embeddings in prompt.images.items():
        if embeddings.ndim != 2 or embeddings.shape[1] != n_embd:
            raise ArgumentError(
                f"image embeddings: expected shape [n, {n_embd}], got {list(embeddings.shape)}; "
                "the mmproj file must belong to this language model"
            )
        if not np.isfinite(embeddings).all():
            raise ArgumentError(
                "image embeddings: expected finite numbers, got NaN or infinity; the image or the mmproj is damaged"
            )
        if first < 0 or first + len(embeddings) > len(prompt):
            raise ArgumentError(
                f"image embeddings: expected rows within the prompt's {len(prompt)}, "
                f"got {first} to {first + len(embeddings) - 1}"
            )
        rows.extend(range(first, first + len(embeddings)))
        blocks.append(embeddings.astype(np.float32, copy=False))
    return np.array(rows, np.int32), np.ascontiguousarray(np.concatenate(blocks))


def _integers(name: str, values: Any, n_dims: int) -> NDArray[np.int32]:
    array = np.asarray(values)
    if array.size == 0 and array.ndim == n_dims:
        return np.ascontiguousarray(array, dtype=np.int32)
    if array.ndim != n_dims or not np.issubdtype(array.dtype, np.integer):
        raise ArgumentError(
            f"{name}: expected whole numbers in {n_dims} dimensions, got {array.dtype} of shape {list(array.shape)}"
        )
    if array.min() < _INT32.min or array.max() > _INT32.max:
        raise ArgumentError(f"{name}: expected numbers of 32 bits, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, dtype=np.int32)
