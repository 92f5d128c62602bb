"""Choosing the next token from logits: the likeliest, or by chance."""

from __future__ import annotations

import ctypes
import secrets
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.options import SEED_MAX, DecodingOptions
from palo_cpp.errors import ModelFormatError
from palo_cpp.ggml.llama_library import llama_library

_N_OF_COLUMN = 64  # logits whose maximum is looked at before they are


class Sampler:
    """Chooses the next token: the likeliest, or by chance through llama.cpp's own samplers."""

    def __init__(self, options: DecodingOptions) -> None:
        self._chain: Any = None
        self.seed: int | None = None
        self._top_k = int(options.top_k)
        self._candidates: _Candidates | None = None
        if options.temperature > 0:
            self.seed = secrets.randbelow(SEED_MAX) if options.seed is None else int(options.seed)
            self._chain = _sampler_chain(options, self.seed)
            weakref.finalize(self, llama_library().llama_sampler_free, self._chain)

    def pick(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None) -> int:
        """Choose a token.

        Args:
            logits: [n_vocab] f32.
            allowed: [n_vocab] bool, which tokens may be chosen, at least one; None allows all.

        Returns:
            Its id.

        Raises:
            ModelFormatError: the logits are not numbers, so the weights are damaged.
        """
        best = int(logits.argmax())  # the first NaN, if there is one
        if not np.isfinite(logits[best]):
            raise ModelFormatError(
                f"logits: expected numbers, got {logits[best]}; the weights are damaged: copy or convert them again"
            )
        if self._chain is not None:
            return self._draw(logits, allowed)
        if allowed is None or allowed[best]:
            return best
        best = int(np.where(allowed, logits, -np.inf).argmax())
        return best if allowed[best] else int(allowed.argmax())  # the model rules out all that is allowed

    def _draw(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None) -> int:
        llama = llama_library()
        ids = _highest(logits, allowed, self._top_k if self._top_k > 0 else len(logits))
        if self._candidates is None or self._candidates.n_max < len(ids):
            self._candidates = _Candidates(len(ids))
        array = self._candidates.filled(ids, logits[ids])
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        llama.llama_sampler_accept(self._chain, token)
        return token


class _Candidates:
    """Memory for what llama.cpp's samplers choose from, used for each token again.

    Args:
        n_max: how many candidates fit.
    """

    def __init__(self, n_max: int) -> None:
        llama = llama_library()
        self.n_max = n_max
        self._fields = np.zeros(n_max, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._data = self._fields.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
        self._array = llama.llama_token_data_array()

    def filled(self, ids: NDArray[np.intp], logits: NDArray[np.float32]) -> Any:
        """A `llama_token_data_array` of these, until the next call."""
        n, array = len(ids), self._array
        self._fields["id"][:n] = ids
        self._fields["logit"][:n] = logits
        self._fields["p"][:n] = 0.0
        array.data, array.size, array.selected, array.sorted = self._data, n, -1, False
        return array


def _highest(logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None, n: int) -> NDArray[np.intp]:
    """Ids of the `n` highest logits that are allowed, and of those equal to the last of them.

    llama.cpp's own choice of them takes ten times as long.
    """
    if n >= len(logits):
        return np.arange(len(logits)) if allowed is None else np.flatnonzero(allowed)
    ids = _about_highest(logits, 2 * n)
    if allowed is not None:
        ids = ids[allowed[ids]]
        if len(ids) < n:  # most of what the model likes is forbidden
            values = logits.copy()
            np.copyto(values, -np.inf, where=~allowed)
            ids = _about_highest(values, n)
            ids = ids[allowed[ids]]
    if n < len(ids):
        values = logits[ids]
        ids = ids[values >= np.partition(values, -n)[-n]]
    return ids


def _about_highest(values: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """Ids of all values from a certain one up, at least `n` where there are so many."""
    n_columns = len(values) // _N_OF_COLUMN
    if n >= n_columns:
        return np.arange(len(values))
    # n columns have maxima of at least this.
    maxima = values[: n_columns * _N_OF_COLUMN].reshape(_N_OF_COLUMN, n_columns).max(axis=0)
    return np.flatnonzero(values >= np.partition(maxima, -n)[-n])


def _sampler_chain(options: DecodingOptions, seed: int) -> Any:
    """The order is llama.cpp's: narrow the choice first, then heat it."""
    llama = llama_library()
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for sampler in (
        llama.llama_sampler_init_top_k(int(options.top_k)),
        llama.llama_sampler_init_top_p(options.top_p, 1),
        llama.llama_sampler_init_min_p(options.min_p, 1),
        llama.llama_sampler_init_temp(options.temperature),
        llama.llama_sampler_init_dist(seed),
    ):
        llama.llama_sampler_chain_add(chain, sampler)
    return chain
