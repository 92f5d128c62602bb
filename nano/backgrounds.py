"""What is drawn under the things: plain, gradient, stripes, horizon, grid; never a colour that a thing may have."""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageDraw

Rgb = tuple[int, int, int]
_STYLES = ("plain", "plain", "gradient", "gradient", "stripes", "horizon", "grid", "spots")


@dataclass(frozen=True)
class Background:
    """How a background looks; `colours` are its two, similar to each other."""

    style: str
    colours: tuple[Rgb, Rgb]
    angle: int
    period: float


def draw_background(rng: random.Random, *, easy: bool = False) -> Background:
    """Choose one."""
    value = rng.choice(
        (rng.uniform(0.86, 1.0), rng.uniform(0.86, 1.0), rng.uniform(0.45, 0.75), rng.uniform(0.04, 0.3))
    )
    hue, saturation = rng.random(), rng.uniform(0.0, 0.22)
    second = min(max(value + rng.uniform(-0.1, 0.1), 0.02), 1.0)
    colours = (_rgb(hue, saturation, value), _rgb(hue + rng.uniform(-0.08, 0.08), saturation, second))
    style = "plain" if easy else rng.choice(_STYLES)
    return Background(style, colours, rng.randrange(4), rng.uniform(0.05, 0.25))


def _rgb(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
    return red, green, blue


def paint(background: Background, width: int, height: int) -> PIL.Image.Image:
    """A picture of the background alone."""
    first, second = background.colours
    if background.style == "gradient":
        return _gradient(first, second, background.angle, width, height)
    image = PIL.Image.new("RGB", (width, height), first)
    pen = PIL.ImageDraw.Draw(image)
    step = max(4, round(background.period * min(width, height)))
    if background.style == "horizon":
        pen.rectangle((0, round(height * (0.5 + background.period)), width, height), fill=second)
    elif background.style == "stripes":
        _stripes(pen, second, step, width, height, is_horizontal=background.angle % 2 == 0)
    elif background.style == "grid":
        for x in range(step // 2, max(width, height), step):
            pen.line((x, 0, x, height), fill=second)
            pen.line((0, x, width, x), fill=second)
    elif background.style == "spots":
        for i, x in enumerate(range(step // 2, width, step)):
            for y in range(step // 2 * (1 + i % 2), height, step):
                pen.ellipse((x - step // 9, y - step // 9, x + step // 9, y + step // 9), fill=second)
    return image


def _stripes(
    pen: PIL.ImageDraw.ImageDraw, colour: Rgb, step: int, width: int, height: int, *, is_horizontal: bool
) -> None:
    for start in range(0, height if is_horizontal else width, 2 * step):
        box = (0, start, width, start + step) if is_horizontal else (start, 0, start + step, height)
        pen.rectangle(box, fill=colour)


def _gradient(first: Rgb, second: Rgb, angle: int, width: int, height: int) -> PIL.Image.Image:
    """Along x, y or a diagonal, enlarged from few pixels."""
    x, y = np.meshgrid(np.linspace(0, 1, 16), np.linspace(0, 1, 16))
    share = (x, y, (x + y) / 2, (x + 1 - y) / 2)[angle][..., None]
    values = np.array(first) * (1 - share) + np.array(second) * share
    small = PIL.Image.fromarray(values.round().astype(np.uint8))
    return small.resize((width, height), PIL.Image.Resampling.BILINEAR)
