"""A smaller model that drafts: what it would say next is a guess at what the larger one says (speculation.py).

It reads the same conversation: the same tokens, for the vocabulary is the same, and of an image what its own projector
makes of the one vision tower's hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from palo_cpp.chat.session_records import StoredImage
from palo_cpp.decoding.speculation import Guess
from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.prompt import ImageSegment, Segment, TextSegment
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.llm.language_model import LanguageModel, default_n_ctx
from palo_cpp.machine import MemoryEstimate, estimate_memory
from palo_cpp.models.files import ModelFiles, check_widths
from palo_cpp.vision.embedding_cache import FeatureCache, encoder_id
from palo_cpp.vision.encoder import VisionEncoder
from palo_cpp.vision.image_embedder import ImageEmbedder, SharedTower

if TYPE_CHECKING:
    from palo_cpp.ggml.gguf_header import GgufHeader

# Of the mmproj file's keys, those that tell of the tower; the first two, of the projector.
_TOWER_KEYS = ("clip.vision.", "clip.use_")
_PROJECTOR_KEYS = ("clip.vision.projection_dim", "clip.vision.projector_type")
_TOWER_TENSORS = "v."


def check_draft(files: ModelFiles, draft: ModelFiles) -> None:
    """Refuse a draft model that cannot read what the larger one reads.

    Args:
        files: of the larger model.
        draft: of the draft model.

    Raises:
        ArgumentError: another vocabulary or another vision tower.
    """
    name, drafter = files.text.path.name, draft.text.path.name
    if files.text.tokens != draft.text.tokens:
        raise ArgumentError(
            f"draft: expected the vocabulary of {name} ({len(files.text.tokens)} tokens), got another one in {drafter} "
            f"({len(draft.text.tokens)} tokens); take a model of the same family"
        )
    if _tower_of(files.mmproj) != _tower_of(draft.mmproj):
        raise ArgumentError(
            f"draft: expected the vision tower of {files.mmproj.path.name}, got another one in "
            f"{draft.mmproj.path.name}; convert both checkpoints with the same tower and the same --mmproj-outtype"
        )


def _tower_of(mmproj: GgufHeader) -> tuple[dict[str, object], str]:
    values = {**mmproj.metadata, **mmproj.numbers}
    metadata: dict[str, object] = {
        key: value for key, value in values.items() if key.startswith(_TOWER_KEYS) and key not in _PROJECTOR_KEYS
    }
    return metadata, mmproj.tensors_id(_TOWER_TENSORS)


def draft_memory(draft: ModelFiles, *, n_ctx: int) -> MemoryEstimate:
    """What the draft model takes beside the larger one, whose context has `n_ctx` tokens; its projector is little."""
    return estimate_memory(draft.text, None, n_ctx=min(n_ctx, default_n_ctx(draft.text)))


class DraftModel:
    """A draft model, loaded.

    Args:
        files: its files, checked by `check_draft`.
        beside: the model that it drafts for, whose threads and kernels it takes on.
        vision: that one's encoder, whose precision it takes on.
        features: keeps embeddings of images seen before.
        mode: how images are made square, "pad" or "crop".

    Attributes:
        model: the language model.
        tower: the vision tower of both.
    """

    def __init__(
        self,
        files: ModelFiles,
        beside: LanguageModel,
        vision: VisionEncoder,
        features: FeatureCache,
        *,
        mode: str,
    ) -> None:
        """Load it.

        Raises:
            ModelFormatError: a file is damaged.
            OutOfMemoryError: no memory for it.
        """
        self.model = LanguageModel(
            files.text.path,
            n_ctx=min(beside.n_ctx, default_n_ctx(files.text)),
            n_threads=beside.n_threads,
            backend=beside.backend.mode,
            header=files.text,
        )
        try:
            self._projector = VisionEncoder(
                files.mmproj.path, n_threads=vision.n_threads, precision=vision.precision, with_tower=False
            )
            check_widths(files, n_embd=self.model.n_embd, n_embd_image=self._projector.info.n_embd)
        except BaseException:
            self.model.close()
            raise
        self.tower = SharedTower(vision)
        name = encoder_id(files.mmproj, precision=vision.precision, isa=vision.isa)
        self._embedder = ImageEmbedder(self._projector, features, name, mode=mode, tower=self.tower)
        self._cache = KvCache(self.model)

    def follow(self, segments: Sequence[Segment]) -> Draft | None:
        """Draft one answer.

        Args:
            segments: the larger model's prompt.

        Returns:
            None where an image's pixels are not known any more.
        """
        seen = [self._seen(each) if isinstance(each, ImageSegment) else each for each in segments]
        return Draft(self._cache, self.model.n_ctx, [each for each in seen if each]) if all(seen) else None

    def _seen(self, image: ImageSegment) -> ImageSegment | None:
        if image.square is None:
            return None
        return self._embedder.reopen(StoredImage(image.content_hash, image.preprocess, image.size, image.square))

    def forget(self) -> None:
        """Drop what stands in its context."""
        self._cache.clear()

    def close(self) -> None:
        """Free it. Closing twice does nothing."""
        self.model.close()
        self._projector.close()


class Draft:
    """What the draft model would say next in one answer.

    Args:
        cache: its context.
        n_ctx: tokens that fit into that.
        segments: the prompt.
    """

    def __init__(self, cache: KvCache, n_ctx: int, segments: Sequence[Segment]) -> None:
        self._cache, self._n_ctx, self._segments = cache, n_ctx, list(segments)
        self._answer: list[int] = []

    def take(self, token: int) -> None:
        """The answer goes on with this token."""
        self._answer.append(token)

    @property
    def n_answered(self) -> int:
        """Tokens of the answer until now."""
        return len(self._answer)

    @property
    def n_unread(self) -> int:
        """Positions that it must read before it can guess."""
        return self._cache.n_unread(self._prompt())

    @property
    def has_room(self) -> bool:
        """Whether all that it must read fits into its context."""
        return sum(map(len, self._segments)) + len(self._answer) < self._n_ctx

    def guess(self) -> Guess:
        """The likeliest next token, and how likely it finds that one."""
        cursor = self._cache.read(self._prompt())
        self._cache.release(cursor)
        token = int(cursor.logits.argmax())
        return Guess(token, float(1.0 / np.exp(cursor.logits - cursor.logits[token]).sum()))

    def _prompt(self) -> list[Segment]:
        return [*self._segments, TextSegment(tuple(self._answer))] if self._answer else self._segments
