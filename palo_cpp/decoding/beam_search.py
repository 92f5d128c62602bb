"""Beam search: the answer that is likeliest as a whole, searched on several paths side by side.

Source: OpenBMB/VisCPM, VisCPM/generation/vllm_bee.py (`VLLMCPMBeeBeamSearch`): the order of penalty, temperature and
log-softmax, the six best of three beams, the test for the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ModelFormatError
from palo_cpp.llm.text_model import TextModel
from palo_cpp.llm.token_table import TokenTable
from palo_cpp.segments import Segment


@dataclass(frozen=True)
class BeamOptions:
    """How to search.

    Attributes:
        n_beams: paths that are followed at once.
        temperature: divides the logits.
        repetition_penalty: divides positive logits of tokens that the path has, and multiplies negative ones.
        length_penalty: a finished path's score is its log-probability over its length to this power.
        opening: tokens that the model puts before each path; the repetition penalty counts them, too.
    """

    n_beams: int = 3
    temperature: float = 0.7
    repetition_penalty: float = 1.1
    length_penalty: float = 3.0
    opening: tuple[int, ...] = ()


class BeamModel(TextModel, Protocol):
    """A language model that takes a whole prompt and then steps several paths at once."""

    def token_table_for(self, segments: Sequence[Segment]) -> TokenTable:
        """What tokens mean in answers to a prompt, which may have words of its own after the vocabulary."""
        ...

    def prefill(
        self,
        segments: Sequence[Segment],
        embeddings: Mapping[str, NDArray[np.float32]],
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        """Take a prompt; what was held before is forgotten.

        Args:
            segments: the prompt.
            embeddings: of all its images, by content hash.
            should_stop: asked while it is taken, whether anybody still waits for the answer.

        Returns:
            logits f32 that follow, one for each token of `token_table_for` this prompt.

        Raises:
            AnswerStopped: nobody does; then no prompt is held.
        """
        ...

    def step(self, parents: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float32]:
        """Append a token to each path.

        Args:
            parents: the earlier path that each continues.
            tokens: one for each.

        Returns:
            logits [n_paths, n_tokens] f32 that follow.
        """
        ...


def penalized(
    logits: NDArray[Any], tokens: Sequence[int], options: BeamOptions, base_ids: Mapping[int, int]
) -> NDArray[Any]:
    """Logits [n_tokens] after the repetition penalty; they are changed in place.

    Args:
        logits: that follow a path.
        tokens: of the path.
        options: how much, and what the model puts before each path.
        base_ids: tokens that count as another one.
    """
    fed = {*options.opening, *(base_ids.get(token, token) for token in tokens)}
    if fed:
        seen = np.array(sorted(fed))
        penalty = options.repetition_penalty
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return logits


@dataclass(frozen=True)
class _Path:
    tokens: tuple[int, ...] = ()
    score: float = 0.0
    has_ended: bool = False  # by a token that ends it


@dataclass
class BeamSearch:
    """One search.

    Attributes:
        options: how to search.
        ends_generation: [n_tokens] bool, tokens that end a path.
        max_tokens: tokens after which a path is cut.
        base_ids: tokens that count as another one for the repetition penalty, as a request's own words.
        parents, tokens: the step that the model is to take next, unless the search `is_finished`.
    """

    options: BeamOptions
    ends_generation: NDArray[np.bool_]
    max_tokens: int
    base_ids: Mapping[int, int] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    is_finished: bool = False
    _live: list[_Path] = field(default_factory=lambda: [_Path()])
    _ended: list[_Path] = field(default_factory=list)

    def take(self, logits: NDArray[np.float32]) -> None:
        """Choose the paths' next tokens.

        Args:
            logits: [n_paths, n_tokens] f32 after the paths of `tokens`, or [1, n_tokens] after the prompt.

        Raises:
            ModelFormatError: the logits are not numbers.
        """
        if np.isnan(logits).any():
            raise ModelFormatError("logits: expected numbers, got nan; the weights are damaged: convert them again")
        scores = np.stack([self._scores(path, row) for path, row in zip(self._live, logits, strict=True)])
        best = self._best(scores)
        length = len(self._live[0].tokens) + 1
        if self._is_settled(float(scores.flat[best[0]]), length):
            self._live = []
        else:
            self._extend(scores, best, length)
        if length >= self.max_tokens:
            self._cut(length)
        self.is_finished = not self._live

    @property
    def settled(self) -> tuple[int, ...]:
        """The tokens that are certain to stay: what all paths begin with, and at the end all of the best one.

        Of those that have ended only the best may still be the answer.
        """
        if self.is_finished:
            return self.best.tokens
        first, *rest = [*self._live, *([self.best] if self._ended else [])]
        n = len(first.tokens)
        for path in rest:
            same = (a == b for a, b in zip(first.tokens[:n], path.tokens, strict=False))
            n = next((i for i, equal in enumerate(same) if not equal), min(n, len(path.tokens)))
        return first.tokens[:n]

    @property
    def has_ended_itself(self) -> bool:
        """Whether the best path ended by a token that ends it."""
        return self.best.has_ended

    @property
    def best(self) -> _Path:
        """The finished path with the best score, without the token that ended it."""
        return max(self._ended, key=lambda path: path.score)

    def _scores(self, path: _Path, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-probability [n_tokens] of a path with each next token."""
        logits = penalized(row.astype(np.float64), path.tokens, self.options, self.base_ids)
        logits /= self.options.temperature
        logits -= logits.max()
        scores: NDArray[np.float64] = path.score + logits - np.log(np.exp(logits).sum())
        return scores

    def _best(self, scores: NDArray[np.float64]) -> list[int]:
        """The best twice as many continuations as there are beams, as indices into all, best first; ties by index."""
        flat = scores.ravel()
        n = min(2 * self.options.n_beams, flat.size)
        # Sorting all of them takes 20 ms of a step; those as good as the n-th are few.
        good = np.flatnonzero(flat >= np.partition(flat, flat.size - n)[flat.size - n])
        order = good[np.argsort(-flat[good], kind="stable")][:n]
        return [int(i) for i in order]

    def _is_settled(self, best: float, length: int) -> bool:
        """Whether the finished paths are better than the best one that goes on.

        Source: `is_done(best, i)` in `VLLMCPMBeeBeamSearch._decode`, where i counts the steps before this one: the
        candidate is measured by the length that it had, not by the one that it would get.
        """
        if len(self._ended) < self.options.n_beams:
            return False
        worst: float = min(path.score for path in self._ended)
        return bool(worst >= best / float(length - 1) ** self.options.length_penalty)

    def _extend(self, scores: NDArray[np.float64], best: Sequence[int], length: int) -> None:
        live, parents = [], []
        for index in best:
            parent, token = divmod(index, scores.shape[1])
            path, score = self._live[parent], float(scores[parent, token])
            if not np.isfinite(score):
                continue
            if self.ends_generation[token]:
                self._end(_Path(path.tokens, score / float(length) ** self.options.length_penalty, True))
                continue
            live.append(_Path((*path.tokens, token), score))
            parents.append(parent)
            if len(live) == self.options.n_beams:
                break
        self._live, self.parents, self.tokens = live, parents, [path.tokens[-1] for path in live]

    def _end(self, path: _Path) -> None:
        self._ended.append(path)
        self._ended.sort(key=lambda ended: -ended.score)
        del self._ended[self.options.n_beams :]

    def _cut(self, length: int) -> None:
        """Paths that are still live end here, and count by what they have."""
        for path in self._live:
            self._end(_Path(path.tokens, path.score / float(length) ** self.options.length_penalty))
        self._live = []
