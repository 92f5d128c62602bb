"""One image described in several languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from palo_cpp.chat.chat import Chat
from palo_cpp.chat.parallel_answers import ParallelAnswers
from palo_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer
    from palo_cpp.models.loaded_model import LoadedModel
    from palo_cpp.vision.image import ImageSource


def describe(
    model: LoadedModel, image: ImageSource, lang: str | Iterable[str], question: str | None, options: Mapping[str, Any]
) -> dict[str, Answer]:
    """See `Palo.describe`: side by side where the model's prompts share a prefix, else one after the other."""
    codes, opened = _language_codes(model, lang), model.embedder.open(image)
    chats = []
    for code in codes:
        chats.append(Chat(model, lang=code))
        chats[-1].pending_images.append(opened)
        opened = replace(opened, elapsed_s=0.0)  # it was opened for the first answer only
    if model.prefix is None:
        answers = [chat.ask(question, **options) for chat in chats]
    else:
        answers = ParallelAnswers(model, [chat.plan(question, **options) for chat in chats]).run()
    return dict(zip(codes, answers, strict=True))


def _language_codes(model: LoadedModel, lang: str | Iterable[str]) -> list[str]:
    if isinstance(lang, str):
        return list(model.languages) if lang.strip().casefold() == "all" else [model.language(lang).code]
    codes = list(dict.fromkeys(model.language(name).code for name in lang))
    if not codes:
        raise ArgumentError("lang: expected at least one language, got none; name one, or 'all'")
    return codes
