"""A loaded model: what every conversation with it shares."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from palo_cpp.decoding.language_constraint import LanguageConstraints
from palo_cpp.errors import ArgumentError
from palo_cpp.forked import ProcessGuard, process_guard
from palo_cpp.languages.languages import LANGUAGES, Language, get_language
from palo_cpp.models.admission import Admission
from palo_cpp.models.identity import ModelIdentity, identity_of
from palo_cpp.models.names import PUBLISHED

if TYPE_CHECKING:
    from palo_cpp.decoding.beam_search import BeamModel, BeamOptions
    from palo_cpp.decoding.speculation.steps import Speculation
    from palo_cpp.families.family import Capabilities, Family
    from palo_cpp.llm.kv_cache import KvCache
    from palo_cpp.llm.language_model import LanguageModel
    from palo_cpp.models.draft_model import DraftModel
    from palo_cpp.models.files import ModelFiles
    from palo_cpp.vision.embedder import Embedder
    from palo_cpp.vision.image_encoder import ImageEncoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrefixModel:
    """What there is besides where a prompt's keys and values serve the next one.

    Attributes:
        model: the language model.
        cache: what its context holds.
        speculation: guesses tokens ahead; None where that is off.
        draft: a smaller model that guesses them.
    """

    model: LanguageModel
    cache: KvCache
    speculation: Speculation | None = None
    draft: DraftModel | None = None


@dataclass(frozen=True)
class Counters:
    """What a model has done since it was loaded, and is doing.

    Attributes:
        n_running: answers under way.
        n_waiting: questions that wait for their turn.
        n_images_encoded: images for which vision tower and projector ran.
        n_steps: calls of the language model, each for a token of every answer under way or for a piece of a prompt.
        n_rows: rows decoded in them.
        n_rows_reused: positions of prompts that the context held already.
        n_rows_repeated: positions of prompts decoded once more, because their room had been given away.
        n_displaced: answers under way that had to give up their room.
        n_together: the most answers that one step decoded a token of.
    """

    n_running: int = 0
    n_waiting: int = 0
    n_images_encoded: int = 0
    n_steps: int = 0
    n_rows: int = 0
    n_rows_reused: int = 0
    n_rows_repeated: int = 0
    n_displaced: int = 0
    n_together: int = 0


class BeamAnswer(Protocol):
    """An answer under way on a model that holds one prompt."""

    def run_to_end(self) -> None:
        """Decode what is left of it."""
        ...


class BeamPart:
    """What there is besides where answers are searched on several paths.

    Args:
        model: the language model, which holds one prompt.
        options: how to search.

    Attributes:
        lock: hold it around each call of the model.
        n_steps, n_rows: calls of the model until now, and the rows in them.
    """

    def __init__(self, model: BeamModel, options: BeamOptions) -> None:
        self.model = model
        self.options = options
        self.lock = threading.RLock()
        self.n_steps = self.n_rows = 0
        self._holder: weakref.ref[BeamAnswer] | None = None  # an answer that nobody holds any more is forgotten

    def count(self, n_rows: int) -> None:
        """The model was called; with its lock held."""
        self.n_steps += 1
        self.n_rows += n_rows

    def take_turn(self, answer: BeamAnswer) -> None:
        """Let the model take an answer's prompt; the answer under way is run to its end first."""
        holder = self._holder() if self._holder is not None else None
        if holder is not None and holder is not answer:
            holder.run_to_end()
        self._holder = weakref.ref(answer)

    def leave(self, answer: BeamAnswer) -> None:
        """An answer has ended."""
        with self.lock:
            if self._holder is not None and self._holder() is answer:
                self._holder = None


