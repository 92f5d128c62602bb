"""Several rules about the next token are one."""

from __future__ import annotations

import numpy as np
from fake_vocabulary import EOS, FakeModel

from palo_cpp.decoding.decoding import Decoding
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.decoding.token_constraint import allowed_by_all


class Only:
    """Allows the tokens named, or all; notes what came."""

    def __init__(self, *tokens: int, n_vocab: int = 8) -> None:
        self._mask = np.isin(np.arange(n_vocab), tokens) if tokens else None
        self.accepted: list[int] = []

    def allowed(self):
        return self._mask

    def accept(self, token: int) -> None:
        self.accepted.append(token)


def test_all_together_allow_what_each_allows():
    assert allowed_by_all(()) is None
    assert allowed_by_all([Only(), Only()]) is None
    assert np.flatnonzero(allowed_by_all([Only(1, 2, 3), Only(), Only(2, 3, 4)])).tolist() == [2, 3]


def test_a_rule_that_leaves_nothing_gives_way_to_those_before_it():
    assert np.flatnonzero(allowed_by_all([Only(1, 2), Only(3), Only(2, 5)])).tolist() == [2]


def test_an_answer_keeps_to_its_constraints_and_they_hear_of_each_token():
    model = FakeModel()
    only = Only(ord("b"), ord("c"), EOS, n_vocab=257)
    decoding = Decoding(model, DecodingOptions(), [only])
    said = [ord("a"), ord("c"), 0xE0, ord("b")]
    shown = [decoding.take(model.logits(token, ord("b"))) for token in said]
    assert decoding.take(model.logits(EOS)) == "" and decoding.is_finished
    assert "".join(shown) + decoding.finish() == "bcbb"
    assert only.accepted == decoding.token_ids == list(b"bcbb")


def test_utf8_comes_before_every_other_rule():
    """A rule that allows letters only cannot break a character that has begun."""
    model = FakeModel()
    decoding = Decoding(model, DecodingOptions(), [Only(ord("a"), 0xC3, n_vocab=257)])
    decoding.take(model.logits(0xC3))
    decoding.take(model.logits(ord("a"), 0xA9))
    assert decoding.token_ids == [0xC3, 0xA9]
