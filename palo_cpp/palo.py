"""`Palo`: load a model, ask about images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from palo_cpp.chat import chat_completion
from palo_cpp.chat.answer import Answer, AnswerStream
from palo_cpp.chat.chat import Chat
from palo_cpp.chat.describe import describe
from palo_cpp.chat.save import load_transcript
from palo_cpp.decoding.options import DEFAULT_LANG_MODE
from palo_cpp.errors import ArgumentError
from palo_cpp.families.family import LoadOptions
from palo_cpp.models.files import ModelFiles, find_model
from palo_cpp.models.hub_models import HubOptions
from palo_cpp.models.loading import Choices, load_model
from palo_cpp.pull.pulling import bring
from palo_cpp.vision.embedding_cache import DEFAULT_DISK_MIB, DEFAULT_MEMORY_MIB, EmbeddingCache

if TYPE_CHECKING:
    from palo_cpp.ggml.backend import BackendMode, BackendUse
    from palo_cpp.languages.languages import Language
    from palo_cpp.llm.language_model import LanguageModel
    from palo_cpp.models.loaded_model import Counters, LoadedModel
    from palo_cpp.vision.encoder import Precision, VisionEncoder
    from palo_cpp.vision.image import ImageSource


class Palo:
    """A PALO model: answers questions about images in ten languages; or a VisCPM: in Chinese and English.

    May be used from several threads and from asyncio (`await asyncio.to_thread(palo.ask, ...)`, or `async for piece in
    palo.stream(...)`). Answers that are under way at once are decoded together, a row of each in every step; so many
    questions are answered by `ask` at once as `n_parallel` says, the others wait in the order in which they were asked.
    Where the context does not hold all answers, one that had to give up its room is prefilled again and then runs to
    its end. A stream that is dropped or never finished keeps nobody waiting; closed from any thread, it ends within a
    step. After `os.fork` the child must load a model of its own.

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
        n_parallel: int = 1,
        n_waiting: int | None = None,
        preprocess: Literal["pad", "crop"] | None = None,
        vision_precision: Precision = "int8",
        backend: BackendMode = "auto",
        speculation: bool = True,
        draft: str | Path | None = None,
        embedding_cache_dir: str | Path | None = None,
        embedding_cache_mib: float = DEFAULT_MEMORY_MIB,
        embedding_cache_disk_mib: float = DEFAULT_DISK_MIB,
        local_files_only: bool = False,
        download_root: str | Path | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: "nano" (the demo that comes with the package), a folder that `palo-cpp convert` wrote, one of the
                two GGUF files in it, or a name on the hub: "mobile", "7b", "13b", "viscpm", `ORG/NAME` or
                `ORG/NAME:Q8_0`. What the cache lacks is fetched, and a checkpoint is converted to q4_k_m.
            n_ctx: tokens of context for each answer; 0 takes what the model was trained with, 4096 at most.
            n_threads: threads that compute; 0 takes the physical cores this process may use.
            n_parallel: answers at once, 1 to 16: the context has room for `n_ctx` tokens of each.
            n_waiting: questions that wait at most beside these; None takes any number, and lets streams begin at once.
            preprocess: "pad" or "crop", how an image becomes square; None does what the model's files say.
            vision_precision: arithmetic of the vision encoder: "int8", or "float", slower and larger.
            backend: the language model's kernels: "auto" takes ours where a check of some milliseconds finds them
                faster than llama.cpp's, "palo" takes them wherever they can compute, "cpu" leaves all to llama.cpp.
            speculation: decode a guessed token along with a chosen one where that saves time; the answers are the same.
            draft: a smaller model with the same vocabulary and vision tower, whose next token is the guess.
            embedding_cache_dir: a folder that keeps the embeddings of images for all programs that name it.
            embedding_cache_mib: memory for embeddings of earlier images; 0 keeps none.
            embedding_cache_disk_mib: the folder's size; the entries used least recently go first.
            local_files_only: fetch nothing; HF_HUB_OFFLINE=1 does the same.
            download_root: folder for what is fetched; None takes the hub's cache (HF_HUB_CACHE, HF_HOME).
            revision: branch, tag or commit of the repository; None is `main`.
            token: for gated and private repositories; None takes the one of HF_TOKEN or `hf auth login`.

        Raises:
            ModelNotFoundError: a file is not there.
            DownloadError: it could not be fetched; what has arrived is kept for the next time.
            ModelFormatError: a file is damaged, or the two do not belong together.
            OutOfMemoryError: it would not fit into this machine's memory; nothing was loaded.
            ArgumentError: a number out of range, or a draft model that does not go with the model.
        """
        hub = HubOptions(local_files_only, download_root, revision, token)
        for each in (model, draft):
            bring(each, hub)
        cache = EmbeddingCache(embedding_cache_dir, memory_mib=embedding_cache_mib, disk_mib=embedding_cache_disk_mib)
        options = LoadOptions(n_ctx, n_threads, vision_precision, backend, n_parallel)
        drafter = None if draft is None else find_model(draft, hub)
        choices = Choices(options, preprocess, speculation, drafter, cache, hub, n_waiting)
        self._model: LoadedModel = load_model(model, choices)

    @property
    def name(self) -> str:
        """The model's name, as its file has it."""
        return self._model.name

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model answers in."""
        return self._model.languages

    def language(self, name_or_code: str) -> Language:
        """A language that the model answers in, by its code, English name or own name.

        Raises:
            ArgumentError: no language that is known, or one that this model lacks; then it says which models have it.
        """
        return self._model.language(name_or_code)

    @property
    def files(self) -> ModelFiles:
        """The files that were loaded, with their metadata."""
        return self._model.files

    @property
    def sees_images(self) -> bool:
        """Whether images can be shown to it: false where a language model was loaded without its mmproj file."""
        return self._model.sees_images

    @property
    def preprocess(self) -> str:
        """How images are made square: "pad", "crop" or, whatever the shape, "stretch"; "" where it sees none."""
        return self._model.embedder.mode

    @property
    def language_model(self) -> LanguageModel:
        """The decoder, where it is one of llama.cpp's."""
        if self._model.prefix is None:
            raise ArgumentError(f"language_model: expected a model of llama.cpp's, got {self.name}, which has its own")
        return self._model.prefix.model

    @property
    def n_ctx(self) -> int:
        """Tokens of context for each answer."""
        return self._model.language_model.n_ctx

    @property
    def vision(self) -> VisionEncoder:
        """Vision tower and projector."""
        encoder: Any = self._model.encoder
        if encoder is None:
            raise ArgumentError(f"vision: expected a model that sees images, got {self.name} without its mmproj file")
        return encoder  # type: ignore[no-any-return]  # our families have this one

    @property
    def backend(self) -> BackendUse:
        """Which of the language model's weights our own kernels compute with."""
        model: Any = self._model.language_model
        return model.backend  # type: ignore[no-any-return]  # each language model of ours has one

    def counters(self) -> Counters:
        """What the model has done since it was loaded, and is doing."""
        return self._model.counters()

    # ---- questions

    def ask(
        self,
        image: ImageSource | None,
        question: str | None = None,
        *,
        lang: str | None = None,
        system: str | None = None,
        **options: Any,
    ) -> Answer:
        """Ask one question about an image.

        Args:
            image: path, bytes, binary file, `PIL.Image`, uint8 array or data URI; None asks without an image.
            question: in any language; None asks for a description.
            lang: language of the answer: code, English name or own name (`hi`, `Hindi`, `हिन्दी`). None leaves it to
                the model.
            system: the text that opens the prompt; None takes the one that the model was trained with.
            **options: fields of `DecodingOptions`: max_tokens, temperature, top_k, top_p, min_p, seed, stop,
                lang_mode, n_beams.

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
        system: str | None = None,
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
        system: str | None = None,
    ) -> Chat:
        """Begin a conversation about an image; arguments as in `ask`."""
        self._check_open()
        return Chat(self._model, image, lang=lang, lang_mode=lang_mode, system=system)

    def load_chat(self, path: str | Path) -> Chat:
        """Go on with a conversation that `Chat.save` wrote, also one held with another model.

        Where the file's keys and values serve, the next question is answered at once; where they do not (another
        model, another version of llama.cpp, a smaller context), a warning says so and the conversation is read again.

        Raises:
            SessionError: no such file, or a damaged one.
        """
        self._check_open()
        return Chat.from_transcript(self._model, load_transcript(Path(path).expanduser(), self._model))

    def describe(
        self,
        image: ImageSource,
        *,
        lang: str | Iterable[str] = "all",
        question: str | None = None,
        **options: Any,
    ) -> dict[str, Answer]:
        """Describe an image in one language, in several or in all that the model knows, side by side.

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
        return describe(self._model, image, lang, question, options)

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
                image_url with a data URI, in any order). Images go first in the message that they are in. A system
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
        chat = chat_completion.chat_for(request, self._model)
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
        embedder = self._model.embedder
        return np.array(embedder.embed(embedder.open(image)).rows, dtype=np.float32)

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
        return self._model.embedder.embed_all(images)

    # ---- end of life

    def _check_open(self) -> None:
        self._model.check_usable()

    def clear_cache(self) -> None:
        """Forget what the context and the memory hold of earlier images; an `embedding_cache_dir` stays as it is."""
        self._model.forget()

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        self._model.close()

    def __enter__(self) -> Palo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
