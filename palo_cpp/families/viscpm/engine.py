"""CPM-Bee in our C++ core as `BeeBeamModel` wants an engine: requests in, logits of paths out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from palo_cpp.families.viscpm.protocol import RequestCells
from palo_cpp.llm.cpm_bee_model import CpmBeeModel
from palo_cpp.llm.cpm_bee_prompt import BeePrompt


class CpmBeeEngine:
    """A `beam_model.BeeEngine`.

    Args:
        model: computes; closed with the engine.
    """

    def __init__(self, model: CpmBeeModel) -> None:
        self.model = model
        self.n_ctx, self.n_embd, self.n_threads = model.n_ctx, model.n_embd, model.n_threads
        self.backend = model.backend

    def prefill(
        self,
        cells: RequestCells,
        images: Mapping[int, NDArray[np.float32]],
        should_stop: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        """Take a prompt and what its answer begins with; see `BeeEngine.prefill`."""
        return self.model.prefill(
            BeePrompt(
                ids=cells.ids,
                subs=cells.subs,
                segments=cells.segments,
                positions=cells.positions,
                contexts=cells.is_context,
                relations=cells.relations,
                images=images,
                extra=cells.columns,
            ),
            should_stop=should_stop,
        )

    def step(
        self,
        parents: Sequence[int],
        ids: Sequence[int],
        *,
        segments: Sequence[int],
        positions: Sequence[int],
        subs: Sequence[int],
    ) -> NDArray[np.float32]:
        """Append a token to each path; see `BeeEngine.step`."""
        return self.model.step(parents, ids, segments=segments, positions=positions, subs=subs)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self.model.is_closed

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        self.model.close()
