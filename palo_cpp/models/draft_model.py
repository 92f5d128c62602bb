"""A smaller model that drafts: its next token is a guess at the larger one's (decoding/speculation).

It takes the same conversation: the same tokens, for the vocabulary is the same, and of an image what its own projector
makes of the one vision tower's hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.speculation.counts import Guess
from palo_cpp.errors import ArgumentError
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.models.files import ModelFiles, check_widths
from palo_cpp.models.memory import MemoryEstimate, estimate_memory
from palo_cpp.segments import ImageSegment, Segment, TextSegment
from palo_cpp.vision.embedding_cache import EmbeddingCache, encoder_id
from palo_cpp.vision.encoder import VisionEncoder
from palo_cpp.vision.image_embedder import ImageEmbedder, ProjectorOnTower, SharedTower

if TYPE_CHECKING:
    from palo_cpp.ggml.gguf_header import GgufHeader

# The mmproj file's keys of the tower begin with one of these, but for two of the projector.
_TOWER_KEYS = ("clip.vision.", "clip.use_")
_PROJECTOR_KEYS = ("clip.vision.projection_dim", "clip.vision.projector_type")
_TOWER_TENSORS = "v."


def check_draft(files: ModelFiles, draft: ModelFiles) -> None:
    """Refuse a draft model that cannot take what the larger one takes.

    Args:
        files: of the larger model.
        draft: of the draft model.

    Raises:
        ArgumentError: another family, another vocabulary or another vision tower.
    """
    name, drafter = files.text.path.name, draft.text.path.name
    if files.family is not draft.family or not files.family.capabilities.reuses_prefix:
        raise ArgumentError(
            f"draft: expected a smaller model of the family of {name}, got {drafter} of {draft.family.name}; "
            "only models whose prompts are prefixes can draft for each other"
        )
    if files.text.tokens != draft.text.tokens:
        raise ArgumentError(
            f"draft: expected the vocabulary of {name} ({len(files.text.tokens)} tokens), got another one in {drafter} "
            f"({len(draft.text.tokens)} tokens); take a model of the same family"
        )
    if files.mmproj is None or draft.mmproj is None or _tower_of(files.mmproj) != _tower_of(draft.mmproj):
        mmproj, other = (each.mmproj.path.name if each.mmproj else "no mmproj file" for each in (files, draft))
        raise ArgumentError(
            f"draft: expected the vision tower of {mmproj}, got another one in {other}; "
            "convert both checkpoints with the same tower and the same --mmproj-outtype"
        )


def _tower_of(mmproj: GgufHeader) -> tuple[dict[str, object], str]:
    values = {**mmproj.metadata, **mmproj.numbers}
    metadata: dict[str, object] = {
        key: value for key, value in values.items() if key.startswith(_TOWER_KEYS) and key not in _PROJECTOR_KEYS
    }
    return metadata, mmproj.tensors_id(_TOWER_TENSORS)


def draft_n_ctx(draft: ModelFiles, n_ctx: int) -> int:
    """Tokens of context of a draft model beside a larger one with `n_ctx`."""
    return min(n_ctx, draft.family.sizes(draft.text).n_ctx)


def draft_memory(draft: ModelFiles, *, n_ctx: int) -> MemoryEstimate:
    """What the draft model takes beside the larger one, whose context has `n_ctx` tokens; its projector is little."""
    return estimate_memory(draft.text, None, draft.family.sizes(draft.text), n_ctx=draft_n_ctx(draft, n_ctx))


class DraftModel:
    """A draft model, loaded.

    Args:
        files: its files, checked by `check_draft`.
        beside: the model that it drafts for, whose threads and kernels it takes on.
        vision: that one's encoder, whose precision it takes on.
        embeddings: keeps embeddings of images seen before.
        mode: how images are made square, "pad" or "crop".

    Attributes:
        model: the language model.
        projector: its projector, without a tower.
        tower: the vision tower of both.
    """

    def __init__(
        self,
        files: ModelFiles,
        beside: LanguageModel,
        vision: VisionEncoder,
        embeddings: EmbeddingCache,
        *,
        mode: str,
    ) -> None:
        """Load it.

        Raises:
            ModelFormatError: a file is damaged.
            OutOfMemoryError: no memory for it.
        """
        assert files.mmproj is not None  # check_draft compared it
        self.model = LanguageModel(
            files.text.path,
            n_ctx=draft_n_ctx(files, beside.n_ctx),
            n_threads=beside.n_threads,
            backend=beside.backend.mode,
            header=files.text,
        )
        try:
            self.projector = VisionEncoder(
                files.mmproj.path, n_threads=vision.n_threads, precision=vision.precision, with_tower=False
            )
            check_widths(files, n_embd=self.model.n_embd, n_embd_image=self.projector.info.n_embd)
        except BaseException:
            self.model.close()
            raise
        self.tower = SharedTower(vision)
        on_tower = ProjectorOnTower(self.projector, self.tower)
        identity = encoder_id(files.mmproj, self.projector)
        self._embedder = ImageEmbedder(self.projector, embeddings, identity, mode=mode, on_tower=on_tower)
        self._cache = KvCache(self.model)

    def follow(self, segments: Sequence[Segment]) -> Draft | None:
        """Draft one answer.

        Args:
            segments: the larger model's prompt.

        Returns:
            None where an image's pixels are not known any more.
        """
        seen = [self._seen(each) if isinstance(each, ImageSegment) else each for each in segments]
        return Draft(self._cache, self._embedder, self.model.n_ctx, [e for e in seen if e]) if all(seen) else None

    def _seen(self, image: ImageSegment) -> ImageSegment | None:
        if image.square is None:
            return None
        return self._embedder.reopen(image.square, mode=image.preprocess, size=image.size)

    def forget(self) -> None:
        """Drop what its context and its tower hold."""
        self._cache.clear()
        self.tower.forget()

    def close(self) -> None:
        """Free it. Closing twice does nothing."""
        self.model.close()
        self.projector.close()


class Draft:
    """What the draft model would say next in one answer; a `Drafter`.

    Args:
        cache: its context.
        embedder: encodes images for it.
        n_ctx: tokens that fit into its context.
        segments: the prompt.
    """

    def __init__(self, cache: KvCache, embedder: ImageEmbedder, n_ctx: int, segments: Sequence[Segment]) -> None:
        self._cache, self._embedder, self._n_ctx, self._segments = cache, embedder, n_ctx, list(segments)
        self._answer: list[int] = []

    def take(self, token: int) -> None:
        """The answer continues with this token."""
        self._answer.append(token)

    @property
    def n_answered(self) -> int:
        """Tokens of the answer until now."""
        return len(self._answer)

    @property
    def n_unread(self) -> int:
        """Positions that it must prefill before it can guess."""
        return self._cache.n_to_prefill(self._prompt())

    @property
    def has_room(self) -> bool:
        """Whether all that it must prefill fits into its context."""
        return sum(map(len, self._segments)) + len(self._answer) < self._n_ctx

    def guess(self) -> Guess:
        """The likeliest next token, and how likely it finds that one."""
        prompt = self._prompt()
        embeddings: dict[str, NDArray[np.float32]] = {}
        while (cursor := self._cache.prefill(prompt, embeddings)) is None:
            for image in self._cache.images_to_prefill(prompt):
                embeddings[image.content_hash] = self._embedder.embed(image).rows
        self._cache.release(cursor)
        token = int(cursor.logits.argmax())
        return Guess(token, float(1.0 / np.exp(cursor.logits - cursor.logits[token]).sum()))

    def _prompt(self) -> list[Segment]:
        return [*self._segments, TextSegment(tuple(self._answer))] if self._answer else self._segments
