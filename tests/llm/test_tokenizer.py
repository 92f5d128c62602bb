"""The tokenizer in a converted GGUF file gives the ids that SentencePiece gives, in ten languages and hard cases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from checkpoints import DATA, Size, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_vocabulary import VECTORS, load_vocabulary
from palo_cpp.convert import convert

from palo_cpp.llm.language_model import LanguageModel

SentencePiece = sentencepiece.SentencePieceProcessor

CORPUS = (DATA / "corpus.txt").read_text(encoding="utf-8").splitlines()
# Sentences that the tokenizer was not trained on: many of their characters are bytes to it.
UNSEEN = {
    "en": "Quick zebras jumped over 1,234 lazy foxes; the price was $5.99 (50% off)!",
    "zh": "鑰匙掉在咖啡館後面的樓梯旁，誰撿到了請還給我，謝謝。",
    "hi": "राष्ट्रपति ने क्षेत्र के विद्यार्थियों से ज्ञान और श्रद्धा पर चर्चा की।",
    "es": "El pingüino comió muchísimos ñoquis; ¡qué vergüenza!",
    "fr": "L'œuvre naïve du garçon a été reçue à Nîmes où l'on fêtait Noël.",
    "ar": "قالَ المُعَلِّمُ: إنَّ العِلْمَ نورٌ، والجَهْلَ ظلامٌ ٪١٠٠.",
    "bn": "রাষ্ট্রপতি বিশ্ববিদ্যালয়ের ছাত্রছাত্রীদের উদ্দেশ্যে বক্তৃতা দিলেন।",
    "ru": "Съешь же ещё этих мягких французских булок да выпей чаю № 7.",
    "ur": "ٹھنڈے پانی کے چشمے پہاڑوں سے نکلتے ہیں، ﷺ اور ژالہ باری ہوتی ہے۔",
    "ja": "鶴と亀が踊り、薔薇の花びらがヒラヒラと舞い散った。",
}
HARD = [
    "",
    " ",
    "  ",
    "a",
    " a",
    "a ",
    "  two  spaces   three  ",
    "\n",
    "\n\n",
    "\nWhat is this?",
    "line\nline\r\nline",
    "\ttab\t\ttabs",
    "nbsp\u00a0thin\u2009ideographic\u3000end",
    "👩‍👩‍👧‍👦 family, 👍🏽 skin, 🇮🇳 flag, ❤️ selector, 😀😀",
    "क्\u200dष क्\u200cष र्\u200dय",  # Devanagari with joiner and non-joiner
    "র\u200d্যাব ক্\u200cত",  # Bengali with the same
    "می\u200cخواهم \u200fעברית\u200e مرحبا\u202bRTL\u202c",
    "e\u0301 é ﬁ ２ ² ａ",  # nothing may be normalized
    "▁▁ the piece for a space ▁",
    "\u0000nul\u0007bell\u007f",
    "\ufeffbom \ufffd replacement",
    "𝒳𠀀\U0010ffff",
    "0123456789 ٠١٢٣ ०१२३ ০১২৩ 2.50",
    "<0x41> <0xE0> is text",
    "<image>",
    "< s> <unk < /s> <",
    "a" * 300,
    "হহহহ" * 50,
]


@pytest.fixture(scope="module")
def sentence_piece() -> SentencePiece:
    return SentencePiece(model_file=str(DATA / "tokenizer.model"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    folder = tmp_path_factory.mktemp("tokenizer")
    checkpoint = write_checkpoint(folder / "checkpoint", projector="linear")
    with LanguageModel(convert(checkpoint, folder / "gguf").model_path, n_ctx=64) as model:
        yield model


@pytest.mark.parametrize("text", [*UNSEEN.values(), *HARD], ids=lambda text: ascii(text[:12]))
def test_ids_equal_sentencepiece(text: str, model: LanguageModel, sentence_piece: SentencePiece) -> None:
    assert model.tokenize(text) == sentence_piece.encode(text)
    assert model.tokenize(text, add_bos=True) == [1, *sentence_piece.encode(text)]


def test_the_whole_corpus(model: LanguageModel, sentence_piece: SentencePiece) -> None:
    for line in [*CORPUS, "\n".join(CORPUS)]:
        assert model.tokenize(line) == sentence_piece.encode(line), line[:50]


def test_languages_really_reach_bytes_and_pieces(sentence_piece: SentencePiece) -> None:
    for language, text in UNSEEN.items():
        ids = sentence_piece.encode(text)
        n_bytes = sum(map(sentence_piece.is_byte, ids))
        assert n_bytes < len(ids), language
        assert n_bytes > 0 or language in ("en", "ru", "bn"), language


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text(text: str, model: LanguageModel, sentence_piece: SentencePiece) -> None:
    if any(special in text for special in ("<s>", "</s>", "<unk>")):
        return  # see test_control_tokens_in_text
    assert model.tokenize(text) == sentence_piece.encode(text)


def test_mixed_scripts(model: LanguageModel, sentence_piece: SentencePiece) -> None:
    generator = random.Random(0)
    words = [word for line in [*CORPUS, *UNSEEN.values(), *HARD] for word in line.split(" ")]
    for _ in range(300):
        text = "".join(generator.choice(words) + generator.choice(["", " ", "  ", "\n"]) for _ in range(8))
        assert model.tokenize(text) == sentence_piece.encode(text), text


def test_text_continued_has_no_dummy_prefix(model: LanguageModel) -> None:
    # Protocol buffers merge: normalizer_spec (field 3) with add_dummy_prefix (field 3) = false, after the whole model.
    no_prefix = SentencePiece(model_proto=(DATA / "tokenizer.model").read_bytes() + b"\x1a\x02\x18\x00")
    assert no_prefix.encode("a") != model.tokenize("a")
    for text in [*UNSEEN.values(), *HARD, "USER: फिर से ASSISTANT:"]:
        assert model.tokenize_continued(text) == no_prefix.encode(text), text


def test_bytes_join_to_the_text(model: LanguageModel) -> None:
    for text in [*CORPUS, *UNSEEN.values(), *HARD]:
        joined = b"".join(map(model.token_bytes, model.tokenize(text)))
        assert joined.decode() == (f" {text}" if text else "").replace("▁", " "), text


def test_all_tokens_at_once_equal_one_by_one(model: LanguageModel) -> None:
    table = model.token_table
    assert [*table.pieces] == [model.token_bytes(token) for token in range(model.n_vocab)]
    assert np.flatnonzero(table.ends_generation).tolist() == [2] and model.ends_generation(2)


def test_control_tokens_in_text(model: LanguageModel) -> None:
    """What a user types never ends the conversation; only where it is asked for is `</s>` the token."""
    for text in ("</s>", "a</s>b", "<s>", "<unk>", "x <s> y</s>"):
        ids = model.tokenize(text)
        assert not {0, 1, 2} & set(ids), text
        assert b"".join(map(model.token_bytes, ids)).decode() == f" {text}"
    assert model.tokenize("</s>", parse_special=True) == [2]


def test_added_tokens(tmp_path: Path, sentence_piece: SentencePiece) -> None:
    """Added tokens are cut out of the text first; each stretch between is text of its own (transformers' legacy)."""
    added = {"<extra>": 960, "[चित्र]": 961}
    size = Size(n_vocab=992)  # more rows than there are tokens
    checkpoint = write_checkpoint(tmp_path / "checkpoint", projector="linear", added_tokens=added, size=size)
    with LanguageModel(convert(checkpoint, tmp_path / "gguf").model_path, n_ctx=64) as model:
        assert model.n_vocab == 992
        encode = sentence_piece.encode
        assert model.tokenize("<extra>") == [960]
        assert model.tokenize("a<extra>b c") == [*encode("a"), 960, *encode("b c")]
        assert model.tokenize("यह [चित्र] है") == [*encode("यह "), 961, *encode(" है")]
        assert model.tokenize("<extra") == encode("<extra")
        for text in [*UNSEEN.values(), *HARD]:
            assert model.tokenize(text) == encode(text), text


def test_vectors_of_llama() -> None:
    for path in VECTORS:
        texts = path.read_bytes().decode().split("\n__ggml_vocab_test__\n")
        lines = path.with_name(path.name.replace(".inp.", ".out.")).read_text().split("\n")
        vocabulary, free = load_vocabulary(path.with_name(path.name.replace(".inp.txt", ".gguf")))
        try:
            for text, line in zip(texts, lines[: len(texts)], strict=True):
                assert vocabulary.tokenize(text) == [int(token) for token in line.split()], text
        finally:
            free()
