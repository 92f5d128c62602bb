"""CPM-Bee's tokens: the longest entry of the vocabulary at each place, and words that it lacks.

Source: OpenBMB/VisCPM, VisCPM/cpm_tokenizers/bee.py `CPMBeeTokenizer`, read for its rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.llm.token_table import TokenTable

# Where the published vocabulary has them; a prompt is made of these.
SPECIAL_IDS = {
    "<pad>": 0,
    "<unk>": 1,
    "<mask>": 2,
    "<sep>": 3,
    "</n>": 4,
    "</_>": 5,
    "<s>": 6,
    "</s>": 7,
    "<root>": 8,
    "<ans>": 9,
    "<option>": 10,
}
PAD_ID, UNK_ID, MASK_ID, SEP_ID, BOS_ID, EOS_ID = 0, 1, 2, 3, 6, 7
# What two entries stand for: a line of the file cannot hold the one, and the other would be invisible.
_SPELLED = {"</n>": "\n", "</_>": " "}


def escape(text: str) -> str:
    """Text as the published code's own `tokenize` takes it, where `<` opens a special token."""
    return text.replace("<", "<<")


def unescape(text: str) -> str:
    """Text of the published code's `decode` as people read it."""
    return text.replace("<<", "<")


@dataclass
class WordTable:
    """Words of one request that the vocabulary lacks, in order of their first use.

    The place of a word is its sub id. The first is `<unk>` itself; the others have ids after the vocabulary's.
    """

    words: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def place(self, word: str) -> int:
        """The word's sub id."""
        if word not in self._places:
            self._places[word] = len(self.words)
            self.words.append(word)
        return self._places[word]


class BeeTokenizer:
    """A vocabulary of CPM-Bee.

    Args:
        lines: of vocab.txt: line number is id.
        name: of the file, for messages.

    Attributes:
        lines: of vocab.txt.
        texts: what each token stands for: `</n>` is a newline, `</_>` a space.
        specials: special tokens -> ids.

    Raises:
        ModelFormatError: the specials do not stand where they must, or a line is empty or there twice.
    """

    def __init__(self, lines: Sequence[str], name: str = "vocab.txt") -> None:
        _check_lines(lines, name)
        self.lines = list(lines)
        self.texts = [_SPELLED.get(line, line) for line in lines]
        ids = {text: i for i, text in enumerate(self.texts)}
        self.specials = {text: i for text, i in ids.items() if text.startswith("<") and text.endswith(">")}
        self._ids = {text: i for text, i in ids.items() if text not in self.specials}
        self._longest = max(map(len, self.texts))

    @property
    def n_vocab(self) -> int:
        """Entries of the vocabulary."""
        return len(self.texts)

    def encode(self, text: str, words: WordTable | None = None) -> list[int]:
        """Tokens of a text that means what it says: nothing in it is a special token.

        Args:
            text: as people wrote it, not escaped.
            words: of the request; those that are new are added.

        Returns:
            Ids. The word at place 0 of `words` is `<unk>`, the one at place k > 0 is n_vocab + k - 1.
        """
        words = WordTable() if words is None else words
        tokens: list[int] = []
        unknown, i = "", 0
        while i < len(text):
            length = self._match(text, i)
            if length == 0:
                unknown, i = unknown + text[i], i + 1
                continue
            if unknown:
                tokens.append(self._word_id(words.place(unknown)))
                unknown = ""
            tokens.append(self._ids[text[i : i + length]])
            i += length
        if unknown:
            tokens.append(self._word_id(words.place(unknown)))
        return tokens

    def encode_escaped(self, text: str, words: WordTable | None = None) -> list[int]:
        """Tokens of a text in which `<name>` is a special token and `<<` a `<`, as the published code takes it.

        Raises:
            ArgumentError: a special token that does not end, or that the vocabulary lacks.
        """
        words = WordTable() if words is None else words
        tokens: list[int] = []
        plain, i = "", 0
        while i < len(text):
            if text[i] != "<" or text.startswith("<<", i):
                plain, i = plain + text[i], i + (2 if text[i] == "<" else 1)
                continue
            end = text.find(">", i + 2)
            name = text[i : end + 1]
            if end < 0 or "<" in name[1:] or name not in self.specials:
                raise ArgumentError(
                    f"text: expected {', '.join(self.specials)} or << after a place where one begins, "
                    f"got {text[i : i + 20]!r}; write << for a <"
                )
            tokens += [*self.encode(plain, words), self.specials[name]]
            plain, i = "", end + 1
        return tokens + self.encode(plain, words)

    def _match(self, text: str, start: int) -> int:
        """Length of the longest entry that begins here; 0 where none does."""
        for length in range(min(self._longest, len(text) - start), 0, -1):
            if text[start : start + length] in self._ids:
                return length
        return 0

    def _word_id(self, place: int) -> int:
        return self.n_vocab + place - 1 if place else UNK_ID

    def piece(self, token: int, words: Sequence[str] = ()) -> str:
        """What a token says.

        Args:
            token: of an answer.
            words: of the request that it answers, by their places.
        """
        place = token - self.n_vocab + 1 if token >= self.n_vocab else 0
        if (token == UNK_ID and words) or place:
            return words[place]
        return self.texts[token]

    def decode(self, tokens: Sequence[int], words: Sequence[str] = ()) -> str:
        """Text of tokens as people read it, not escaped."""
        return "".join(self.piece(token, words) for token in tokens)

    @cached_property
    def token_table(self) -> TokenTable:
        """What every token stands for; only `</s>` ends an answer."""
        return TokenTable(tuple(text.encode() for text in self.texts), np.arange(self.n_vocab) == EOS_ID)

    def token_table_with(self, words: Sequence[str]) -> TokenTable:
        """The same for the answer to a request that has words of its own."""
        known = self.token_table
        if not words:
            return known
        pieces = [*known.pieces, *(word.encode() for word in words[1:])]
        pieces[UNK_ID] = words[0].encode()
        base_ids = dict.fromkeys(range(self.n_vocab, len(pieces)), UNK_ID)
        return TokenTable(tuple(pieces), np.arange(len(pieces)) == EOS_ID, base_ids)


def _check_lines(lines: Sequence[str], name: str) -> None:
    for text, i in SPECIAL_IDS.items():
        if len(lines) <= i or lines[i] != text:
            got = repr(lines[i]) if len(lines) > i else "no more lines"
            raise ModelFormatError(
                f"{name}: expected {text} in line {i + 1}, got {got}; take it from openbmb/VisCPM-Chat"
            )
    if "" in lines or len(set(lines)) != len(lines):
        what = "an empty line" if "" in lines else "a line that is there twice"
        raise ModelFormatError(f"{name}: expected every entry once, got {what}; take it from openbmb/VisCPM-Chat")
