"""A Palo without a model, for tests of the command line: remembers what it was asked, answers what it was told to."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from palo_cpp.chat.answer import Answer, AnswerStream, InputImage, Inputs, Timings
from palo_cpp.chat.context_budget import ContextUse
from palo_cpp.chat.language_policy import verdict
from palo_cpp.cli import open_model
from palo_cpp.decoding.options import DEFAULT_LANG_MODE
from palo_cpp.errors import ImageError, PaloError, SessionError
from palo_cpp.languages.languages import LANGUAGES, Language, get_language
from palo_cpp.segments import Turn

# One answer in each language: combining marks, joiners, right-to-left text with Latin words and digits in it.
ANSWERS = {
    "en": "A red circle, 3 cm wide.",
    "zh": "一个红色的圆形。",
    "hi": "तस्वीर में एक लाल वृत्त है, 3 सेमी चौड़ा।",
    "es": "Un círculo rojo: ¡qué bonito!",
    "fr": "Un cercle rouge, très rond.",
    "ar": "دائرة حمراء عرضها 3 سم (PALO).",
    "bn": "ছবিতে একটি লাল বৃত্ত আছে।",
    "ru": "Красный круг на белом фоне.",
    "ur": "تصویر میں ایک سرخ دائرہ ہے، PALO 3۔",
    "ja": "赤い丸が描かれています。👩‍🚀",
}


@dataclass
class FakePalo:
    """Stands where `Palo` stands.

    Attributes:
        pieces: what every answer says; None answers as `ANSWERS` does, character by character.
        finish_reason: how answers end.
        during: called before each piece, with its number; may raise or send a signal.
        asked: one dictionary for each question.
        images: every image that was opened.
        unreadable: an image that cannot be, beside missing.jpg.
    """

    pieces: list[str] | None = None
    finish_reason: str = "stop"
    during: Any = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    unreadable: str = ""
    options: Any = None
    is_closed: bool = False
    n_cleared: int = 0
    n_prepared: int = 0
    sees_images: bool = True
    name: str = "Fake & <Palo>"
    languages: tuple[str, ...] = tuple(LANGUAGES)
    loaded: list[Any] = field(default_factory=list)
    saved: list[Any] = field(default_factory=list)

    def __enter__(self) -> FakePalo:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True

    def open_image(self, image: Any) -> None:
        if image in ("missing.jpg", self.unreadable):
            raise ImageError(f"{image}: expected an image, got no file there; check the path")
        self.images.append(image)

    def chat(self, image: Any = None, *, lang: str | None = None) -> FakeChat:
        chat = FakeChat(self, lang)
        if image is not None:
            chat.add_image(image)
        return chat

    def language(self, name: str) -> Language:
        return get_language(name)

    def load_chat(self, path: Path) -> FakeChat:
        """What `FakeChat.save` wrote: a pickle, for it is a test's own."""
        try:
            lang, lang_mode, turns, pending_images, with_kv = pickle.loads(path.read_bytes())
        except (OSError, pickle.UnpicklingError):
            raise SessionError(f"{path}: expected a session file, got another") from None
        self.loaded.append((path.name, with_kv))
        return FakeChat(self, lang, turns, pending_images, lang_mode)

    def stream(
        self, image: Any, question: str | None = None, *, lang: str | None = None, **options: Any
    ) -> AnswerStream:
        return self.chat(image, lang=lang).stream(question, **options)

    def describe(self, image: Any, *, lang: list[str], **options: Any) -> dict[str, Answer]:
        self.open_image(image)
        return {code: FakeChat(self, code, pending_images=[image]).stream(**options).read() for code in lang}


