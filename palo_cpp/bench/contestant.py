"""What a side of the comparison can do; `palo_side` and `llama_side` do the same work on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.timed_text import TimedText
from palo_cpp.ggml.backend import BackendMode

N_WRITTEN = 48  # tokens of an answer in each language


@dataclass(frozen=True)
class Setup:
    """What to load, and how.

    Attributes:
        text, mmproj: the files.
        n_threads: threads for everything.
        n_ctx: tokens of context; 0 where nothing but the image is encoded.
        precision: of our vision encoder (`int8`, `float`); None is its default.
        backend: kernels of our language model, as `LanguageModel` takes it; llama.cpp's side has its own alone.
        draft: a smaller model that drafts, named as `find_model` takes it; on our side, where answers are written.
    """

    text: Path
    mmproj: Path
    n_threads: int
    n_ctx: int
    precision: str | None = None
    backend: BackendMode = "auto"
    draft: str | None = None


class Contestant(Protocol):
    """One side. Everything is called from one thread, after `load`.

    Attributes:
        isa: instructions that it computes with.
        n_image_tokens: embeddings of an image.
    """

    isa: str
    n_image_tokens: int

    @property
    def text(self) -> TimedText:
        """Its language model; there is none where `n_ctx` is 0."""

    def prepare(self) -> None:
        """Import libraries, which is not part of loading a model."""

    def load(self) -> None:
        """Load encoder and, unless `n_ctx` is 0, language model."""

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Take the image, u8 [S, S, 3] of the tower's size; preprocessing is done here and never timed."""

    def encode(self) -> NDArray[np.float32]:
        """The image's embeddings, f32 [n_image_tokens, n_embd]."""

    def project_s(self) -> float:
        """Seconds that the projector alone takes."""
