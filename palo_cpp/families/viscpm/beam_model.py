"""CPM-Bee as beam search knows a language model: requests in, words of a request among the logits, answers from <s> on.

The engine below it computes and knows no text; what it needs of a token is in `protocol.RequestCells`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError
from palo_cpp.families.viscpm.protocol import BeeSegment, RequestCells, request_cells
from palo_cpp.families.viscpm.tokenizer import BOS_ID, EOS_ID, UNK_ID, BeeTokenizer
from palo_cpp.ggml.backend import BackendUse
from palo_cpp.llm.token_table import TokenTable
from palo_cpp.segments import Segment

# What the published code puts for tokens that this request must not say.
_NEVER = -10000.0


class BeeEngine(Protocol):
    """What computes.

    Attributes:
        n_ctx: tokens of a prompt and one path.
        n_embd: width of an embedding.
        n_threads: threads that compute.
        backend: which of its weights our own kernels compute with.
    """

    backend: BackendUse
    n_ctx: int
    n_embd: int
    n_threads: int

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        ...

    def prefill(
        self,
        cells: RequestCells,
        images: Mapping[int, NDArray[np.float32]],
        should_stop: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        """Take a prompt and what its answer begins with; what was held before is forgotten. It is path 0 of the answer.

        Args:
            cells: its tokens; those of the answer are seen by later ones of the answer alone.
            images: place of the first row -> image embeddings [n, n_embd] f32 that stand there.
            should_stop: asked every few layers, whether anybody still waits for the answer.

        Returns:
            logits [n_vocab + `RequestCells.columns`] f32 after its last token.

        Raises:
            AnswerStopped: nobody does; then no prompt is held.
        """
        ...

    def step(
        self,
        parents: Sequence[int],
        ids: Sequence[int],
        *,
        segments: Sequence[int],
        positions: Sequence[int],
        subs: Sequence[int],
    ) -> NDArray[np.float32]:
        """Append a token to each path; logits [n_paths, n_vocab + `RequestCells.columns`] f32 that follow."""
        ...

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        ...


class BeeBeamModel:
    """A `decoding.beam_search.BeamModel`.

    Args:
        engine: computes.
        tokenizer: the vocabulary.
    """

    eos_id = EOS_ID

    def __init__(self, engine: BeeEngine, tokenizer: BeeTokenizer) -> None:
        self.engine, self.tokenizer = engine, tokenizer
        self.n_ctx, self.n_embd, self.n_threads = engine.n_ctx, engine.n_embd, engine.n_threads
        self.n_vocab = tokenizer.n_vocab
        self.metadata: dict[str, Any] = {}
        self._cells: RequestCells | None = None
        self._n_said = 0

    @property
    def backend(self) -> BackendUse:
        """Which of its weights our own kernels compute with."""
        return self.engine.backend

    @property
    def token_table(self) -> TokenTable:
        """The vocabulary's."""
        return self.tokenizer.token_table

    def token_table_for(self, segments: Sequence[Segment]) -> TokenTable:
        """With the words of a request."""
        return self.tokenizer.token_table_with(words_of(segments))

    def tokenize(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Tokens of a text on its own."""
        return [BOS_ID] * add_bos + self.tokenizer.encode(text)

    def tokenize_continued(self, text: str) -> list[int]:
        """The same: no text gets a prefix here."""
        return self.tokenizer.encode(text)

    def prefill(
        self,
        segments: Sequence[Segment],
        embeddings: Mapping[str, NDArray[np.float32]],
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        """Take a request, and begin its answer with `<s>`; see `BeamModel.prefill`.

        Both in one: a step of its own for `<s>` would read all weights again.
        """
        self._cells = cells = request_cells(segments, self.n_vocab)
        images = {begin: embeddings[image] for image, begin in cells.images}
        logits = self.engine.prefill(cells.begun(), images, should_stop)
        self._n_said = 1
        return _allowed(logits, cells)

    def step(self, parents: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float32]:
        """Append a token to each path; see `BeamModel.step`."""
        if self._cells is None:
            raise ArgumentError("step: expected a prompt before it, got none; call prefill first")
        said = [self._base_and_sub(token) for token in tokens]
        n, cells = len(said), self._cells
        logits = self.engine.step(
            parents,
            [base for base, _ in said],
            segments=[cells.answer_segment] * n,
            positions=[self._n_said] * n,
            subs=[sub for _, sub in said],
        )
        self._n_said += 1
        return _allowed(logits, cells)

    def _base_and_sub(self, token: int) -> tuple[int, int]:
        return (token, 0) if token < self.n_vocab else (UNK_ID, token - self.n_vocab + 1)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self.engine.is_closed

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        self.engine.close()


def _allowed(logits: NDArray[np.float32], cells: RequestCells) -> NDArray[np.float32]:
    """Without `<unk>`, where the request has no word that it could stand for."""
    if cells.words:
        return logits
    allowed: NDArray[np.float32] = logits.copy()
    allowed[..., UNK_ID] = _NEVER
    return allowed


def words_of(segments: Sequence[Segment]) -> tuple[str, ...]:
    """Words of a request that the vocabulary lacks, by their places."""
    return next((each.words for each in segments if isinstance(each, BeeSegment)), ())
