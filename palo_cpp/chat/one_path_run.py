"""An answer chosen token by token, in families that hold one prompt and can also search: quicker, and it streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from palo_cpp.chat.whole_prompt_run import WholePromptRun
from palo_cpp.decoding.beam_search import penalized


class OnePathRun(WholePromptRun):
    """One attempt at an answer; each token is shown when it is chosen.

    The family's repetition penalty holds here, too; its temperature and length penalty compare paths, and there is one.
    """

    def _choose(self, logits: NDArray[np.float32]) -> None:
        decoding = self.decoding
        row = penalized(logits[0].copy(), decoding.token_ids, self._part.options, self._table.base_ids)
        self._shown.append(decoding.take(row))
        if len(decoding.token_ids) >= self._n_room:
            decoding.end("context")

    def _appended(self) -> tuple[Sequence[int], Sequence[int]]:
        return [0], self.decoding.token_ids[-1:]
