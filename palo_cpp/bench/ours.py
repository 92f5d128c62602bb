"""Our side: `VisionEncoder` and `LanguageModel`, as `Palo` uses them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.contestant import N_WRITTEN, Setup
from palo_cpp.chat.answer_run import Answering
from palo_cpp.chat.request import Engine, Request
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.decoding.speculation import Speculation
from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.prompt import SYSTEM, ImageSegment, Turn, prompt_segments
from palo_cpp.languages.detection import count_words
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.models.draft_model import DraftModel, check_draft
from palo_cpp.models.files import find_model
from palo_cpp.vision.embedding_cache import FeatureCache, Features


class PaloCpp:
    """palo_cpp; see `Contestant`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.isa = ""
        self.n_image_tokens = 0

    def prepare(self) -> None:
        """Import libraries and check what the encoder can do."""
        from palo_cpp import _core  # loading the core is not part of loading a model
        from palo_cpp.ggml.llama_library import llama_library
        from palo_cpp.llm.language_model import LanguageModel
        from palo_cpp.vision.encoder import VisionEncoder

        llama_library()
        self._options = precision_options(self._setup.precision)
        self._encoder_type, self._model_type = VisionEncoder, LanguageModel
        self.isa = _core.isa()

    def load(self) -> None:
        """Load encoder and, unless `n_ctx` is 0, language model."""
        setup = self._setup
        self._encoder = self._encoder_type(setup.mmproj, n_threads=setup.n_threads, **self._options)
        if setup.n_ctx:
            self._model = self._model_type(
                setup.text, n_ctx=setup.n_ctx, n_threads=setup.n_threads, backend=setup.backend
            )
        self.n_image_tokens = self._encoder.info.n_image_tokens

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Normalise the image to f32 [3, S, S]."""
        info = self._encoder.info
        mean, std = np.asarray(info.image_mean, np.float32), np.asarray(info.image_std, np.float32)
        values = (image.astype(np.float32) / 255 - mean) / std
        self._pixels = np.ascontiguousarray(values.transpose(2, 0, 1))
        self._image = image
        self._hidden: NDArray[np.float32] | None = None

    def encode(self) -> NDArray[np.float32]:
        """The image's embeddings."""
        return self._encoder.encode(self._pixels)

    def project_s(self) -> float:
        """Time of the projector's own stage."""
        if self._hidden is None:
            self._hidden = self._encoder.hidden_states(self._pixels)
        start = time.perf_counter()
        self._encoder.project(self._hidden)
        return time.perf_counter() - start

    def clear(self) -> None:
        """Empty the sequence."""
        self._model.remove(0)

    def logits(self, tokens: Sequence[int], n_single: int) -> NDArray[np.float32]:
        """Logits [n, n_vocab] behind each of some tokens, the last `n_single` of which are decoded one by one."""
        self.clear()
        n_together = len(tokens) - n_single
        together = self._model.decode(tokens[:n_together], position=0, all_logits=True)
        singles = [self._model.decode([token], position=n_together + i) for i, token in enumerate(tokens[n_together:])]
        return np.concatenate([together, np.reshape(singles, (n_single, -1))])

    def written(self) -> dict[str, dict[str, float]]:
        """How fast each language is written, in an answer about the image that is decoded as `Palo` decodes it.

        Returns:
            By code: words per second from the first token on; guesses read ahead, right ones, and tokens that the draft
            model was asked for, for each token.
        """
        model = self._model
        image = ImageSegment(
            "bench",
            self.n_image_tokens,
            lambda: Features(self.encode(), is_cached=False),
            size=(self._image.shape[1], self._image.shape[0]),
            preprocess="pad",
            square=self._image,
        )
        speculation = Speculation(model, self._draft()) if model.has_equal_rows else None
        engine = Engine(model, KvCache(model), lambda _: image, speculation=speculation)
        found = {}
        for code, language in LANGUAGES.items():
            turn = Turn(language.default_question, images=(image,))
            segments = prompt_segments(model, [turn])
            options = DecodingOptions(max_tokens=N_WRITTEN)
            request = Request((), turn, SYSTEM, segments, code, options, 0.0, time.perf_counter())
            answering = Answering(engine, request, lambda _: None)
            for _ in answering.pieces():
                pass
            answer = answering.finish(was_cut=False)
            timings, n = answer.timings, max(answer.timings.n_generated, 1)
            found[code] = {
                "words_per_s": count_words(answer.text) / timings.decode_s if timings.decode_s else 0.0,
                "guessed": timings.n_guessed / n,
                "guessed_right": timings.n_guessed_right / n,
                "drafted": timings.n_drafted / n,
            }
        return found

    def _draft(self) -> DraftModel | None:
        if self._setup.draft is None:
            return None
        files = find_model(self._setup.draft)
        check_draft(find_model(self._setup.text), files)
        return DraftModel(files, self._model, self._encoder, FeatureCache(memory_mib=0), mode="pad")

    def decode(self, inputs: Sequence[int] | NDArray[np.float32], position: int) -> int:
        """Append to the sequence."""
        return int(self._model.decode(inputs, position=position).argmax())


def precision_options(precision: str | None) -> dict[str, Any]:
    """Keyword arguments of VisionEncoder for a precision; none for its default.

    Raises:
        ArgumentError: this build has no choice of precision.
    """
    if precision is None:
        return {}
    if not has_precisions():
        raise ArgumentError("--vision-precision: expected a build with several precisions, got one with float only")
    return {"precision": precision}


def has_precisions() -> bool:
    """Whether the vision encoder offers a choice of precision."""
    from palo_cpp.vision.encoder import VisionEncoder

    return "precision" in inspect.signature(VisionEncoder.__init__).parameters
