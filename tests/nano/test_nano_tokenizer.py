"""Nano's tokenizer: the same file each time, all text there and back, LLaMA's special tokens."""

import pytest
from conftest import SENTENCES

from nano.questions import GRAMMARS
from nano.things import Group
from nano.tokenizer import N_PIECES, tokens_per_answer, train
from palo_cpp.families.palo.prompt import SYSTEM


def test_it_is_always_the_same(tokenizer_path, tmp_path):
    train(tmp_path / "again.model")
    assert tokenizer_path.read_bytes() == (tmp_path / "again.model").read_bytes()


def test_special_tokens_are_llamas(tokenizer):
    model = tokenizer._model
    assert tokenizer.n_pieces == N_PIECES
    assert [model.id_to_piece(i) for i in range(3)] == ["<unk>", "<s>", "</s>"]
    assert all(model.is_byte(i) for i in range(3, 259))


@pytest.mark.parametrize("text", [*SENTENCES.values(), "", " ", "ß € 🐕 漢 \n\t", "<s></s><unk>"])
def test_any_text_there_and_back(tokenizer, text):
    tokens = tokenizer.tokenize(text)
    assert tokenizer.decode(tokens) == text
    assert not {0, 1, 2} & set(tokens)


@pytest.mark.parametrize("code", GRAMMARS)
def test_answers_need_no_bytes(tokenizer, code):
    groups = [Group("heart", "purple", 2), Group("fish", "white", 1), Group("tree", "orange", 3)]
    text = GRAMMARS[code].describe(groups)
    tokens = tokenizer.tokenize(text)
    assert tokenizer.decode(tokens) == text
    assert min(tokens) > 258


def test_answers_are_short(tokenizer):
    sizes = tokens_per_answer(tokenizer)
    assert max(answer for _, answer in sizes.values()) < 11  # observed: 9.4, French
    assert len(tokenizer.tokenize(SYSTEM)) <= 32


def test_text_goes_on_without_a_space(tokenizer):
    tokens = tokenizer.tokenize_continued("USER: What is it?")
    assert tokens == tokenizer.tokenize("\nUSER: What is it?")[2:]
    assert tokenizer.tokenize("USER", add_bos=True)[0] == 1
