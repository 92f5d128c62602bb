"""What every vision encoder offers, whatever its tower."""

from __future__ import annotations

from typing import Protocol

from numpy import float32
from numpy.typing import ArrayLike, NDArray


class ImageSizes(Protocol):
    """What preprocessing needs to know of an encoder; as in `encoder.VisionInfo`."""

    @property
    def image_size(self) -> int:
        """Pixels per side of the square that it takes."""
        ...

    @property
    def n_image_tokens(self) -> int:
        """Image embeddings that an image becomes."""
        ...

    @property
    def n_embd(self) -> int:
        """Width of an image embedding, the decoder's."""
        ...

    @property
    def preprocess(self) -> str:
        """How images were made square when the model was trained."""
        ...

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """Per channel, of pixel values in [0, 1]."""
        ...

    @property
    def image_std(self) -> tuple[float, float, float]:
        """Per channel, of pixel values in [0, 1]."""
        ...


class ImageEncoder(Protocol):
    """A loaded vision encoder.

    Attributes:
        version: raised with each change of preprocessing or arithmetic that changes embeddings.
    """

    version: str

    @property
    def precision(self) -> str:
        """Arithmetic: "int8" or "float"."""
        ...

    @property
    def info(self) -> ImageSizes:
        """Its sizes."""
        ...

    @property
    def n_threads(self) -> int:
        """Threads that compute."""
        ...

    @property
    def isa(self) -> str:
        """Instruction set of the kernels in use."""
        ...

    def encode(self, pixels: ArrayLike) -> NDArray[float32]:
        """Normalized pixels f32 [3, S, S] or [n, 3, S, S] -> image embeddings [(n,) n_image_tokens, n_embd]."""
        ...

    def close(self) -> None:
        """Free the weights. Closing twice does nothing."""
        ...