@dataclass(eq=False)
class LoadedModel:
    """A loaded model.

    Attributes:
        family: what decides how its prompts are laid out, and what it can do.
        files: the files that were loaded.
        language_model: turns prompts into logits.
        encoder: turns pixels into image embeddings; None where the model reads texts only.
        embedder: opens images, encodes them, remembers their embeddings.
        prefix: see `PrefixModel`; None in families without `capabilities.reuses_prefix`.
        beam: see `BeamPart`; None in families without `capabilities.beam`.
        languages: codes of the languages that it answers in.
        admission: who answers now and who waits.
    """

    family: Family
    files: ModelFiles
    language_model: LanguageModel | BeamModel
    encoder: ImageEncoder | None
    embedder: Embedder
    prefix: PrefixModel | None = None
    beam: BeamPart | None = None
    languages: tuple[str, ...] = tuple(LANGUAGES)
    admission: Admission = field(default_factory=Admission)
    _advice_given: bool = field(default=False, repr=False)
    _guard: ProcessGuard = field(default_factory=process_guard, repr=False)

    @property
    def name(self) -> str:
        """The model's name, as its file has it."""
        return self.files.name

    @property
    def sees_images(self) -> bool:
        """Whether images can be shown to it."""
        return self.encoder is not None

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do."""
        return self.family.capabilities

    @property
    def beam_part(self) -> BeamPart:
        """`beam`, where there is no `prefix`."""
        assert self.beam is not None  # a family has the one or the other
        return self.beam

    @cached_property
    def constraints(self) -> LanguageConstraints:
        """Makes the masks that keep an answer in its language."""
        return LanguageConstraints(self.language_model)

    @cached_property
    def identity(self) -> ModelIdentity:
        """What distinguishes its keys and values from other models'; reads a few megabytes of the files, once."""
        return identity_of(self.files)

    def counters(self) -> Counters:
        """See `Palo.counters`."""
        n_waiting, n_images_encoded = self.admission.n_waiting, self.embedder.n_encoded
        if self.prefix is None:
            part = self.beam_part
            return Counters(
                self.admission.n_running, n_waiting, n_images_encoded, n_steps=part.n_steps, n_rows=part.n_rows
            )
        cache = self.prefix.cache
        counts = asdict(cache.counts)
        return Counters(cache.n_running, n_waiting, n_images_encoded, n_displaced=cache.n_displaced, **counts)

    def language(self, name_or_code: str) -> Language:
        """A language that the model answers in.

        Args:
            name_or_code: as `get_language` takes it.

        Raises:
            ArgumentError: no language that is known, or none that this model knows.
        """
        language = get_language(name_or_code)
        if language.code not in self.languages:
            known = ", ".join(str(LANGUAGES[code]) for code in self.languages)
            raise ArgumentError(
                f"language: expected one that {self.name} knows ({known}), got {language.english_name}; "
                f"{_who_knows(language)}"
            )
        return language

    def warn_about_language(self, languages: Collection[str]) -> None:
        """Log once, before an answer in one of these languages, what a user should know of the model and them."""
        if not self._advice_given and (advice := self.family.advice(self.files.text, languages)):
            self._advice_given = True
            logger.warning("%s", advice)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self.language_model.is_closed

    def check_usable(self) -> None:
        """Refuse a model that was closed, or loaded before this process was forked.

        Raises:
            ArgumentError: it was closed.
            PaloError: it belongs to the parent.
        """
        self._guard.check(self.name)
        if self.is_closed:
            raise ArgumentError("palo: expected an open model, got a closed one; load it again")

    def forget(self) -> None:
        """Forget what the context and the memory hold of earlier questions; a folder of embeddings stays as it is."""
        self.embedder.forget()
        if self.prefix:
            self.prefix.cache.clear()
            if self.prefix.draft:
                self.prefix.draft.forget()

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        self.language_model.close()
        if self.encoder:
            self.encoder.close()
        self.embedder.forget()
        if self.prefix and self.prefix.draft:
            self.prefix.draft.close()


def _who_knows(language: Language) -> str:
    """What to do for a language that a model lacks."""
    *others, last = (model.title for model in PUBLISHED.values() if language.code in model.scores)
    listed = f"{', '.join(others)} and {last}" if others else last
    name = language.english_name
    return f"choose one of them, or a model that knows {name}: {listed} (palo-cpp recommend --lang {language.code})"
