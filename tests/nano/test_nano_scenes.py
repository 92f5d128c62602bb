"""Nano's scenes are functions of their seeds, and what they say of themselves is what the pixels show."""

import hashlib
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from nano.conversations import TEST, TRAINING, VALIDATION, ask_something, conversation, make_picture, reading
from nano.exchanges import exchange
from nano.labels import FIELDS, patch_labels
from nano.meaning import TASKS
from nano.other_pictures import render_other
from nano.questions import GRAMMARS
from nano.scenes import PALETTE, make_scene, render
from nano.things import COLOURS, KINDS, SIDES

SEEDS = range(3000, 3120)


def digest(image):
    return hashlib.sha256(np.asarray(image).tobytes() + str(image.size).encode()).hexdigest()


def test_a_seed_is_a_picture():
    assert make_scene(5) == make_scene(5) != make_scene(6)
    assert [digest(make_picture(seed).render()) for seed in range(40)] == [
        digest(make_picture(seed).render()) for seed in range(40)
    ]
    assert len({digest(render_other(seed)) for seed in range(20)}) == 20


def test_scenes_are_varied():
    scenes = [make_scene(seed) for seed in range(600)]
    things = [thing for scene in scenes for thing in scene.things]
    assert {thing.kind for thing in things} == set(KINDS)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.style for thing in things} == {"filled", "edged", "hollow"}
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}
    assert {np.sign(scene.width - scene.height) for scene in scenes} == {-1, 0, 1}
    assert sum(scene.width % 2 for scene in scenes) > 100
    assert any(group.n == 4 for scene in scenes for group in scene.groups())
    for share in ([s.noise > 0 for s in scenes], [s.jpeg_quality is not None for s in scenes]):
        assert 0.2 < np.mean(share) < 0.8
    assert 0.03 < np.mean([make_picture(seed).scene is None for seed in range(600)]) < 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_things_are_inside_and_apart(seed):
    scene = make_scene(seed)
    for i, thing in enumerate(scene.things):
        assert thing.radius <= thing.x <= scene.width - thing.radius
        assert thing.radius <= thing.y <= scene.height - thing.radius
        for other in scene.things[:i]:
            assert math.dist((thing.x, thing.y), (other.x, other.y)) > thing.radius + other.radius


def nearest_colour(rgb):
    return min(PALETTE, key=lambda name: math.dist(PALETTE[name], rgb))


def test_the_pixels_have_the_colours_that_are_told():
    """Draw without noise and look: the middle of each filled thing has its colour, or that colour's shade."""
    n = 0
    for seed in SEEDS:
        scene = replace(make_scene(seed), noise=0.0, jpeg_quality=None)
        pixels = np.asarray(render(scene)).astype(float)
        for thing in scene.things:
            if thing.style == "hollow":
                continue
            r = 0.3 * thing.radius
            rows, columns = (slice(int(c - r), int(c + r) + 1) for c in (thing.y, thing.x))
            seen = np.median(pixels[rows, columns].reshape(-1, 3), axis=0)
            shade = np.array(thing.rgb) * 0.55
            is_it = nearest_colour(seen) == thing.colour or np.abs(seen - shade).max() < 12
            assert is_it, (seed, thing, seen)
            n += 1
    assert n > 100


def test_hollow_things_leave_a_line_of_their_colour():
    scenes = [replace(make_scene(seed), noise=0.0, jpeg_quality=None) for seed in SEEDS]
    hollow = [(scene, thing) for scene in scenes for thing in scene.things if thing.style == "hollow"]
    assert len(hollow) > 30
    for scene, thing in hollow:
        pixels = np.asarray(render(scene)).astype(float)
        distance = np.abs(pixels - np.array(thing.rgb)).max(axis=-1)
        rows, columns = np.ogrid[: scene.height, : scene.width]
        near = (columns - thing.x) ** 2 + (rows - thing.y) ** 2 < (1.05 * thing.radius) ** 2
        assert (near & (distance < 40)).sum() > 2 * thing.radius


@pytest.mark.parametrize("seed", SEEDS)
def test_relations_are_plain(seed):
    scene = make_scene(seed)
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    for thing in scene.things:
        for side in SIDES:
            for other in scene.neighbours(thing, side) or ():
                dx, dy = other.x - thing.x, other.y - thing.y
                ahead = {"left": -dx, "right": dx, "above": -dy, "below": dy}[side]
                assert ahead >= 1.5 * min(abs(dx), abs(dy)) and ahead == max(abs(dx), abs(dy))
                back = scene.neighbours(other, opposite[side])
                assert back is None or thing in back
    largest = scene.largest()
    if largest:
        assert all(largest.radius > 1.2 * other.radius for other in scene.things if other is not largest)


