"""The context is short: which turns still fit beside a question and its answer, and how many words are left.

The system text and the images stay; the oldest turns leave, said aloud. In a language whose words are many tokens, a
context of 2048 holds one or two turns, so this is the normal course of a conversation and no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from palo_cpp.families.family import Family
from palo_cpp.languages.detection import count_words
from palo_cpp.languages.languages import LANGUAGES, get_language
from palo_cpp.languages.text_samples import ARTICLE_1
from palo_cpp.llm.kv_cache import check_fits
from palo_cpp.segments import Segment, SizedTokenizer, Tokenizer, Turn

# Before an answer begins, this part of the context is free for it: 256 of 2048 tokens, a sentence in any language.
_ANSWER_PART = 8
# Turns leave until this part is free: what stays must be prefilled again, which should not happen with each question.
_ROOM_PART = 4


@dataclass(frozen=True)
class Fitting:
    """A question with as much of its conversation as there is room for.

    Attributes:
        history: the turns that stay.
        turn: the question; it shows the images of all turns that left, where none is before it.
        segments: the prompt.
        n_dropped: how many turns left.
    """

    history: tuple[Turn, ...]
    turn: Turn
    segments: list[Segment]
    n_dropped: int


def fit(
    family: Family, model: SizedTokenizer, history: Sequence[Turn], turn: Turn, *, system: str, max_tokens: int
) -> Fitting:
    """Find the oldest turns that must leave, so that a question has room for its answer.

    Args:
        family: lays out prompts.
        model: the language model.
        history: the turns before the question.
        turn: the question.
        system: the text that opens the prompt.
        max_tokens: as long as the answer may become.

    Returns:
        What fits.

    Raises:
        ArgumentError: the question does not fit even alone.
    """
    turns = [*history, turn]
    segments = family.prompt(model, turns, system=system)
    n_wanted = min(max_tokens, model.n_ctx // _ANSWER_PART)
    while len(turns) > 1 and sum(map(len, segments)) + n_wanted > model.n_ctx:
        n_wanted = max(n_wanted, model.n_ctx // _ROOM_PART)
        turns = _without_oldest(turns)
        segments = family.prompt(model, turns, system=system)
    check_fits(segments, model.n_ctx)
    return Fitting(tuple(turns[:-1]), turns[-1], segments, len(history) + 1 - len(turns))


def _without_oldest(turns: list[Turn]) -> list[Turn]:
    """The images of the turn that leaves are shown by the one after it, each once."""
    oldest, heir, *rest = turns
    known = {image.content_hash for image in heir.images}
    kept = tuple(image for image in oldest.images if image.content_hash not in known)
    return [replace(heir, images=(*kept, *heir.images)), *rest]


@dataclass(frozen=True)
class ContextUse:
    """How full a conversation's context is.

    Attributes:
        n_tokens: tokens and image embeddings that it holds.
        n_ctx: how many fit.
        language: code of the language that the words are counted in.
        n_words_left: about so many words, of questions and answers together, still fit.
    """

    n_tokens: int
    n_ctx: int
    language: str
    n_words_left: int

    def __str__(self) -> str:
        """One sentence."""
        name = LANGUAGES[self.language].english_name
        return f"room for about {self.n_words_left} words of {name} ({self.n_tokens} of {self.n_ctx} tokens are taken)"


def context_use(model: SizedTokenizer, n_tokens: int, lang: str) -> ContextUse:
    """Say how full a context is, in words.

    Args:
        model: the language model.
        n_tokens: how many it holds.
        lang: code or name of a language.
    """
    code = get_language(lang).code
    n_left = max(0, model.n_ctx - n_tokens)
    n_words = int(n_left / tokens_per_word(model, code))
    return ContextUse(n_tokens, model.n_ctx, code, n_words if n_words < 20 else n_words // 10 * 10)


def tokens_per_word(model: Tokenizer, code: str) -> float:
    """What a word costs, measured on one text that exists in all languages."""
    text = ARTICLE_1[code]
    return len(model.tokenize(text)) / count_words(text)
