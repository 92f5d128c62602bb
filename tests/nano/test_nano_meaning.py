"""What a question means is the same in every language, and is what its answer says."""

import random

import pytest

from nano.conversations import CODES, make_picture
from nano.exchanges import exchange
from nano.meaning import ASKED, FOUND, NOT_SAID, TASKS, Meaning
from nano.questions import GRAMMARS
from nano.scenes import make_scene
from nano.things import COLOURS, KINDS, MAX_THINGS

SEEDS = range(5000, 5060)


def asked(scene, task, code, seed):
    return exchange(scene, random.Random(seed), code, task)


@pytest.mark.parametrize("task", TASKS)
def test_it_is_the_same_in_every_language(task):
    found = 0
    for seed in SEEDS:
        meanings = {turn and turn.meaning for turn in (asked(make_scene(seed), task, code, seed) for code in CODES)}
        assert len(meanings) == 1
        found += meanings != {None}
    assert found > 10


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_follows_from_it(task):
    """The grammar says the same of the meaning as of the scene."""
    en = GRAMMARS["en"]
    for seed in SEEDS:
        turn = asked(make_scene(seed), task, "en", seed)
        if turn is None:
            continue
        m = turn.meaning
        said = {
            "count": lambda m: en.count(m.n, m.kind, m.colour),
            "exists": lambda m: en.exists(m.n, m.kind, m.colour),
            "colour": lambda m: en.colour(*m.found),
            "neighbour": lambda m: en.neighbour(m.side, m.kind, m.found),
            "largest": lambda m: en.largest(*m.found),
            "off_topic": lambda _: en.UNKNOWN,
        }
        if task == "describe":
            first = make_scene(seed).groups()[0]
            assert (m.n, m.found) == (first.n, (first.kind, first.colour))
        else:
            assert said[task](m) == turn.answer
        assert m.task == task


def test_it_is_told_in_numbers():
    for seed in SEEDS:
        for task in TASKS:
            turn = asked(make_scene(seed), task, "ur", seed)
            for values, sizes in ((turn.meaning.asked(), ASKED), (turn.meaning.answered(), FOUND)) if turn else ():
                assert len(values) == len(sizes)
                assert all(v == NOT_SAID or 0 <= v < n for v, n in zip(values, sizes.values(), strict=True))
    one = Meaning("neighbour", "fish", side="above", n=1, found=("cup", "white"))
    assert one.asked() == (list(TASKS).index("neighbour"), 1 + KINDS.index("fish"), 0, 3)
    assert one.answered() == (1, 1 + KINDS.index("cup"), 1 + COLOURS.index("white"))
    nothing = Meaning("neighbour", "fish", side="above", n=0)
    assert nothing.answered() == (0, 0, 0)
    assert Meaning("count", "cup", n=2).answered() == (2, NOT_SAID, NOT_SAID)


def test_what_is_asked_about_another_picture_is_not_told():
    picture = next(p for p in map(make_picture, range(200)) if p.scene is None)
    turn = exchange(picture.scene, random.Random(1), "ja", "count")
    assert turn.answer == GRAMMARS["ja"].UNKNOWN
    assert set(turn.meaning.asked()) == {NOT_SAID}
    assert turn.meaning.answered() == (MAX_THINGS + 1, NOT_SAID, NOT_SAID)
