"""Pictures with the conversations about them, each picture a function of its seed and all seeds parted by purpose."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import PIL.Image

from nano.exchanges import Exchange, asked_across, exchange, in_other_words
from nano.meaning import TASKS
from nano.other_pictures import render_other
from nano.questions import GRAMMARS
from nano.scenes import Scene, make_scene, render

CODES = tuple(GRAMMARS)

# Seeds by purpose: what is measured is never what was trained on.
TRAINING, VALIDATION, TEST = range(10**9), range(10**9, 10**9 + 10**6), range(2 * 10**9, 2 * 10**9 + 10**6)

READABLE = ("describe", "count", "colour", "exists", "off_topic")  # tasks that a description in words answers

# Shares of the tasks in the lessons, where these differ from `TASKS`: what is learnt last is asked more often.
_LESSONS = {**TASKS, "describe": 8, "neighbour": 10, "colour": 2, "largest": 1.5}
_OTHER_SHARE = 0.06  # pictures that are not simple drawings
_TURNS = (1, 1, 1, 1, 1, 2, 2, 3)  # questions in one conversation
_ACROSS_SHARE = 0.06  # questions that ask for the answer in a language, half of them worded in another


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows; `scene` is None for one that is not a simple drawing."""

    seed: int
    scene: Scene | None

    def render(self) -> PIL.Image.Image:
        """Draw it, RGB."""
        return render_other(self.seed) if self.scene is None else render(self.scene)


def make_picture(seed: int, *, difficulty: float = 1.0) -> Picture:
    """Draw lots for a picture."""
    is_other = random.Random(seed * 4 + 3).random() < _OTHER_SHARE
    return Picture(seed, None if is_other else make_scene(seed, difficulty=difficulty))


def conversation(picture: Picture, rng: random.Random, languages: Sequence[str] = CODES) -> list[Exchange]:
    """One to three questions about a picture, mostly in one language, with their answers."""
    language = rng.choice(languages)
    turns = [ask_something(picture, rng, language, _LESSONS) for _ in range(rng.choice(_TURNS))]
    if len(languages) > 1 and rng.random() < _ACROSS_SHARE:
        other, state = rng.choice((language, rng.choice(languages))), rng.getstate()
        turn = ask_something(picture, rng, language, _LESSONS)
        rng.setstate(state)  # the same lots make the same question, in another language
        turns[-1] = asked_across(turn, ask_something(picture, rng, other, _LESSONS))
    return turns


def ask_something(picture: Picture, rng: random.Random, language: str, shares: Mapping[str, float] = TASKS) -> Exchange:
    """A question of any task that the picture can answer, by the tasks' shares."""
    while True:
        task = rng.choices(tuple(shares), tuple(shares.values()))[0]
        found = exchange(picture.scene, rng, language, task)
        if found is not None:
            return replace(found, question=in_other_words(found.question, rng))


def reading(picture: Picture, rng: random.Random, languages: Sequence[str] = CODES) -> list[Exchange]:
    """A question about a picture that is described in words instead, in the question's language or another.

    It teaches the decoder its languages and its counting before it sees anything, as LLaMA brings both to PALO.
    """
    language = rng.choice(languages)
    described_in = rng.choice((language, rng.choice(languages)))
    if picture.scene is None:
        return [ask_something(picture, rng, language)]
    description = GRAMMARS[described_in].describe(picture.scene.groups())
    while True:
        turn = ask_something(picture, rng, language)
        if turn.task in READABLE:
            return [replace(turn, question=f"{description} {turn.question}")]