@dataclass
class FakeChat:
    """Stands where `Chat` stands; what was cut off stays a turn here, too."""

    palo: FakePalo
    lang: str | None
    turns: list[Turn] = field(default_factory=list)
    pending_images: list[Any] = field(default_factory=list)
    lang_mode: str = DEFAULT_LANG_MODE
    keeps_prompt: bool = True

    def __enter__(self) -> FakeChat:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stream(
        self, question: str | None = None, *, lang: str | None = None, instead: bool = False, **options: Any
    ) -> AnswerStream:
        code = lang or self.lang
        mode = {} if self.lang_mode == DEFAULT_LANG_MODE else {"lang_mode": self.lang_mode}
        self.palo.asked.append(
            {"question": question, "lang": code, **mode, **options, **({"instead": True} if instead else {})}
        )
        shown = (*(image for turn in self.turns for image in turn.images), *self.pending_images)
        pieces = self.palo.pieces if self.palo.pieces is not None else list(ANSWERS[code or "en"])
        said: list[str] = []

        def speak() -> Any:
            for n, piece in enumerate(pieces):
                if self.palo.during:
                    self.palo.during(n)
                said.append(piece)
                yield piece

        def finish(was_cut: bool) -> Answer:
            reason = "cancelled" if was_cut else self.palo.finish_reason
            if said:
                images = (*(self.turns[-1].images if instead else ()), *self.pending_images)
                turn = Turn(question or "", "".join(said), images=images, asked=question)
                self.turns[len(self.turns) - instead :] = [turn]
                self.pending_images.clear()
            made = answer("".join(said), code, n_images=len(shown))
            return replace(made, finish_reason=reason, token_ids=tuple(range(len(said))))

        return AnswerStream(speak(), finish)

    def add_image(self, image: Any, *, if_new: bool = False) -> bool:
        self.palo.open_image(image)
        if if_new and image in (*self.pending_images, *(shown for turn in self.turns for shown in turn.images)):
            return False
        self.pending_images.append(image)
        return True

    def set_images(self, images: Any) -> None:
        for image in images:
            self.palo.open_image(image)
        self.palo.n_cleared += 1
        self.turns.clear()
        self.pending_images[:] = images

    def save(self, path: Path, *, with_kv: bool) -> None:
        if path.name == "full.palo":
            raise PaloError(f"{path.name}: cannot write (No space left on device)")
        path.write_bytes(pickle.dumps((self.lang, self.lang_mode, self.turns, self.pending_images, with_kv)))
        self.palo.saved.append((path.name, with_kv))

    def close(self) -> None:
        pass

    def undo(self) -> Turn:
        turn = self.turns.pop()
        self.pending_images[:0] = turn.images
        return turn

    def clear(self) -> None:
        self.palo.n_cleared += 1
        self.pending_images[:0] = [image for turn in self.turns for image in turn.images]
        self.turns.clear()

    def prepare(self) -> None:
        self.palo.n_prepared += 1

    def context_use(self, lang: str | None = None) -> ContextUse:
        return ContextUse(100 * len(self.turns), 2048, lang or "en", 300)


def answer(text: str, code: str | None, *, n_images: int = 1) -> Answer:
    """An answer as the library makes it."""
    assert code is None or code in LANGUAGES
    image = InputImage((640, 480), "pad", 144, "hash")
    timings = Timings(image_s=0.25, encode_s=1.0, prefill_s=0.5, decode_s=2.0, n_prompt_tokens=190, n_generated=24)
    inputs = Inputs("USER: <image>\n... ASSISTANT:", (image,) * n_images)
    detected, is_ok = verdict(text, code)
    return Answer(text, (1, 2, 3), "stop", code, timings, inputs, language_detected=detected, language_ok=is_ok)


def install(monkeypatch: Any) -> FakePalo:
    """Make the command line open a fake one, unaffected by the environment that the tests run in."""
    for name in [name for name in os.environ if name.startswith("PALO_CPP_")]:
        monkeypatch.delenv(name)
    fake = FakePalo()

    def open_palo(options: Any, *_: Any) -> FakePalo:
        fake.options = options
        return fake

    monkeypatch.setattr(open_model, "open_palo", open_palo)
    return fake
