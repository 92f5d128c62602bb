"""What a conversation needs of images: opened, and turned into embeddings; and what stands there where none can be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError
from palo_cpp.segments import ImageEmbeddings, ImageSegment

if TYPE_CHECKING:
    from palo_cpp.vision.image import ImageSource


class Embedder(Protocol):
    """Turns images into segments of a prompt, and these into embeddings; `ImageEmbedder` does.

    Attributes:
        mode: how images are made square, as "pad", "crop" or "stretch"; "" where none is taken.
        n_encoded: images that were encoded until now.
    """

    mode: str
    n_encoded: int

    def open(self, source: ImageSource) -> ImageSegment:
        """Open an image and make it square."""
        ...

    def reopen(self, square: NDArray[np.uint8], *, mode: str, size: tuple[int, int]) -> ImageSegment:
        """An image again from its `ImageSegment.square`."""
        ...

    def embed(self, image: ImageSegment) -> ImageEmbeddings:
        """What the language model gets to see of an image."""
        ...

    def embed_all(self, sources: Iterable[ImageSource]) -> NDArray[np.float32]:
        """Embeddings of several images."""
        ...

    def forget(self) -> None:
        """Drop what is in memory of earlier images."""
        ...


class NoImages:
    """An `Embedder` of a model that reads texts only: every image is refused.

    Args:
        name: of the model.
    """

    mode = ""
    n_encoded = 0

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self) -> NoReturn:
        raise ArgumentError(
            f"image: expected none, for {self._name} was loaded without vision tower and projector, got one; "
            "ask without an image, or put its mmproj file beside the language model"
        )

    def open(self, source: ImageSource) -> ImageSegment:  # noqa: ARG002
        """Refused.

        Raises:
            ArgumentError: always.
        """
        self._refuse()

    def reopen(self, square: NDArray[np.uint8], *, mode: str, size: tuple[int, int]) -> ImageSegment:  # noqa: ARG002
        """Refused; see `open`."""
        self._refuse()

    def embed(self, image: ImageSegment) -> ImageEmbeddings:  # noqa: ARG002
        """Refused; see `open`."""
        self._refuse()

    def embed_all(self, sources: Iterable[ImageSource]) -> NDArray[np.float32]:  # noqa: ARG002
        """Refused; see `open`."""
        self._refuse()

    def forget(self) -> None:
        """Nothing is remembered."""
