"""Pictures that tests draw themselves, and the cases of the image goldens."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# (width, height, image_size): both orientations, squares, enlarging and shrinking, odd differences (where the rounding
# of the long side and of the offsets shows), one pixel, thin lines.
GOLDEN_CASES = [
    (640, 480, 336),
    (480, 640, 336),
    (336, 336, 336),
    (337, 336, 336),
    (336, 337, 336),
    (335, 336, 336),
    (1000, 333, 336),
    (333, 1000, 336),
    (101, 50, 336),
    (67, 200, 224),
    (1, 1, 56),
    (1, 7, 56),
    (7, 1, 56),
    (2, 3, 56),
    (500, 3, 56),
    (3, 500, 56),
    (97, 61, 70),
    (61, 97, 70),
    (55, 57, 56),
    (113, 112, 56),
    (1200, 900, 56),
    (500, 1401, 336),
    (129, 700, 56),
    (701, 128, 56),
    (41, 29, 14),
]
GOLDEN_KEPT = {(97, 61, 70), (129, 700, 56), (41, 29, 14)}

# EXIF orientation -> how to turn the stored pixels upright (Exif 2.3, tag 0x0112).
UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def picture(width: int, height: int, seed: int = 0) -> PIL.Image.Image:
    """An RGB picture with smooth gradients, hard edges and noise: what resampling filters differ on."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    # Integers only, so that no machine's floating point can change the picture.
    red = (x * 255 // max(1, width - 1) + y * 3) % 256
    green = np.where((x // 5 + y // 7) % 2, 240, 20)
    noise = (x * 2654435761 + y * 40503 + seed * 97) // 64 % 256
    return PIL.Image.fromarray(np.stack([red, green, noise], axis=-1).astype(np.uint8))


def encode(image: PIL.Image.Image, image_format: str, **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()
