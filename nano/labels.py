"""What each patch of a picture shows: what the tower is taught, and what the decoder is told.

A patch knows more than its own thing: how many others are like it, what is beside it, when its turn comes in a
description. The tower sees all patches at once and learns this from every patch of every picture; the decoder, which
learns from words alone, then only has to look it up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nano.scenes import Scene, Thing
from nano.things import COLOURS, KINDS, MAX_THINGS, SIDES

KIND, COLOUR = "kind", "colour"
NO_DRAWING = len(KINDS) + 1  # the kind of patches that belong to no scene
_UNCLEAR_KIND, _UNCLEAR_COLOUR = len(KINDS) + 1, len(COLOURS) + 1  # several things on a side, or one on the diagonal
_COUNTS = ("n_things", "n_of_kind", "n_of_colour", "n_of_both")
_BESIDE = tuple(f"{what}_{side}" for side in SIDES for what in (KIND, COLOUR))

# Classes of each field. 0 is the background, or that nothing is on that side. `order`: how many groups a description
# names before the patch's own; `after`: how many after it.
FIELDS: dict[str, int] = {
    KIND: NO_DRAWING + 1,
    COLOUR: len(COLOURS) + 1,
    **dict.fromkeys(_COUNTS, MAX_THINGS + 1),
    "is_largest": 2,
    "order": MAX_THINGS,
    "after": MAX_THINGS,
    **{name: (_UNCLEAR_KIND if name.startswith(KIND) else _UNCLEAR_COLOUR) + 1 for name in _BESIDE},
}
NUMBER = {name: i for i, name in enumerate(FIELDS)}


@dataclass(frozen=True)
class PatchLabels:
    """The labels of a padded picture.

    Attributes:
        fields: [len(FIELDS), n_side * n_side] i64, in the order of `FIELDS`; all 0 where no thing is, but for kind
            `NO_DRAWING` on every patch of a picture that is not a simple drawing.
        places: [n_side * n_side, 3] f32: from the patch to its thing's centre (right, down) and the thing's radius, in
            quarters of the picture's side; 0 where no thing is.
    """

    fields: NDArray[np.int64]
    places: NDArray[np.float32]

    def field(self, name: str) -> NDArray[np.int64]:
        """One field, [n_side * n_side]."""
        found: NDArray[np.int64] = self.fields[NUMBER[name]]
        return found


def patch_labels(scene: Scene | None, n_side: int, *, reach: float = 0.75) -> PatchLabels:
    """Label the patches of a picture, None for one that is not a scene.

    A thing claims the patches whose centre lies within `reach` of its radius, and the one that holds its own centre.
    """
    fields = np.zeros((len(FIELDS), n_side, n_side), dtype=np.int64)
    places = np.zeros((n_side, n_side, 3), dtype=np.float32)
    rows, columns = np.mgrid[0.5:n_side:1.0, 0.5:n_side:1.0]
    if scene is None:
        fields[NUMBER[KIND]] = NO_DRAWING
    for thing in scene.things if scene else ():
        side = max(scene.width, scene.height)  # type: ignore[union-attr]
        left, top = (side - scene.width) // 2, (side - scene.height) // 2  # type: ignore[union-attr]
        x, y, radius = ((v * n_side / side) for v in (thing.x + left, thing.y + top, thing.radius))
        mine = (columns - x) ** 2 + (rows - y) ** 2 <= (reach * radius) ** 2
        mine[min(int(y), n_side - 1), min(int(x), n_side - 1)] = True
        values = _about(scene, thing)  # type: ignore[arg-type]
        fields[:, mine] = np.array([values[name] for name in FIELDS])[:, None]
        offsets = np.stack([x - columns, y - rows, np.full_like(rows, radius)], axis=-1) * 4 / n_side
        places[mine] = offsets[mine]
    return PatchLabels(fields.reshape(len(FIELDS), -1), places.reshape(-1, 3))


def _about(scene: Scene, thing: Thing) -> dict[str, int]:
    """All fields of one thing."""
    groups = [(group.kind, group.colour) for group in scene.groups()]
    order = groups.index((thing.kind, thing.colour))
    values = {
        KIND: _kind_number(thing),
        COLOUR: _colour_number(thing),
        "n_things": scene.count(),
        "n_of_kind": scene.count(thing.kind),
        "n_of_colour": scene.count(colour=thing.colour),
        "n_of_both": scene.count(thing.kind, thing.colour),
        "is_largest": int(scene.largest() is thing),
        "order": order,
        "after": len(groups) - 1 - order,
    }
    for side in SIDES:
        found = scene.neighbours(thing, side)
        is_clear = found is not None and len(found) < 2
        values[f"{KIND}_{side}"] = sum(map(_kind_number, found or ())) if is_clear else _UNCLEAR_KIND
        values[f"{COLOUR}_{side}"] = sum(map(_colour_number, found or ())) if is_clear else _UNCLEAR_COLOUR
    return values


def _kind_number(thing: Thing) -> int:
    return 1 + KINDS.index(thing.kind)


def _colour_number(thing: Thing) -> int:
    return 1 + COLOURS.index(thing.colour)
