"""An answer found by beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.chat.whole_prompt_run import WholePromptRun
from palo_cpp.decoding.beam_search import BeamSearch

if TYPE_CHECKING:
    from palo_cpp.chat.language_policy import Plan
    from palo_cpp.models.loaded_model import BeamPart
    from palo_cpp.vision.embedder import Embedder


class BeamRun(WholePromptRun):
    """One attempt at an answer; text is shown as soon as all paths agree on it, and never taken back.

    Args:
        part: the model, and who holds it.
        embedder: encodes images.
        plan: the question, and how its language is kept.
        n_beams: paths that are searched.
        has_byte_tokens: see `Capabilities`.
    """

    def __init__(self, part: BeamPart, embedder: Embedder, plan: Plan, n_beams: int, **named: Any) -> None:
        super().__init__(part, embedder, plan, **named)
        self._search = BeamSearch(
            replace(part.options, n_beams=n_beams),
            self._table.ends_generation,
            min(plan.request.options.max_tokens, self._n_room),
            self._table.base_ids,
        )

    def _choose(self, logits: NDArray[np.float32]) -> None:
        search = self._search
        search.take(logits)
        for token in search.settled[len(self.decoding.token_ids) :]:
            if self.decoding.is_finished:
                break
            self._shown.append(self.decoding.accept(token))
        if search.is_finished and not self.decoding.is_finished:
            self.decoding.end("stop" if search.has_ended_itself else "context")

    def _appended(self) -> tuple[Sequence[int], Sequence[int]]:
        return self._search.parents, self._search.tokens
