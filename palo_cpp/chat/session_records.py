"""What a session file says, and its part in JSON, read as if it came from an enemy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.options import LANG_MODES
from palo_cpp.errors import SessionError
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.models.identity import ModelIdentity
from palo_cpp.vision.image import IMAGE_MODES, content_hash_of

FORMAT, VERSION = "palo_cpp session", 1
N_CELLS_MAX = 1 << 20  # the largest context
_SIDE_MAX = 1 << 30  # pixels; no photo has more


@dataclass(frozen=True)
class StoredImage:
    """One image.

    Attributes:
        content_hash: of its pixels.
        preprocess: one of `IMAGE_MODES`.
        size: (width, height) before preprocessing.
        square: its pixels, uint8 [image_size, image_size, 3]; not in the JSON.
    """

    content_hash: str
    preprocess: str
    size: tuple[int, int]
    square: NDArray[np.uint8] = field(repr=False, compare=False)


@dataclass(frozen=True)
class StoredTurn:
    """A `prompt.Turn`; `images` are numbers of images."""

    question: str
    answer: str
    answer_ids: tuple[int, ...] | None
    images: tuple[int, ...] = ()
    asked: str | None = None


@dataclass(frozen=True)
class StoredKv:
    """What stood in the context.

    Attributes:
        cells: [n] i32: a token's id, or -1 - N for a row of image N.
        state: what `LanguageModel.sequence_state` returned, bytes [n].
    """

    cells: NDArray[np.int32]
    state: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class StoredSession:
    """One conversation.

    Attributes:
        model: what it was held with.
        language: code of the language of the answers, or None.
        lang_mode: how that language is kept.
        system: the text that opens the prompt.
        turns: in order.
        images: in the order in which they were shown.
        pending_images: numbers of those that the next question will show.
        palo_cpp: version that wrote the file, for people.
        n_cells: positions of the KV cache in the file; 0 where it has none.
    """

    model: ModelIdentity
    language: str | None
    lang_mode: str
    system: str
    turns: tuple[StoredTurn, ...]
    images: tuple[StoredImage, ...]
    pending_images: tuple[int, ...]
    palo_cpp: str
    n_cells: int = 0


def to_json(session: StoredSession) -> dict[str, Any]:
    """All but the pixels, as plain dictionaries, lists, texts and numbers."""
    said: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    images = [
        {each.name: getattr(image, each.name) for each in fields(image) if each.name != "square"}
        for image in session.images
    ]
    turns = [asdict(turn) for turn in session.turns]
    rest = {each.name: getattr(session, each.name) for each in fields(session)}
    return said | rest | {"model": asdict(session.model), "turns": turns, "images": images}


def from_json(said: Any, read_square: Callable[[int], NDArray[np.uint8]]) -> StoredSession:
    """Check what the JSON says.

    Args:
        said: the parsed text.
        read_square: reads the pixels of image N.

    Raises:
        SessionError: another format, a later version, or anything that `to_json` would not have written.
    """
    session = _JsonObject("session.json", said)
    if session.text("format") != FORMAT:
        raise SessionError(f"session.json: expected the format {FORMAT!r}, got another")
    if (version := session.number("version", 0, 2**31)) != VERSION:
        raise SessionError(f"session.json: expected version {VERSION}, got {version}; use the palo_cpp that wrote it")
    n_images = len(session.items("images"))
    images = tuple(_image(entry, partial(read_square, i)) for i, entry in enumerate(session.entries("images")))
    language = session.optional_text("language")
    if language is not None and language not in LANGUAGES:
        session.refuse("language", "one of the ten or none", language)
    if (lang_mode := session.text("lang_mode")) not in LANG_MODES:
        session.refuse("lang_mode", f"one of {', '.join(LANG_MODES)}", lang_mode)
    model = session.entry("model")
    return StoredSession(
        model=ModelIdentity(**{each.name: model.text(each.name) for each in fields(ModelIdentity)}),
        language=language,
        lang_mode=lang_mode,
        system=session.text("system"),
        turns=tuple(_turn(entry, n_images) for entry in session.entries("turns")),
        images=images,
        pending_images=session.numbers("pending_images", n_images),
        palo_cpp=session.text("palo_cpp"),
        n_cells=session.number("n_cells", 0, N_CELLS_MAX),
    )


def _image(entry: _JsonObject, read_square: Callable[[], NDArray[np.uint8]]) -> StoredImage:
    content_hash, preprocess = entry.text("content_hash"), entry.text("preprocess")
    if preprocess not in IMAGE_MODES:
        entry.refuse("preprocess", " or ".join(IMAGE_MODES), preprocess)
    size = entry.numbers("size", _SIDE_MAX)
    if len(size) != 2:
        entry.refuse("size", "width and height", size)
    square = read_square()
    if content_hash_of(square, preprocess) != content_hash:
        entry.refuse("content_hash", "that of the pixels", content_hash)
    return StoredImage(content_hash, preprocess, (size[0], size[1]), square)


def _turn(entry: _JsonObject, n_images: int) -> StoredTurn:
    ids = None if entry.value("answer_ids") is None else entry.numbers("answer_ids", 2**31)
    images, asked = entry.numbers("images", n_images), entry.optional_text("asked")
    return StoredTurn(entry.text("question"), entry.text("answer"), ids, images, asked)


class _JsonObject:
    """A JSON object of which nothing is believed.

    Args:
        name: what to call it in messages.
        said: the parsed value.
    """

    def __init__(self, name: str, said: Any) -> None:
        self._name = name
        if not isinstance(said, dict):
            self.refuse("it", "an object", said)
        self._said = said

    def refuse(self, key: str, expected: str, got: object) -> NoReturn:
        shown = ascii(got)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        raise SessionError(f"{self._name}: expected {expected} as {key}, got {shown}; the session is damaged")

    def value(self, key: str) -> Any:
        if key not in self._said:
            self.refuse(key, "a value", None)
        return self._said[key]

    def text(self, key: str) -> str:
        text = self.value(key)
        if not isinstance(text, str) or any("\ud800" <= c <= "\udfff" for c in text):  # half a character of UTF-16
            self.refuse(key, "text", text)
        return str(text)

    def optional_text(self, key: str) -> str | None:
        return None if self.value(key) is None else self.text(key)

    def number(self, key: str, low: int, high: int) -> int:
        return self._checked(key, self.value(key), low, high)

    def numbers(self, key: str, end: int) -> tuple[int, ...]:
        """Whole numbers from 0 to `end` - 1."""
        return tuple(self._checked(key, number, 0, end - 1) for number in self.items(key))

    def items(self, key: str) -> list[Any]:
        items = self.value(key)
        if not isinstance(items, list):
            self.refuse(key, "a list", items)
        return list(items)

    def entry(self, key: str) -> _JsonObject:
        return _JsonObject(f"{self._name}, {key}", self.value(key))

    def entries(self, key: str) -> list[_JsonObject]:
        return [_JsonObject(f"{self._name}, {key} {i}", item) for i, item in enumerate(self.items(key))]

    def _checked(self, key: str, number: Any, low: int, high: int) -> int:
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            self.refuse(key, f"a whole number from {low} to {high}", number)
        return int(number)
