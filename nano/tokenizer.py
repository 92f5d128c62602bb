"""Nano's tokenizer: SentencePiece BPE with byte fallback, LLaMA's settings, trained on the text of the questions.

`python -m nano.tokenizer FILE` trains it and prints tokens per answer; nano.train does so by itself where it must.
"""

from __future__ import annotations

import io
import random
import statistics
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import sentencepiece

from nano.conversations import CODES, TRAINING, conversation, make_picture
from nano.exchanges import exchange
from nano.meaning import TASKS
from nano.questions import GRAMMARS
from palo_cpp.families.palo.prompt import SYSTEM
from palo_cpp.languages.languages import LANGUAGES

N_PIECES = 2560  # at 2048 an answer takes half as many tokens again (nano/README.md)
_N_PICTURES = 1500  # enough that every word of every language has its place; more changes few pieces


def train(path: Path) -> None:
    """Write the tokenizer to `path`; always the same one."""
    model = io.BytesIO()  # no file names on the way: they would be in the model
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_lines(),
        model_writer=model,
        model_type="bpe",
        vocab_size=N_PIECES,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        max_sentencepiece_length=12,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=1,
    )
    path.write_bytes(model.getvalue())


def _lines() -> Iterator[str]:
    """The corpus: every language alike; a question also as it follows the image's newline, without a space."""
    for seed in range(TRAINING.start, TRAINING.start + _N_PICTURES):
        picture, rng = make_picture(seed), random.Random(seed)
        for code in CODES:
            for turn in conversation(picture, rng, (code,)):
                yield f":{turn.question} ASSISTANT:"
                yield turn.question
                yield turn.answer
    for _ in range(300):
        yield f"{SYSTEM} USER: "
        for code in CODES:
            yield f":{LANGUAGES[code].default_question}"
            yield LANGUAGES[code].answer_request


class NanoTokenizer:
    """The tokenizer with what `palo_cpp.families.palo.prompt.prompt_segments` needs of a language model."""

    bos_id, eos_id = 1, 2
    metadata: dict[str, Any] = {"palo.tokenizer_legacy": False}  # noqa: RUF012

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.n_pieces: int = self._model.get_piece_size()
        self._encode = lru_cache(maxsize=1 << 16)(self._model.encode)

    def tokenize(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Tokens of text on its own, with its dummy prefix."""
        return [self.bos_id, *self._encode(text)] if add_bos else list(self._encode(text))

    def tokenize_continued(self, text: str) -> list[int]:
        """Tokens of text without the dummy prefix: after a newline, which is then cut off."""
        return list(self._encode(f"\n{text}")[len(self._encode("\n")) :])

    def decode(self, tokens: list[int]) -> str:
        """The text of an answer."""
        text: str = self._model.decode(tokens)
        return text


def tokens_per_answer(tokenizer: NanoTokenizer) -> dict[str, tuple[float, float]]:
    """Mean tokens of a question and of an answer, by language."""
    sizes: dict[str, tuple[float, float]] = {}
    for code in GRAMMARS:
        rng, turns = random.Random(0), []
        for seed in range(200):
            picture = make_picture(seed)
            turns += [exchange(picture.scene, rng, code, task) for task in TASKS]
        pairs = [(len(tokenizer.tokenize(t.question)), len(tokenizer.tokenize(t.answer))) for t in turns if t]
        sizes[code] = (statistics.mean(q for q, _ in pairs), statistics.mean(a for _, a in pairs))
    return sizes


def main() -> None:
    """Train into the file named on the command line."""
    path = Path(sys.argv[1])
    train(path)
    tokenizer = NanoTokenizer(path)
    print(f"{tokenizer.n_pieces} pieces; system prompt {len(tokenizer.tokenize(SYSTEM))} tokens")
    for code, (question, answer) in tokens_per_answer(tokenizer).items():
        print(f"{code}: question {question:.1f}, answer {answer:.1f} tokens")


if __name__ == "__main__":
    main()
