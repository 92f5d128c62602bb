"""Outlines of the ten kinds of things, in a circle of radius 1 around the origin, y downwards."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One closed line of a thing; a detail (a door, an eye) is drawn in another shade."""

    points: tuple[Point, ...]
    is_detail: bool = False


def outline(kind: str, rng: random.Random) -> tuple[Part, ...]:
    """The parts of one thing; some kinds have variants."""
    return _OUTLINES[kind](rng)


def transform(points: tuple[Point, ...], x: float, y: float, radius: float, rotation: float) -> list[Point]:
    """Turn by `rotation` degrees, enlarge to `radius` pixels, move to (x, y)."""
    cos, sin = math.cos(math.radians(rotation)) * radius, math.sin(math.radians(rotation)) * radius
    return [(x + px * cos - py * sin, y + px * sin + py * cos) for px, py in points]


def max_rotation(kind: str) -> float:
    """Degrees that a thing may be turned and still be itself: a square on its corner would be a diamond."""
    return {"circle": 180.0, "star": 180.0, "fish": 25.0}.get(kind, 18.0)


def _ellipse(x: float, y: float, rx: float, ry: float, n: int = 40) -> tuple[Point, ...]:
    angles = (2 * math.pi * i / n for i in range(n))
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)


def _rectangle(left: float, top: float, right: float, bottom: float) -> tuple[Point, ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _circle(_: random.Random) -> tuple[Part, ...]:
    return (Part(_ellipse(0, 0, 0.95, 0.95, 48)),)


def _square(_: random.Random) -> tuple[Part, ...]:
    return (Part(_rectangle(-0.72, -0.72, 0.72, 0.72)),)


def _triangle(_: random.Random) -> tuple[Part, ...]:
    return (Part(tuple((math.sin(a) * 0.98, -math.cos(a) * 0.98) for a in (0.0, 2 * math.pi / 3, -2 * math.pi / 3))),)


def _star(_: random.Random) -> tuple[Part, ...]:
    radii = (0.98, 0.42) * 5
    return (Part(tuple((r * math.sin(math.pi * i / 5), -r * math.cos(math.pi * i / 5)) for i, r in enumerate(radii))),)


def _heart(_: random.Random) -> tuple[Part, ...]:
    points = []
    for i in range(40):
        t = 2 * math.pi * i / 40
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3 * 0.9, -y * 0.9 / 16 - 0.08))
    return (Part(tuple(points)),)


def _cross(rng: random.Random) -> tuple[Part, ...]:
    arm, half, centre = 0.95, rng.uniform(0.2, 0.32), rng.choice((0.0, 0.0, -0.25))
    side = math.sqrt(arm**2 - centre**2) * (0.95 if centre == 0 else 0.7)
    top, bottom = centre - half, centre + half
    right_half = ((half, -arm), (half, top), (side, top), (side, bottom), (half, bottom), (half, arm))
    return (Part(right_half + tuple((-x, y) for x, y in reversed(right_half))),)


def _house(rng: random.Random) -> tuple[Part, ...]:
    body = Part(_rectangle(-0.62, -0.12, 0.62, 0.75))
    roof = Part(((-0.9, -0.12), (0.0, -0.92), (0.9, -0.12)))
    x = rng.choice((-0.3, 0.0, 0.3))
    door = Part(_rectangle(x - 0.15, 0.25, x + 0.15, 0.75), is_detail=True)
    window = Part(_rectangle(-x - 0.15, 0.05, -x + 0.15, 0.35), is_detail=True)
    return (body, roof, door, window) if x else (body, roof, door)


def _tree(rng: random.Random) -> tuple[Part, ...]:
    trunk = Part(_rectangle(-0.13, 0.25, 0.13, 0.97), is_detail=True)
    if rng.random() < 0.5:
        return (trunk, Part(_ellipse(0, -0.3, 0.62, 0.66)))
    upper = Part(((0.0, -0.97), (0.48, -0.25), (-0.48, -0.25)))
    lower = Part(((0.0, -0.6), (0.68, 0.42), (-0.68, 0.42)))
    return (trunk, lower, upper)


def _fish(rng: random.Random) -> tuple[Part, ...]:
    flip = rng.choice((-1.0, 1.0))
    body = Part(_ellipse(-0.22 * flip, 0, 0.7, 0.46))
    tail = Part(((0.35 * flip, 0.0), (0.85 * flip, -0.48), (0.85 * flip, 0.48)))
    eye = Part(_ellipse(-0.6 * flip, -0.12, 0.08, 0.08, 12), is_detail=True)
    return (tail, body, eye)


def _cup(rng: random.Random) -> tuple[Part, ...]:
    flip = rng.choice((-1.0, 1.0))
    angles = [math.radians(angle) for angle in range(-80, 81, 10)]
    outer = [(0.4 + 0.46 * math.cos(a), 0.02 + 0.42 * math.sin(a)) for a in angles]
    inner = [(0.4 + 0.28 * math.cos(a), 0.02 + 0.25 * math.sin(a)) for a in reversed(angles)]
    ring = tuple((x * flip, y) for x, y in outer + inner)
    body = ((-0.62, -0.66), (0.46, -0.66), (0.34, 0.72), (-0.5, 0.72))
    return (Part(ring), Part(tuple((x * flip, y) for x, y in body)))


_OUTLINES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "cup": _cup,
}

# About the share of the circle of radius 1 that a kind covers, times pi: what the eye takes for its size.
AREAS = {
    "circle": 2.8,
    "square": 2.1,
    "triangle": 1.25,
    "star": 1.2,
    "heart": 1.6,
    "cross": 1.5,
    "house": 1.8,
    "tree": 1.4,
    "fish": 1.25,
    "cup": 1.6,
}
