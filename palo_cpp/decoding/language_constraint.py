"""Keeps an answer in the script of its language: strictly, or with room for names and quoted words.

`strict`: only the letters and digits of the language's own scripts, and what no language owns: ASCII digits,
punctuation, symbols, emoji, spaces.

`prefer`: words in other scripts pass as names do, and not as sentences do. At most three may follow each other, and
only where other scripts' letters before them are no more than the answer's own and one word's; none begins an answer.
Inside quotation marks eight may follow each other, at the beginning too. A word that has begun may be ended, within
reason.
"""

from __future__ import annotations

import codecs
import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.character_automaton import DEAD, CharacterAutomaton
from palo_cpp.decoding.vocabulary_masks import VocabularyMasks, token_bytes
from palo_cpp.languages.languages import get_language
from palo_cpp.languages.scripts import COMMON, NEVER, SCRIPTS, script_of, scripts_of_all
from palo_cpp.llm.token_table import HasTokenTable

if TYPE_CHECKING:
    from palo_cpp.decoding.token_constraint import TokenConstraint

# States between two characters: only own ones may come; a word in another script may go on; anything may come.
_OWN, _WORD, _ANY = 1, 2, 3

_QUOTES = {"“": "”", "«": "»", "„": "“", "「": "」", "『": "』", "《": "》", '"': '"'}
_MAX_WORDS, _MAX_QUOTED_WORDS = 3, 8
# Letters; where scripts put no space between words, a character counts for about as many letters as it says.
_MAX_LETTERS_PER_WORD = 12
_LETTERS_PER_CHARACTER = {"Hani": 3, "Kana": 3}


@functools.cache
def _automaton(scripts: tuple[str, ...]) -> CharacterAutomaton:
    """The three states' automaton for answers written in some scripts."""
    own = {COMMON, *scripts}
    own_only = [_OWN if script in own else DEAD for script in SCRIPTS]
    in_word = [_OWN if script in own else _WORD if script != NEVER else DEAD for script in SCRIPTS]
    anything = [_ANY if script != NEVER else DEAD for script in SCRIPTS]
    return CharacterAutomaton(np.array([own_only, in_word, anything], np.uint8)[:, scripts_of_all()])


class LanguageConstraints:
    """Makes the constraints of one model's answers; their masks are made once for each script."""

    def __init__(self, vocabulary: HasTokenTable) -> None:
        self._vocabulary = vocabulary
        self._masks: dict[tuple[str, ...], VocabularyMasks] = {}

    def of(self, language: str | None, mode: str) -> tuple[TokenConstraint, ...]:
        """The constraints of one answer.

        Args:
            language: code; None where none was asked for.
            mode: `lang_mode` of `DecodingOptions`.

        Returns:
            Fresh ones: none where nothing is to be kept.
        """
        if language is None or mode == "off":
            return ()
        scripts = get_language(language).letters
        if scripts not in self._masks:
            self._masks[scripts] = VocabularyMasks(token_bytes(self._vocabulary.token_table), _automaton(scripts))
        kind = StrictScript if mode == "strict" else PreferredScript
        return (kind(self._masks[scripts], scripts),)


class StrictScript:
    """Lets only the language's own characters through."""

    def __init__(self, masks: VocabularyMasks, _scripts: tuple[str, ...]) -> None:
        self._masks = masks
        self._state = _OWN

    def allowed(self) -> NDArray[np.bool_]:
        """The tokens [n_vocab] that may come next."""
        return self._masks.mask(self._state)

    def accept(self, token: int) -> None:
        """Take note of the token that came; one that was not allowed starts again."""
        self._state = self._masks.after(self._state, token) or _OWN


class PreferredScript:
    """Lets names and quoted words in other scripts through, as the head of this module says."""

    def __init__(self, masks: VocabularyMasks, scripts: tuple[str, ...]) -> None:
        self._masks = masks
        self._run = _ForeignRun(frozenset(scripts))
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._state = _OWN

    def allowed(self) -> NDArray[np.bool_]:
        """The tokens [n_vocab] that may come next."""
        return self._masks.mask(self._state)

    def accept(self, token: int) -> None:
        """Take note of the token that came; one that was not allowed starts again."""
        for character in self._decoder.decode(self._masks.tokens.pieces[token]):
            self._run.take(character)
        state = self._masks.after(self._state, token)
        self._state = state if state > _ANY else self._run.state


class _ForeignRun:
    """Counts letters and words of other scripts, and says which state of the automaton follows from them."""

    def __init__(self, own: frozenset[str]) -> None:
        self._own = own
        self._n_own = self._n_foreign = 0  # letters of the whole answer
        self._n_words = self._n_letters = 0  # since the last letter of its own
        self._n_foreign_before = 0  # letters before these words
        self._in_word = False
        self._closing = ""  # the mark that ends the quotation; "" outside

    def take(self, character: str) -> None:
        script = script_of(character)
        weight = _LETTERS_PER_CHARACTER.get(script, 1)
        if script == COMMON:
            self._in_word = False
            self._take_mark(character)
        elif script in self._own:
            self._n_own += weight
            self._n_words = self._n_letters = 0
            self._n_foreign_before = self._n_foreign
            self._in_word = False
        else:
            self._n_words += not self._in_word
            self._n_foreign += weight
            self._n_letters += weight
            self._in_word = True

    def _take_mark(self, character: str) -> None:
        if self._closing:
            self._closing = "" if character == self._closing else self._closing
        else:
            self._closing = _QUOTES.get(character, "")

    @property
    def state(self) -> int:
        """The state of the automaton that follows."""
        max_words = _MAX_QUOTED_WORDS if self._closing else _MAX_WORDS
        max_letters = max_words * _MAX_LETTERS_PER_WORD
        if self._n_letters >= max_letters:
            return _OWN
        has_room = self._n_foreign_before < self._n_own + (max_letters if self._closing else _MAX_LETTERS_PER_WORD)
        if self._n_words < max_words and has_room and (self._n_own or self._closing):
            return _ANY
        return _WORD if self._in_word else _OWN
