"""`Palo`: load a model, ask about images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from palo_cpp.chat.answer import Answer, AnswerStream
from palo_cpp.chat.chat import Chat, chat_completion
from palo_cpp.chat.parallel_answers import ParallelAnswers
from palo_cpp.chat.request import Engine, Sessions, decoding_for
from palo_cpp.chat.save import load_talk, stored_model
from palo_cpp.decoding.language_constraint import LanguageConstraints
from palo_cpp.decoding.options import DEFAULT_LANG_MODE
from palo_cpp.decoding.speculation import Speculation
from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.prompt import SYSTEM
from palo_cpp.families.palo.weak_languages import LanguageAdvice
from palo_cpp.ggml.backend import BackendMode, BackendUse
from palo_cpp.languages.languages import LANGUAGES, get_language
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.llm.language_model import LanguageModel, default_n_ctx
from palo_cpp.machine import check_memory_fits, estimate_memory, memory_available
from palo_cpp.models.draft_model import DraftModel, check_draft, draft_memory
from palo_cpp.models.files import ModelFiles, check_widths, demo_notice, find_model
from palo_cpp.vision.embedding_cache import DEFAULT_DISK_MIB, DEFAULT_MEMORY_MIB, FeatureCache, encoder_id
from palo_cpp.vision.encoder import Precision, VisionEncoder
from palo_cpp.vision.image_embedder import ImageEmbedder

if TYPE_CHECKING:
    from palo_cpp.vision.image import ImageSource

logger = logging.getLogger(__name__)


class Palo:
    """A PALO model: answers questions about images in ten languages.

    May be used from several threads; they take turns.

    Attributes:
        files: the two files that were loaded, with their metadata.
        language_model: the decoder.
        vision: vision tower and projector.
        preprocess: "pad" or "crop".

    Example:
        >>> palo = Palo("models/PALO-7B")  # doctest: +SKIP
        >>> palo.ask("photo.jpg", "इस तस्वीर में क्या है?", lang="hi").text  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path,
        *,
        n_ctx: int = 0,
        n_threads: int = 0,
        preprocess: Literal["pad", "crop"] | None = None,
        vision_precision: Precision = "int8",
        backend: BackendMode = "auto",
        speculation: bool = True,
        draft: str | Path | None = None,
        feature_cache_dir: str | Path | None = None,
        feature_cache_mib: float = DEFAULT_MEMORY_MIB,
        feature_cache_disk_mib: float = DEFAULT_DISK_MIB,
    ) -> None:
        """Load a model.

        Args:
            model: "nano" (the demo that comes with the package), a folder that `palo-cpp convert` wrote, or one of the
                two GGUF files in it.
            n_ctx: tokens of context; 0 takes what the model was trained with, 4096 at most.
            n_threads: threads that compute; 0 takes the physical cores this process may use.
            preprocess: "pad" makes an image square by padding, "crop" by cutting off; None does what the model's
                files say ("pad" where they say nothing).
            vision_precision: arithmetic of the vision encoder: "int8", or "float", slower and larger.
            backend: the language model's kernels: "auto" takes ours where a check of some milliseconds finds them
                faster than llama.cpp's, "palo" takes them wherever they can compute, "cpu" leaves all to llama.cpp.
            speculation: read a guessed token along with a chosen one where that saves time; the answers are the same.
                Only where our kernels compute everything: with llama.cpp's, a row may depend on the others.
            draft: a smaller model of the same family, named as `model` is, whose next token is the guess as long as
                that saves time. It needs memory of its own, and the same vocabulary and vision tower.
            feature_cache_dir: a folder that keeps the embeddings of images, so that an image seen once is not encoded
                again, by no program that names the folder; None keeps them in memory only.
            feature_cache_mib: memory for embeddings of earlier images; 0 keeps none.
            feature_cache_disk_mib: the folder's size; the entries used least recently go first.

        Raises:
            ModelNotFoundError: a file is not there.
            ModelFormatError: a file is damaged, or the two do not belong together.
            OutOfMemoryError: it would not fit into this machine's memory; nothing was loaded.
            ArgumentError: a number out of range, or a draft model that does not go with the model.
        """
        if preprocess not in (None, "pad", "crop"):
            raise ArgumentError(f"preprocess: expected 'pad', 'crop' or None, got {preprocess!r}")
        features = FeatureCache(feature_cache_dir, memory_mib=feature_cache_mib, disk_mib=feature_cache_disk_mib)
        self.files: ModelFiles = find_model(model)
        if notice := demo_notice(self.files.text):
            logger.warning(notice)
        n_ctx_used = n_ctx or default_n_ctx(self.files.text)
        estimate = estimate_memory(
            self.files.text, self.files.mmproj, n_ctx=n_ctx_used, vision_precision=vision_precision
        )
        draft_files = find_model(draft) if draft is not None else None
        if draft_files:
            check_draft(self.files, draft_files)
            estimate += draft_memory(draft_files, n_ctx=n_ctx_used)
        check_memory_fits(estimate, memory_available(), n_ctx=n_ctx_used)
        self.language_model = LanguageModel(
            self.files.text.path, n_ctx=n_ctx, n_threads=n_threads, backend=backend, header=self.files.text
        )
        is_guessing = speculation and self.language_model.has_equal_rows
        if draft_files and not is_guessing:
            logger.warning("the draft model stays unused: guesses are switched off, or llama.cpp's kernels compute")
            draft_files = None
        try:
            self.vision = VisionEncoder(
                self.files.mmproj.path, n_threads=self.language_model.n_threads, precision=vision_precision
            )
            check_widths(self.files, n_embd=self.language_model.n_embd, n_embd_image=self.vision.info.n_embd)
            self.preprocess: str = preprocess or self.vision.info.preprocess
            self._draft = (
                DraftModel(draft_files, self.language_model, self.vision, features, mode=self.preprocess)
                if draft_files
                else None
            )
        except BaseException:
            self.language_model.close()
            raise
        encoder = encoder_id(self.files.mmproj, precision=self.vision.precision, isa=self.vision.isa)
        tower = self._draft.tower if self._draft else None
        self._embedder = ImageEmbedder(self.vision, features, encoder, mode=self.preprocess, tower=tower)
        advice = LanguageAdvice(self.files.text)
        decoder = self.language_model
        constraints = LanguageConstraints(decoder)
        self._engine = Engine(
            decoder,
            KvCache(decoder),
            self._embedder.open,
            advice.heed,
            lambda vocabulary, request: decoding_for(
                vocabulary, request, constraints.of(request.language, request.options.lang_mode)
            ),
            speculation=Speculation(decoder, self._draft) if is_guessing else None,
            sessions=Sessions(cache(partial(stored_model, self.files)), self._embedder.reopen),
        )

    @property
    def name(self) -> str:
        """The model's name, as its file says it."""
        return str(self.files.text.metadata.get("general.name", self.files.text.path.stem))

    @property
    def backend(self) -> BackendUse:
        """Which of the language model's weights our own kernels compute with."""
        return self.language_model.backend

    # ---- questions

    def ask(
        self,
        image: ImageSource | None,
        question: str | None = None,
        *,
        lang: str | None = None,
        system: str = SYSTEM,
        **options: Any,
    ) -> Answer:
        """Ask one question about an image.

        Args:
            image: path, bytes, binary file, `PIL.Image`, uint8 array or data URI; None asks without an image.
            question: in any language; None asks for a description.
            lang: language of the answer: code, English name or own name (`hi`, `Hindi`, `हिन्दी`). None leaves it to
                the model.
            system: the text that opens the prompt; the model was trained with the default.
            **options: fields of `DecodingOptions`: max_tokens, temperature, top_k, top_p, min_p, seed, stop,
                lang_mode.

        Returns:
            The answer.

        Raises:
            ImageError: the image cannot be read.
            ArgumentError: an option out of range, or a question that does not fit into the context.
        """
        return self.chat(image, lang=lang, system=system).ask(question, **options)

    def stream(
        self,
        image: ImageSource | None,
        question: str | None = None,
        *,
        lang: str | None = None,
        system: str = SYSTEM,
        **options: Any,
    ) -> AnswerStream:
        """Ask one question and read the answer as it comes; arguments as in `ask`.

        Returns:
            A stream of pieces; its `answer` is there once it has ended. Closing it stops the decoding.
        """
        return self.chat(image, lang=lang, system=system).stream(question, **options)

    def chat(
        self,
        image: ImageSource | None = None,
        *,
        lang: str | None = None,
        lang_mode: str = DEFAULT_LANG_MODE,
        system: str = SYSTEM,
    ) -> Chat:
        """Begin a conversation about an image; arguments as in `ask`."""
        self._check_open()
        return Chat(self._engine, image, lang=lang, lang_mode=lang_mode, system=system)

    def load_chat(self, path: str | Path) -> Chat:
        """Go on with a conversation that `Chat.save` wrote, also one held with another model.

        Where the file's keys and values serve, the next question is answered at once; where they do not (another
        model, another version of llama.cpp, a smaller context), a warning says so and the conversation is read again.

        Raises:
            SessionError: no such file, or a damaged one.
        """
        self._check_open()
        return Chat.from_talk(self._engine, load_talk(Path(path).expanduser(), self._engine))

    def describe(
        self,
        image: ImageSource,
        *,
        lang: str | Iterable[str] = "all",
        question: str | None = None,
        **options: Any,
    ) -> dict[str, Answer]:
        """Describe an image in one language, in several or in all ten, side by side.

        The image is read once, and each step decodes a token of every answer. What the answers share counts in the
        timings of the first.

        Args:
            image: as in `ask`.
            lang: a language, several, or "all".
            question: what to ask instead of each language's own request for a description.
            **options: as in `ask`.

        Returns:
            Language code -> answer, in the order asked for.
        """
        self._check_open()
        codes, opened = _language_codes(lang), self._embedder.open(image)
        engine = replace(self._engine, open_image=lambda _: opened)
        plans = []
        for code in codes:
            plans.append(Chat(engine, image, lang=code).plan(question, **options))
            opened = replace(opened, elapsed_s=0.0)  # it was opened for the first answer only
        return dict(zip(codes, ParallelAnswers(engine, plans).run(), strict=True))

    @overload
    def create_chat_completion(
        self, messages: Sequence[Mapping[str, Any]], *, stream: Literal[False] = False, **parameters: Any
    ) -> dict[str, Any]: ...

    @overload
    def create_chat_completion(
        self, messages: Sequence[Mapping[str, Any]], *, stream: Literal[True], **parameters: Any
    ) -> Iterator[dict[str, Any]]: ...

    def create_chat_completion(
        self, messages: Sequence[Mapping[str, Any]], *, stream: bool = False, **parameters: Any
    ) -> dict[str, Any] | Iterator[dict[str, Any]]:
        """Answer a conversation in the form of OpenAI's chat completions.

        Args:
            messages: dictionaries with `role` (system, user, assistant) and `content` (text, or parts of type text and
                image_url with a data URI, in any order). Images go first in the message that they stand in. A system
                message takes the place of the default one.
            stream: give chunks as they come.
            **parameters: max_tokens or max_completion_tokens, temperature, top_p, top_k, min_p, seed, stop, and lang.

        Returns:
            A `chat.completion` dictionary, or an iterator of `chat.completion.chunk` dictionaries.

        Raises:
            ArgumentError: an unknown role, part or parameter, an http(s) or file URL, or a prompt that does not fit.
            ImageError: the image cannot be read.
        """
        self._check_open()
        request = chat_completion.read_request(messages, parameters)
        chat = chat_completion.chat_for(request, self._engine)
        reply = chat_completion.Reply(self.name)
        if stream:
            return reply.chunks(chat.stream(request.question, **request.options))
        return reply.whole(chat.ask(request.question, **request.options))

    # ---- images

    def embed_image(self, image: ImageSource) -> NDArray[np.float32]:
        """What the language model gets to see of an image.

        Args:
            image: as in `ask`.

        Returns:
            image_embeddings [n_image_tokens, n_embd] f32.
        """
        self._check_open()
        return np.array(self._embedder.open(image).embed().embeddings, dtype=np.float32)

    def embed_images(self, images: Iterable[ImageSource]) -> NDArray[np.float32]:
        """`embed_image` for several images: the next ones are read and resized while some are encoded.

        Args:
            images: each as in `ask`.

        Returns:
            image_embeddings [n_images, n_image_tokens, n_embd] f32, in the order of the images.

        Raises:
            ImageError: one of them cannot be read.
        """
        self._check_open()
        return self._embedder.embed_all(images)

    # ---- end of life

    def _check_open(self) -> None:
        if self.language_model.is_closed:
            raise ArgumentError("palo: expected an open model, got a closed one; load it again")

    def clear_cache(self) -> None:
        """Forget what stands in the context and in memory of earlier images; a `feature_cache_dir` stays as it is."""
        self._engine.cache.clear()
        self._embedder.forget()
        if self._draft:
            self._draft.forget()

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        self.language_model.close()
        self.vision.close()
        self._embedder.forget()
        if self._draft:
            self._draft.close()

    def __enter__(self) -> Palo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _language_codes(lang: str | Iterable[str]) -> list[str]:
    if isinstance(lang, str):
        return list(LANGUAGES) if lang.strip().casefold() == "all" else [get_language(lang).code]
    codes = list(dict.fromkeys(get_language(name).code for name in lang))
    if not codes:
        raise ArgumentError("lang: expected at least one language, got none; name one, or 'all'")
    return codes
