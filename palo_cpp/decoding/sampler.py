"""Choosing the next token from logits: the likeliest, or by chance."""

from __future__ import annotations

import math
import secrets

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.options import SEED_MAX, DecodingOptions
from palo_cpp.errors import ModelFormatError

_BLOCK = 64  # values whose maximum or sum is looked at before they are
_LOWEST_TEMPERATURE = 1e-6  # below it differences of logits leave float32; this is greedy already
_LOWEST_EXPONENT = np.float32(-80)  # no token is that unlikely, and below -87 `np.exp` is slow


class Sampler:
    """Chooses the next token: the likeliest, or by chance among those that top_k, top_p and min_p leave.

    The filters come first and see the model's own probabilities; the temperature acts on what they leave, as in
    llama.cpp.
    """

    def __init__(self, options: DecodingOptions) -> None:
        self._options = options
        self._random: np.random.Generator | None = None
        self.seed: int | None = None
        if options.temperature > 0:
            self.seed = secrets.randbelow(SEED_MAX) if options.seed is None else int(options.seed)
            self._random = np.random.default_rng(self.seed)

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
        if allowed is not None and not allowed[best]:
            values = np.where(allowed, logits, -np.inf)
            best = int(values.argmax())
            if values[best] == -np.inf:  # the model rules out all that is allowed
                return int(allowed.argmax())
        return best if self._random is None else self._draw(logits, allowed, float(logits[best]), self._random)

    def _draw(
        self,
        logits: NDArray[np.float32],
        allowed: NDArray[np.bool_] | None,
        highest: float,
        random: np.random.Generator,
    ) -> int:
        share, lowest = random.random(), self._lowest_kept(logits, allowed, highest)
        if lowest > -math.inf:  # few are left
            ids = np.flatnonzero(logits >= lowest if allowed is None else (logits >= lowest) & allowed)
            return int(ids[_where_sum_passes(share, self._weights(logits[ids], highest))])
        weights = self._weights(logits, highest)
        return _where_sum_passes(share, weights if allowed is None else weights * allowed)

    @np.errstate(over="ignore")  # logits may be as far apart as floats can be
    def _weights(self, logits: NDArray[np.float32], highest: float) -> NDArray[np.float32]:
        temperature = max(self._options.temperature, _LOWEST_TEMPERATURE)
        exponents = np.clip((logits - highest) / temperature, _LOWEST_EXPONENT, 0)  # above 0 are forbidden tokens
        return np.asarray(np.exp(exponents), np.float32)

    @np.errstate(over="ignore")
    def _lowest_kept(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None, highest: float) -> float:
        """The lowest logit that top_k, then top_p, then min_p leave; of equal ones all stay."""
        options, lowest = self._options, -math.inf
        has_top_k, has_top_p = 0 < options.top_k < len(logits), options.top_p < 1
        if has_top_k or has_top_p:
            logits = logits if allowed is None else np.where(allowed, logits, lowest)
        if has_top_k:
            lowest = _nth_highest(logits, int(options.top_k))
        if has_top_p:
            ordered = np.sort(logits.compress(logits >= lowest))[::-1]
            lowest = float(ordered[_where_sum_passes(options.top_p, np.exp(ordered - highest))])
        if options.min_p > 0:
            lowest = max(lowest, highest + math.log(options.min_p))
        return lowest


def _nth_highest(values: NDArray[np.float32], n: int) -> float:
    """The n-th highest value, n < len(values): what `np.partition` finds, which takes ten times as long alone."""
    n_columns = len(values) // _BLOCK
    if n < n_columns:  # n columns have maxima of at least the n-th highest of these
        maxima = values[: n_columns * _BLOCK].reshape(_BLOCK, n_columns).max(axis=0)
        values = values.compress(values >= np.partition(maxima, -n)[-n])
    return float(np.partition(values, -n)[-n])


def _where_sum_passes(share: float, weights: NDArray[np.float32]) -> int:
    """The first index at which the running sum is above this share of the whole; its weight is not 0."""
    sums = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)), dtype=np.float64)
    sought = share * sums[-1]
    block = int(np.searchsorted(sums, sought, side="right"))
    inner = np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
    before = sums[block - 1] if block else 0.0
    # Sums of floats: the block's may be a little lower than what was added up before.
    return block * _BLOCK + min(int(np.searchsorted(inner, sought - before, side="right")), int(inner.argmax()))
