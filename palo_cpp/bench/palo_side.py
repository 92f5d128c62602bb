"""Our side: `VisionEncoder` and `LanguageModel`, as `Palo` uses them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.bee_text import BeeText
from palo_cpp.bench.contestant import N_WRITTEN, Setup
from palo_cpp.bench.timed_text import CausalText, Embeddings, TimedText, some_tokens
from palo_cpp.chat.chat import Chat
from palo_cpp.families.family import LoadOptions
from palo_cpp.families.viscpm.beam_model import BeeBeamModel
from palo_cpp.families.viscpm.engine import CpmBeeEngine
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.languages.detection import count_words
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.models.files import find_model, model_files
from palo_cpp.models.loaded_model import LoadedModel
from palo_cpp.models.loading import Choices, load_files
from palo_cpp.vision.embedding_cache import EmbeddingCache
from palo_cpp.vision.encoder import Precision, VisionEncoder


class PaloCpp:
    """palo_cpp; see `Contestant`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.isa = ""
        self.n_image_tokens = 0
        self.text: OurText

    def prepare(self) -> None:
        """Import libraries and check what the encoder can do."""
        from palo_cpp import _core  # loading the core is not part of loading a model
        from palo_cpp.ggml.llama_library import llama_library

        llama_library()
        self.isa = _core.isa()

    def load(self) -> None:
        """Load encoder and, unless `n_ctx` is 0, language model."""
        setup = self._setup
        precision: Precision = "float" if setup.precision == "float" else "int8"
        options = LoadOptions(setup.n_ctx, setup.n_threads, precision, setup.backend)
        if setup.n_ctx:
            files = model_files(read_header(setup.text), read_header(setup.mmproj))
            draft = find_model(setup.draft) if setup.draft else None
            self._loaded = load_files(files, Choices(options, draft=draft, embeddings=EmbeddingCache(memory_mib=0)))
            self.text = timed_text(self._loaded)
            self._encoder: Any = self._loaded.encoder
        else:
            self._encoder = VisionEncoder(setup.mmproj, n_threads=setup.n_threads, precision=options.vision_precision)
        self.n_image_tokens = self._encoder.info.n_image_tokens

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Normalize the image to f32 [3, S, S]."""
        info = self._encoder.info
        mean, std = np.asarray(info.image_mean, np.float32), np.asarray(info.image_std, np.float32)
        values = (image.astype(np.float32) / 255 - mean) / std
        self._pixels = np.ascontiguousarray(values.transpose(2, 0, 1))
        self._image = image
        self._hidden: NDArray[np.float32] | None = None

    def encode(self) -> NDArray[np.float32]:
        """The image's embeddings."""
        embeddings: NDArray[np.float32] = self._encoder.encode(self._pixels)
        return embeddings

    def project_s(self) -> float:
        """Time of the projector's own stage."""
        if self._hidden is None:
            self._hidden = self._encoder.hidden_states(self._pixels)
        start = time.perf_counter()
        self._encoder.project(self._hidden)
        return time.perf_counter() - start

    def logits(self, n_tokens: int, n_single: int) -> NDArray[np.float32]:
        """Logits of a prompt and of tokens that are decoded one by one; see `OurText`."""
        return self.text.logits(n_tokens, n_single)

    def written(self) -> dict[str, dict[str, float]]:
        """How fast each language is written, in an answer about the image that is decoded as `Palo` decodes it.

        Returns:
            By code: words per second from the first token on; guesses read ahead, right ones, and tokens that the draft
            model was asked for, for each token.
        """
        loaded, found = self._loaded, {}
        loaded.forget()  # decode went past the cache of what the context holds
        image = loaded.embedder.open(self._image)
        for code in loaded.languages:
            chat = Chat(loaded, lang=code, lang_mode="off")
            chat.pending_images.append(image)
            answer = chat.ask(max_tokens=N_WRITTEN)
            timings, n = answer.timings, max(answer.timings.n_generated, 1)
            found[code] = {
                "words_per_s": count_words(answer.text) / timings.decode_s if timings.decode_s else 0.0,
                "guessed": timings.n_guessed / n,
                "guessed_right": timings.n_guessed_right / n,
                "drafted": timings.n_drafted / n,
            }
        loaded.forget()
        return found


class OurText(TimedText, Protocol):
    """Our language model, whose kernels are compared with llama.cpp's."""

    def logits(self, n_tokens: int, n_single: int) -> NDArray[np.float32]:
        """Logits [n, n_vocab] after some of `n_tokens`, the last `n_single` of which are decoded one by one."""


class PrefixText(CausalText):
    """A language model whose keys and values serve the next prompt.

    Args:
        model: it.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(self)
        self._language_model = model

    def clear(self) -> None:
        """Empty the sequence."""
        self._language_model.remove(0)

    def decode(self, inputs: Sequence[int] | Embeddings, position: int) -> int:
        """Append to the sequence."""
        return int(self._language_model.decode(inputs, position=position).argmax())

    def logits(self, n_tokens: int, n_single: int) -> NDArray[np.float32]:
        """Logits [n_tokens, n_vocab]."""
        self.clear()
        model, tokens, n_together = self._language_model, some_tokens(n_tokens), n_tokens - n_single
        together = model.decode(tokens[:n_together], position=0, all_logits=True)
        singles = [model.decode([token], position=n_together + i) for i, token in enumerate(tokens[n_together:])]
        return np.concatenate([together, np.reshape(singles, (n_single, -1))])


def timed_text(loaded: LoadedModel) -> OurText:
    """The language model of a loaded model."""
    if loaded.prefix is not None:
        return PrefixText(loaded.prefix.model)
    model = loaded.beam_part.model
    assert isinstance(model, BeeBeamModel) and isinstance(model.engine, CpmBeeEngine)  # there is no other
    return BeeText(model.engine.model)