def test_counts_add_up():
    for seed in SEEDS:
        scene = make_scene(seed)
        assert sum(group.n for group in scene.groups()) == scene.count() == len(scene.things)
        assert sum(scene.count(kind=kind) for kind in KINDS) == len(scene.things)
        assert sum(scene.count(colour=colour) for colour in COLOURS) == len(scene.things)


def test_patches_are_labelled_where_things_are():
    for seed in SEEDS:
        scene = make_scene(seed)
        labels = patch_labels(scene, 12)
        kinds, colours = labels.field("kind"), labels.field("colour")
        assert {KINDS[k - 1] for k in kinds if k} == {thing.kind for thing in scene.things}
        assert ((kinds > 0) == (colours > 0)).all()
        thing = scene.things[-1]
        assert kinds[patch_of(scene, thing)] == 1 + KINDS.index(thing.kind)


def patch_of(scene, thing):
    side = max(scene.width, scene.height)
    x = int((thing.x + (side - scene.width) // 2) * 12 / side)
    y = int((thing.y + (side - scene.height) // 2) * 12 / side)
    return y * 12 + x


def test_patches_say_what_the_answers_say():
    """Every answer can be looked up at the thing that it is about."""
    kinds, colours = ("", *KINDS, "unclear"), ("", *COLOURS, "unclear")
    n_unclear = 0
    for seed in SEEDS:
        scene = make_scene(seed)
        labels, names = patch_labels(scene, 12), [(g.kind, g.colour) for g in scene.groups()]
        for thing in scene.things:
            said = {name: int(labels.field(name)[patch_of(scene, thing)]) for name in FIELDS}
            assert said["n_things"] == len(scene.things)
            assert said["n_of_kind"] == sum(other.kind == thing.kind for other in scene.things)
            assert said["n_of_colour"] == sum(other.colour == thing.colour for other in scene.things)
            assert said["n_of_both"] == scene.groups()[said["order"]].n
            assert names[said["order"]] == (thing.kind, thing.colour)
            assert said["order"] + 1 + said["after"] == len(names)
            assert bool(said["is_largest"]) == (scene.largest() == thing)
            for side in SIDES:
                found = scene.neighbours(thing, side)
                beside = (kinds[said[f"kind_{side}"]], colours[said[f"colour_{side}"]])
                if found is None or len(found) > 1:
                    n_unclear += 1
                    assert beside == ("unclear", "unclear")
                else:
                    assert beside == ((found[0].kind, found[0].colour) if found else ("", ""))
    assert n_unclear > 20


def test_easy_scenes_are_easy():
    for seed in SEEDS:
        scene = make_scene(seed, difficulty=0.0)
        assert len(scene.things) <= 2 and scene.background.style == "plain" and not scene.noise


def test_seeds_are_parted_by_purpose():
    for one, other in ((TRAINING, VALIDATION), (TRAINING, TEST), (VALIDATION, TEST)):
        assert not range(max(one.start, other.start), min(one.stop, other.stop))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_asked_and_the_same_in_all_languages(task):
    n = 0
    for seed in SEEDS:
        picture = make_picture(seed)
        if picture.scene is None:
            continue
        found = {code: exchange(picture.scene, random.Random(seed), code, task) for code in GRAMMARS}
        assert len({turn is None for turn in found.values()}) == 1
        n += found["en"] is not None
    assert n > 10


def test_another_kind_of_picture_gets_the_honest_answer():
    picture = next(p for p in map(make_picture, range(200)) if p.scene is None)
    for code, grammar in GRAMMARS.items():
        for i in range(20):
            assert ask_something(picture, random.Random(i), code).answer == grammar.UNKNOWN


def test_truth_of_yes_and_no():
    """Of English answers, for they can be read back by rule."""
    for seed in SEEDS:
        picture = make_picture(seed)
        rng = random.Random(seed)
        for _ in range(8):
            turn = exchange(picture.scene, rng, "en", "exists") if picture.scene else None
            if turn is None:
                continue
            kind = next(k for k in KINDS if f" {k}" in turn.question)
            colour = next((c for c in COLOURS if f" {c} " in turn.question), None)
            assert turn.answer.startswith("Yes" if picture.scene.count(kind, colour) else "No")


def test_conversations_and_readings():
    pictures = [make_picture(seed) for seed in range(200)]
    talks = [conversation(picture, random.Random(picture.seed)) for picture in pictures]
    assert {len(turns) for turns in talks} == {1, 2, 3}
    assert {turn.language for turns in talks for turn in turns} == set(GRAMMARS)
    assert talks == [conversation(picture, random.Random(picture.seed)) for picture in pictures]
    assert all(t.language == "hi" for p in pictures for t in conversation(p, random.Random(1), ("hi",)))
    for picture in pictures[:40]:
        (turn,) = reading(picture, random.Random(0), ("en",))
        if picture.scene:
            assert turn.question.startswith(GRAMMARS["en"].describe(picture.scene.groups()))
