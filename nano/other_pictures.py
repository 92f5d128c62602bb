"""Pictures that are not simple drawings: the honest answer about them is that the model knows only those."""

from __future__ import annotations

import random

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter
import PIL.ImageFont
from numpy.typing import NDArray

from nano.scenes import spoil

_LETTERS = "abcdefghijklmnopqrstuvwxyz     ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?"


def render_other(seed: int) -> PIL.Image.Image:
    """Draw one, RGB, as a function of its seed."""
    rng = random.Random(seed * 4 + 2)
    width, height = rng.randrange(120, 360), rng.randrange(120, 360)
    image = rng.choice((_clouds, _clouds, _noise, _text, _scribble, _blobs, _mosaic, _landscape))(rng, width, height)
    return spoil(image, rng.choice((0.0, 6.0)), rng.choice((None, 60)), seed)


def _numpy(rng: random.Random) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(rng.getrandbits(32)))


def _enlarged(values: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    small = PIL.Image.fromarray(np.clip(values * 255, 0, 255).astype(np.uint8))
    return np.asarray(small.resize((width, height), PIL.Image.Resampling.BICUBIC)) / 255.0


def _clouds(rng: random.Random, width: int, height: int) -> PIL.Image.Image:
    """Noise in several octaves, in colour: cloth, stone, leaves, clouds."""
    generator, total = _numpy(rng), np.zeros((height, width, 3))
    base, spread = np.array([rng.random() for _ in range(3)]), rng.uniform(0.4, 1.2)
    for octave in range(1, 7):
        total += (_enlarged(generator.random((2**octave, 2**octave, 3)), width, height) - 0.5) / octave**0.7
    return PIL.Image.fromarray((np.clip(base + spread * total, 0, 1) * 255).astype(np.uint8))


def _noise(rng: random.Random, width: int, height: int) -> PIL.Image.Image:
    values = _numpy(rng).integers(0, 256, (height, width, rng.choice((1, 3))), dtype=np.uint8)
    return PIL.Image.fromarray(np.broadcast_to(values, (height, width, 3)).copy())


def _text(rng: random.Random, width: int, height: int) -> PIL.Image.Image:
    """A page of text."""
    paper, ink = (255, 255, 255), (20, 20, 20)
    if rng.random() < 0.3:
        paper, ink = ink, paper
    image, size = PIL.Image.new("RGB", (width, height), paper), rng.randrange(10, 26)
    pen, font = PIL.ImageDraw.Draw(image), PIL.ImageFont.load_default(size)
    for y in range(size // 2, height - size, round(size * 1.3)):
        line = "".join(rng.choice(_LETTERS) for _ in range(rng.randrange(8, max(9, 2 * width // size))))
        pen.text((size // 2, y), line, fill=ink, font=font)
    return image


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _scribble(rng: random.Random, width: int, height: int) -> PIL.Image.Image:
    """Long tangled lines."""
    image = PIL.Image.new("RGB", (width, height), _colour(rng))
    pen = PIL.ImageDraw.Draw(image)
    for _ in range(rng.randrange(3, 12)):
        points = [(rng.randrange(width), rng.randrange(height)) for _ in range(rng.randrange(5, 14))]
        pen.line(points, fill=_colour(rng), width=rng.randrange(1, 6), joint="curve")
    return image


def _blobs(rng: random.Random, width: int, height: int) -> PIL.Image.Image:
    """Many overlapping polygons, sometimes blurred."""
    image = PIL.Image.new("RGB", (width, height), _colour(rng))
    pen = PIL.ImageDraw.Draw(image)
    for _ in range(rng.randrange(14, 40)):
        x, y, r = rng.randrange(width), rng.randrange(height), rng.randrange(10, 90)
        points = [(x + rng.randint(-r, r), y + rng.randint(-r, r)) for _ in range(rng.randrange(3, 8))]
        pen.polygon(points, fill=_colour(rng))
    return image.filter(PIL.ImageFilter.GaussianBlur(rng.choice((0, 0, 3, 8))))


def _mosaic(rng: random.Random, width: int, height: int) -> PIL.Image.Image:
    """Tiles of random colours, or a smooth blend of them."""
    n = rng.randrange(2, 12)
    values = _numpy(rng).integers(0, 256, (n, n, 3), dtype=np.uint8)
    how = rng.choice((PIL.Image.Resampling.NEAREST, PIL.Image.Resampling.BICUBIC))
    return PIL.Image.fromarray(values).resize((width, height), how)


def _landscape(rng: random.Random, width: int, height: int) -> PIL.Image.Image:
    """Ragged layers under a textured sky, as in a photograph of hills."""
    image = _clouds(rng, width, height)
    pen, generator = PIL.ImageDraw.Draw(image), _numpy(rng)
    for layer in range(rng.randrange(2, 5)):
        ridge = np.cumsum(generator.normal(0, 3, width)) + height * (0.35 + 0.16 * layer)
        pen.polygon([(0, height), *enumerate(ridge.tolist()), (width, height)], fill=_colour(rng))
    return image.filter(PIL.ImageFilter.GaussianBlur(1))
