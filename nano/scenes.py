"""Scenes: one to four simple things, drawn with Pillow, each scene a function of its seed.

What a scene says about itself (`groups`, `neighbour`, `largest`) is true by wide margins, or it says nothing: no
question is asked whose answer two people could see differently.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from nano.backgrounds import Background, Rgb, draw_background, paint
from nano.shapes import AREAS, max_rotation, outline, transform
from nano.things import COLOURS, KINDS, MAX_THINGS, Group

# Far from each other in RGB, so that a jitter of 14 levels leaves no doubt.
PALETTE: dict[str, Rgb] = {
    "red": (212, 30, 38),
    "orange": (246, 140, 20),
    "yellow": (250, 222, 46),
    "green": (38, 158, 60),
    "blue": (38, 88, 208),
    "purple": (128, 52, 170),
    "black": (22, 22, 24),
    "white": (246, 246, 244),
}
_JITTER = 14
_MIN_CONTRAST = 110.0  # of a thing's colour to the background's, Euclidean in RGB
_MIN_RADIUS = 0.14  # of the shorter side: 33 pixels across in the tower's 168, for the flattest picture
_DIAGONAL = 1.5  # a thing is beside another when it is this many times further across than up or down


@dataclass(frozen=True)
class Thing:
    """One thing; lengths in pixels of the scene.

    Attributes:
        style: "filled", "edged" (filled, with a thin contrasting edge) or "hollow" (a thin outline only).
        rgb: its colour as it is drawn.
        seed: of its variant.
    """

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    rotation: float
    style: str
    rgb: Rgb
    seed: int


@dataclass(frozen=True)
class Scene:
    """A picture and what is true of it.

    Attributes:
        noise: standard deviation of the noise, in levels; 0 for none.
        jpeg_quality: None where it is not compressed.
    """

    width: int
    height: int
    background: Background
    things: tuple[Thing, ...]
    noise: float
    jpeg_quality: int | None
    seed: int

    def count(self, kind: str | None = None, colour: str | None = None) -> int:
        """Things of a kind and a colour, None for any."""
        return sum(kind in (None, thing.kind) and colour in (None, thing.colour) for thing in self.things)

    def only(self, kind: str) -> Thing | None:
        """The only thing of its kind."""
        found = [thing for thing in self.things if thing.kind == kind]
        return found[0] if len(found) == 1 else None

    def groups(self) -> tuple[Group, ...]:
        """All things, by kind, then by colour, in the order of `things`."""
        pairs = {(thing.kind, thing.colour) for thing in self.things}
        ordered = sorted(pairs, key=lambda pair: (KINDS.index(pair[0]), COLOURS.index(pair[1])))
        return tuple(Group(kind, colour, self.count(kind, colour)) for kind, colour in ordered)

    def neighbours(self, thing: Thing, side: str) -> tuple[Thing, ...] | None:
        """Things on a side of `thing`; None where one is so much on the diagonal that it is open."""
        found = []
        for other in self.things:
            if other is thing:
                continue
            dx, dy = other.x - thing.x, other.y - thing.y
            ahead, across = {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[side]
            if ahead > 0 and abs(across) < ahead * _DIAGONAL and abs(across) > ahead / _DIAGONAL:
                return None
            if ahead > 0 and abs(across) <= ahead / _DIAGONAL:
                found.append(other)
        return tuple(found)

    def largest(self) -> Thing | None:
        """The thing that is largest by far, across and in area; None where there is none."""
        first, *others = sorted(self.things, key=lambda thing: -thing.radius)
        is_clear = all(
            first.radius > 1.2 * other.radius
            and AREAS[first.kind] * first.radius**2 > 1.5 * AREAS[other.kind] * other.radius**2
            for other in others
        )
        return first if others and is_clear else None


def make_scene(seed: int, *, difficulty: float = 1.0) -> Scene:
    """Draw lots for a scene.

    Args:
        seed: of everything.
        difficulty: 0 for one or two things, filled and on a plain background; 1 for everything.
    """
    rng = random.Random(seed * 4 + 1)
    easy = rng.random() > difficulty
    width, height = _canvas(rng)
    background = draw_background(rng, easy=easy)
    n = rng.choice((1, 2)) if easy else rng.choices(range(1, MAX_THINGS + 1), (3, 5, 6, 5))[0]
    pairs = _pairs(rng, _colours_on(background), n)
    places = _places(rng, width, height, n)
    things = [_thing(rng, pair, place, easy) for pair, place in zip(pairs, places, strict=False)]
    noise = 0.0 if easy or rng.random() < 0.5 else rng.uniform(2, 9)
    jpeg_quality = None if easy or rng.random() < 0.6 else rng.randrange(40, 90)
    return Scene(width, height, background, tuple(things), noise, jpeg_quality, seed)


def _canvas(rng: random.Random) -> tuple[int, int]:
    """Odd sizes, landscape, portrait and square, so that padding to a square matters."""
    longer = rng.randrange(150, 400)
    shorter = longer if rng.random() < 0.2 else round(longer / rng.uniform(1.0, 1.4))
    return (longer, shorter) if rng.random() < 0.6 else (shorter, longer)


def _colours_on(background: Background) -> list[str]:
    return [c for c in COLOURS if all(math.dist(PALETTE[c], other) > _MIN_CONTRAST for other in background.colours)]


def _pairs(rng: random.Random, colours: list[str], n: int) -> list[tuple[str, str]]:
    """Kinds and colours; often some share one or both, so that there is something to count."""
    pairs = [(rng.choice(KINDS), rng.choice(colours)) for _ in range(n)]
    sharing = rng.choice(("none", "none", "kind", "colour", "both", "both"))
    for i in range(1, rng.randrange(2, n + 1) if n > 1 else 1):
        kind, colour = pairs[i]
        pairs[i] = (
            pairs[0][0] if sharing in ("kind", "both") else kind,
            pairs[0][1] if sharing in ("colour", "both") else colour,
        )
    return pairs


_Place = tuple[float, float, float]


def _places(rng: random.Random, width: int, height: int, n: int) -> list[_Place]:
    """Centres and radii [(x, y, radius)] of n things that do not touch; in a row, a column, or anywhere."""
    arrangement = rng.choice(("row", "column", "free", "free", "free"))
    has_giant = rng.random() < 0.6
    for attempt in range(60):
        # The longer it takes, the smaller they become.
        places = _try_places(
            rng, width, height, n, arrangement if attempt < 30 else "free", has_giant, 1 - attempt / 90
        )
        if places is not None:
            rng.shuffle(places)
            return places
    return [(width / 2, height / 2, min(width, height) * 0.3)]


def _try_places(
    rng: random.Random, width: int, height: int, n: int, arrangement: str, has_giant: bool, scale: float
) -> list[_Place] | None:
    shorter, places = min(width, height), list[_Place]()
    largest = (0.44, 0.32, 0.26, 0.23)[n - 1] * scale
    for i in range(n):
        is_giant = has_giant and i == 0 and n > 1
        low, high = (
            (largest * 0.95, largest * 1.25) if is_giant else (_MIN_RADIUS, largest * (0.75 if has_giant else 1))
        )
        radius = shorter * rng.uniform(low, max(low, high))
        gap = 0.03 * shorter
        for _ in range(12):
            x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
            if arrangement == "row":
                y = min(max(height * rng.uniform(0.42, 0.58), radius), height - radius)
            elif arrangement == "column":
                x = min(max(width * rng.uniform(0.42, 0.58), radius), width - radius)
            if all(math.dist((x, y), (px, py)) > radius + other + gap for px, py, other in places):
                places.append((x, y, radius))
                break
        else:
            return None
    return places


def _thing(rng: random.Random, pair: tuple[str, str], place: _Place, easy: bool) -> Thing:
    kind, colour = pair
    red, green, blue = (min(max(c + rng.randint(-_JITTER, _JITTER), 0), 255) for c in PALETTE[colour])
    turn = max_rotation(kind)
    rotation = 0.0 if easy and rng.random() < 0.5 else rng.uniform(-turn, turn)
    style = "filled" if easy else rng.choices(("filled", "edged", "hollow"), (5, 2, 1))[0]
    return Thing(kind, colour, *place, rotation, style, (red, green, blue), rng.getrandbits(30))


# ---- drawing


def render(scene: Scene) -> PIL.Image.Image:
    """Draw a scene, RGB."""
    scale = 1 if max(scene.width, scene.height) > 260 else 2  # small pictures get smooth edges by reduction
    image = paint(scene.background, scene.width * scale, scene.height * scale)
    pen = PIL.ImageDraw.Draw(image)
    for thing in scene.things:
        _draw_thing(pen, thing, scale, max(scene.width, scene.height))
    if scale > 1:
        image = image.reduce(scale)
    return spoil(image, scene.noise, scene.jpeg_quality, scene.seed)


def _draw_thing(pen: PIL.ImageDraw.ImageDraw, thing: Thing, scale: int, longer: int) -> None:
    line = max(1, round(longer * scale / 84))  # two pixels of the tower's 168
    for part in outline(thing.kind, random.Random(thing.seed)):
        points = transform(part.points, thing.x * scale, thing.y * scale, thing.radius * scale, thing.rotation)
        if thing.style == "hollow":
            pen.line([*points, *points[:2]], fill=thing.rgb, width=line, joint="curve")
            continue
        pen.polygon(points, fill=_shade(thing.rgb) if part.is_detail else thing.rgb)
        if thing.style == "edged" and not part.is_detail:
            pen.line([*points, points[0]], fill=_shade(thing.rgb), width=max(1, line // 2))


def _shade(rgb: Rgb) -> Rgb:
    """Of the same colour, darker; black becomes a dark grey."""
    red, green, blue = (round(c * 0.55) if sum(rgb) > 150 else c + 50 for c in rgb)
    return red, green, blue


@lru_cache(maxsize=1)
def _noise_field() -> NDArray[np.float32]:
    """Unit noise [512, 512, 3]: a picture takes a window of it, for drawing normal numbers again costs too much."""
    return np.random.Generator(np.random.PCG64(7)).standard_normal((512, 512, 3), dtype=np.float32)


def spoil(image: PIL.Image.Image, noise: float, jpeg_quality: int | None, seed: int) -> PIL.Image.Image:
    """Add noise and JPEG's artefacts."""
    if noise > 0:
        x, y = seed % 97, seed // 97 % 97
        values = np.asarray(image, dtype=np.float32)
        values = values + noise * _noise_field()[y : y + image.height, x : x + image.width]
        image = PIL.Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if jpeg_quality is not None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=jpeg_quality)
        image = PIL.Image.open(buffer).convert("RGB")
    return image
