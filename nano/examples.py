"""Draw the pictures in examples/: `python -m nano.examples`. Held-out scenes, and one for the README."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path

from nano.backgrounds import Background
from nano.conversations import TEST, make_picture
from nano.scenes import PALETTE, Scene, Thing, render

FOLDER = Path(__file__).parent.parent / "examples"
N_SCENES = 12


def readme_scene() -> Scene:
    """`scene.png`: a yellow sun, a red house and a green tree; a test holds what PALO-Nano says of it to the truth."""
    things = (
        Thing("house", "red", 150, 200, 88, 0.0, "filled", PALETTE["red"], 3),
        Thing("tree", "green", 345, 205, 84, 0.0, "filled", PALETTE["green"], 1),
        Thing("circle", "yellow", 420, 62, 48, 0.0, "filled", PALETTE["yellow"], 1),
    )
    sky = Background("plain", ((208, 226, 240), (208, 226, 240)), 0, 0.1)
    return Scene(480, 320, sky, things, noise=0.0, jpeg_quality=None, seed=0)


def held_out_scenes() -> list[Scene]:
    """The first held-out scenes of each number of things, without noise, which would make large files."""
    scenes = (picture.scene for picture in map(make_picture, count(TEST.start)))
    clean = (scene for scene in scenes if scene and scene.noise == 0.0 and scene.jpeg_quality is None)
    found: dict[int, list[Scene]] = {n: [] for n in range(1, 5)}
    for scene in islice(clean, 100):
        if len(found[len(scene.things)]) < N_SCENES // len(found):
            found[len(scene.things)].append(scene)
    return [scene for scenes_of_n in found.values() for scene in scenes_of_n]


def main() -> None:
    """Write them all."""
    render(readme_scene()).save(FOLDER / "scene.png", optimize=True)
    for number, scene in enumerate(held_out_scenes(), start=1):
        render(scene).save(FOLDER / f"scene-{number:02}.png", optimize=True)


if __name__ == "__main__":
    main()
