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
        candidates = np.empty(len(ids), dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        candidates["id"] = ids
        candidates["logit"] = logits[ids]
        candidates["p"] = 0.0
        data = candidates.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
        array = llama.llama_token_data_array(data=data, size=len(ids), selected=-1, sorted=False)
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        llama.llama_sampler_accept(self._chain, token)
        return token


def _highest(logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None, n: int) -> NDArray[np.intp]:
    """Ids of the `n` highest logits that are allowed, and of those equal to the last of them.

    llama.cpp's own choice of them takes ten times as long, a partition of all of them twice as long as this.
    """
    values = logits
    if allowed is not None:
        values = logits.copy()
        np.copyto(values, -np.inf, where=~allowed)
    n_columns = len(values) // _N_OF_COLUMN
    if n < n_columns:  # n columns have a maximum of at least this, so n values do
        maxima = values[: n_columns * _N_OF_COLUMN].reshape(_N_OF_COLUMN, n_columns).max(axis=0)
        ids = np.flatnonzero(values >= np.partition(maxima, -n)[-n])
    else:
        ids = np.arange(len(values))
    if n < len(ids):
        ids = ids[values[ids] >= np.partition(values[ids], -n)[-n]]
    return ids if allowed is None else ids[allowed[ids]]


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
