"""From a name to one loaded model: files found, memory checked, everything wired."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from palo_cpp.decoding.beam_search import BeamOptions
from palo_cpp.decoding.speculation.steps import Speculation
from palo_cpp.errors import ArgumentError
from palo_cpp.families.family import LoadOptions
from palo_cpp.llm.context import checked_n_parallel
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.llm.text_model import TextModel
from palo_cpp.machine import memory_available
from palo_cpp.models.admission import Admission
from palo_cpp.models.draft_model import DraftModel, check_draft, draft_memory
from palo_cpp.models.files import ModelFiles, check_widths, find_model
from palo_cpp.models.hub_models import CACHE_ONLY, HubOptions
from palo_cpp.models.loaded_model import BeamPart, LoadedModel, PrefixModel
from palo_cpp.models.memory import MemoryEstimate, check_memory_fits, estimate_memory
from palo_cpp.vision.embedder import Embedder, NoImages
from palo_cpp.vision.embedding_cache import EmbeddingCache, encoder_id
from palo_cpp.vision.encoder import VisionEncoder
from palo_cpp.vision.image_embedder import ImageEmbedder, ProjectorOnTower
from palo_cpp.vision.image_encoder import ImageEncoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """What a user may choose beside the model itself; see `Palo`.

    Attributes:
        options: context, threads, arithmetic, kernels.
        preprocess: how images are made square; None does what the model's files say.
        speculation: decode a guessed token along with a chosen one where that saves time.
        draft: files of a smaller model that guesses.
        embeddings: keeps the embeddings of images.
        hub: how names of the hub are looked up.
        n_waiting: questions that wait at most while others are answered; None takes any number.
    """

    options: LoadOptions = field(default_factory=LoadOptions)
    preprocess: str | None = None
    speculation: bool = True
    draft: ModelFiles | None = None
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)
    hub: HubOptions = CACHE_ONLY
    n_waiting: int | None = None


def load_model(model: str | Path, choices: Choices) -> LoadedModel:
    """Find a model and load it.

    Args:
        model: as `find_model` takes it.
        choices: how.

    Raises:
        ModelNotFoundError: a file is not there.
        DownloadError: it could not be fetched.
        ModelFormatError: a file is damaged, or the two do not belong together.
        OutOfMemoryError: it would not fit into this machine's memory; nothing was loaded.
        ArgumentError: a number out of range, or a draft model that does not go with the model.
    """
    files = find_model(model, choices.hub)
    loaded = load_files(files, choices)
    if notice := files.family.notice(files.text):  # last: it would only distract from an error
        logger.warning("%s", notice)
    return loaded


def load_files(files: ModelFiles, choices: Choices) -> LoadedModel:
    """Load the files of a model; see `load_model`."""
    _check_choices(files, choices)
    language_model = files.family.open_language_model(files.text, choices.options)
    try:
        encoder = files.family.open_encoder(
            files.mmproj,
            n_threads=language_model.n_threads,
            precision=choices.options.vision_precision,
        )
        mode = _image_mode(files, language_model, encoder, choices)
        prefix = beam = None
        if isinstance(language_model, LanguageModel):
            assert encoder is not None  # the family's mmproj is "needed"
            prefix = _prefix_model(language_model, encoder, choices, mode)
        else:
            beam = BeamPart(language_model, files.family.capabilities.beam or BeamOptions(n_beams=1))
    except BaseException:
        language_model.close()
        raise
    embedder = _embedder(files, encoder, choices.embeddings, mode, prefix)
    languages = files.family.languages(files.text)
    n_running = choices.options.n_parallel if prefix else 1
    admission = Admission(n_running, choices.n_waiting)
    return LoadedModel(files.family, files, language_model, encoder, embedder, prefix, beam, languages, admission)


def _image_mode(files: ModelFiles, model: TextModel, encoder: ImageEncoder | None, choices: Choices) -> str:
    """How images are made square; "" where none is ever shown."""
    if encoder is None:
        return ""
    check_widths(files, n_embd=model.n_embd, n_embd_image=encoder.info.n_embd)
    return choices.preprocess or encoder.info.preprocess


def _check_choices(files: ModelFiles, choices: Choices) -> None:
    modes = files.family.image_modes
    if choices.preprocess not in (None, *modes):
        raise ArgumentError(f"preprocess: expected {', '.join(modes)} or None, got {choices.preprocess!r}; choose one")
    n_ctx = choices.options.n_ctx or files.family.sizes(files.text).n_ctx
    if choices.draft:
        check_draft(files, choices.draft)
    if choices.n_waiting is not None and choices.n_waiting < 0:
        raise ArgumentError(f"n_waiting: expected 0 or more, or None, got {choices.n_waiting}")
    check_memory_fits(needed_memory(files, choices), memory_available(), n_ctx=n_ctx)


def needed_memory(files: ModelFiles, choices: Choices) -> MemoryEstimate:
    """What a model and its draft model will take."""
    sizes = files.family.sizes(files.text)
    n_ctx = choices.options.n_ctx or sizes.n_ctx
    precision = choices.options.vision_precision
    n_cells = n_ctx * checked_n_parallel(choices.options.n_parallel)
    estimate = estimate_memory(files.text, files.mmproj, sizes, n_ctx=n_cells, vision_precision=precision)
    if (context := files.family.context_bytes(files.text, n_ctx=n_ctx)) is not None:
        estimate = replace(estimate, kv_cache=context[0], compute=context[1])
    return estimate + draft_memory(choices.draft, n_ctx=n_ctx) if choices.draft else estimate


def _prefix_model(model: LanguageModel, encoder: ImageEncoder, choices: Choices, mode: str) -> PrefixModel:
    is_guessing = choices.speculation and model.has_equal_rows
    draft = None
    if choices.draft and is_guessing:
        assert isinstance(encoder, VisionEncoder)  # check_draft compared the towers
        draft = DraftModel(choices.draft, model, encoder, choices.embeddings, mode=mode)
    elif choices.draft:
        logger.warning("the draft model is not used: speculation is off, or llama.cpp's own kernels are in use")
    return PrefixModel(model, KvCache(model), Speculation(model, draft) if is_guessing else None, draft)


def _embedder(
    files: ModelFiles, encoder: ImageEncoder | None, embeddings: EmbeddingCache, mode: str, prefix: PrefixModel | None
) -> Embedder:
    if encoder is None:
        return NoImages(files.name)
    on_tower = None
    if prefix and prefix.draft:
        assert isinstance(encoder, VisionEncoder)  # it is the draft model's tower, too
        on_tower = ProjectorOnTower(encoder, prefix.draft.tower)
    identity = encoder_id(files.mmproj or files.text, encoder)
    return ImageEmbedder(encoder, embeddings, identity, mode=mode, on_tower=on_tower)
