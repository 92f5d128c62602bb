"""What can be asked about a picture: one question with its answer, of a chosen task and language, or none that fits."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from nano.meaning import Meaning
from nano.questions import GRAMMARS, Grammar
from nano.scenes import Scene, Thing
from nano.things import COLOURS, KINDS, SIDES
from palo_cpp.languages.languages import LANGUAGES


@dataclass(frozen=True)
class Exchange:
    """A question and its only right answer.

    Attributes:
        language: of the answer.
        meaning: of both, whatever the language.
    """

    question: str
    answer: str
    language: str
    meaning: Meaning

    @property
    def task(self) -> str:
        """Key of `TASKS`, or "unknown" for a picture that is not a simple drawing."""
        return self.meaning.task or "unknown"


def exchange(scene: Scene | None, rng: random.Random, language: str, task: str) -> Exchange | None:
    """One question about a scene; with `scene` None, about a picture of another kind.

    Returns:
        The question and answer, or None where the scene has nothing certain to say about this task.
    """
    grammar = GRAMMARS[language]
    if scene is None:
        question = rng.choice(rng.choice(_any_question(rng, grammar, language)))
        return Exchange(question, grammar.UNKNOWN, language, Meaning(None))
    found = _TASKS[task](scene, rng, grammar, language)
    return found and Exchange(rng.choice(found[0]), found[1], language, found[2])


def in_other_words(question: str, rng: random.Random) -> str:
    """The question as a hurried user types it: sometimes without its last mark, or its first capital."""
    if rng.random() < 0.08:
        question = question.rstrip(" ?？؟.。।۔") or question
    if rng.random() < 0.06:
        question = question[0].lower() + question[1:]
    return question


def asked_across(turn: Exchange, worded: Exchange) -> Exchange:
    """`turn` in the words of another language, with the request that `--lang` adds."""
    request = LANGUAGES[turn.language].answer_request
    return replace(turn, question=f"{worded.question} {request}")


_Found = tuple[tuple[str, ...], str, Meaning] | None  # phrasings of a question, its answer, what they mean
_Where = tuple[str, str, tuple[Thing, ...]]  # side, kind of the thing that one looks from, what is there


def _any_question(rng: random.Random, grammar: Grammar, language: str) -> tuple[tuple[str, ...], ...]:
    kind, colour = rng.choice(KINDS), rng.choice((None, *COLOURS))
    return (
        _describe_questions(grammar, language),
        _describe_questions(grammar, language),
        grammar.ask_count(rng.choice((None, kind)), colour),
        grammar.ask_colour(kind),
        grammar.ask_exists(kind, colour),
        grammar.ask_neighbour(rng.choice(SIDES), kind),
        grammar.ask_largest(),
        grammar.OFF_TOPIC,
    )


def _describe_questions(grammar: Grammar, language: str) -> tuple[str, ...]:
    return (LANGUAGES[language].default_question, *grammar.DESCRIBE)


def _describe(scene: Scene, _: random.Random, grammar: Grammar, language: str) -> _Found:
    groups = scene.groups()
    meaning = Meaning("describe", n=groups[0].n, found=(groups[0].kind, groups[0].colour))
    return _describe_questions(grammar, language), grammar.describe(groups), meaning


def _count(scene: Scene, rng: random.Random, grammar: Grammar, _: str) -> _Found:
    """Often of what is there, by kind, colour or both; sometimes of what is not."""
    thing = rng.choice(scene.things)
    what = rng.choice(("all", "kind", "kind", "colour", "both", "absent"))
    kind = thing.kind if what in ("kind", "both") else None
    colour = thing.colour if what in ("colour", "both") else None
    if what == "absent":
        kind, colour = rng.choice(KINDS), rng.choice((None, None, rng.choice(COLOURS), thing.colour))
    n = scene.count(kind, colour)
    return grammar.ask_count(kind, colour), grammar.count(n, kind, colour), Meaning("count", kind, colour, n=n)


def _colour(scene: Scene, rng: random.Random, grammar: Grammar, _: str) -> _Found:
    things = [thing for thing in scene.things if scene.only(thing.kind)]
    if not things:
        return None
    thing = rng.choice(things)
    meaning = Meaning("colour", thing.kind, n=1, found=(thing.kind, thing.colour))
    return grammar.ask_colour(thing.kind), grammar.colour(thing.kind, thing.colour), meaning


def _exists(scene: Scene, rng: random.Random, grammar: Grammar, _: str) -> _Found:
    """Half of what is there; of the rest, often a thing that differs from one there in kind or colour alone."""
    thing = rng.choice(scene.things)
    kind, colour = rng.choice(
        (
            (thing.kind, None),
            (thing.kind, thing.colour),
            (thing.kind, rng.choice(COLOURS)),
            (rng.choice(KINDS), thing.colour),
            (rng.choice(KINDS), None),
        )
    )
    n = scene.count(kind, colour)
    return grammar.ask_exists(kind, colour), grammar.exists(n, kind, colour), Meaning("exists", kind, colour, n=n)


def _neighbour(scene: Scene, rng: random.Random, grammar: Grammar, _: str) -> _Found:
    """One thing on that side, or (a quarter) nothing; never several, nor one on the diagonal."""
    nothing, one = list[_Where](), list[_Where]()
    for thing in scene.things:
        for side in SIDES if scene.only(thing.kind) else ():
            others = scene.neighbours(thing, side)
            if others is not None and len(others) < 2:
                (one if others else nothing).append((side, thing.kind, others))
    choices = one if one and (rng.random() < 0.75 or not nothing) else nothing
    if not choices or (not one and rng.random() < 0.8):
        return None
    side, kind, others = rng.choice(choices)
    found = (others[0].kind, others[0].colour) if others else None
    meaning = Meaning("neighbour", kind, side=side, n=len(others), found=found)
    return grammar.ask_neighbour(side, kind), grammar.neighbour(side, kind, found), meaning


def _largest(scene: Scene, _: random.Random, grammar: Grammar, __: str) -> _Found:
    thing = scene.largest()
    if thing is None:
        return None
    found = (thing.kind, thing.colour)
    return grammar.ask_largest(), grammar.largest(*found), Meaning("largest", n=1, found=found)


def _off_topic(_: Scene, __: random.Random, grammar: Grammar, ___: str) -> _Found:
    return grammar.OFF_TOPIC, grammar.UNKNOWN, Meaning("off_topic")


_TASKS: dict[str, Callable[[Scene, random.Random, Grammar, str], _Found]] = {
    "describe": _describe,
    "count": _count,
    "colour": _colour,
    "exists": _exists,
    "neighbour": _neighbour,
    "largest": _largest,
    "off_topic": _off_topic,
}
