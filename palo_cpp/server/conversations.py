"""From the messages of a request to a conversation of the library, with what earlier requests left behind.

Clients send the whole conversation with every question. Its images are recognized by their files' bytes, so that each
is opened once; the answers by their texts, so that their tokens go back in as they came out, and the context holds the
whole prompt up to the new question.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from palo_cpp.languages.languages import question_in
from palo_cpp.segments import ImageSegment, Turn
from palo_cpp.server.question import Message, Question
from palo_cpp.vision.image import check_image

if TYPE_CHECKING:
    from palo_cpp.chat.chat import Chat
    from palo_cpp.palo import Palo

_N_IMAGES, _N_ANSWERS = 64, 256  # 0.3 MiB of pixels each; some kilobytes each

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Recent(Generic[Key, Value]):
    """A dictionary that forgets what was used longest ago.

    Args:
        n_max: how many it keeps.
    """

    def __init__(self, n_max: int) -> None:
        self._n_max = n_max
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            value = self._kept.get(key)
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            if len(self._kept) > self._n_max:
                self._kept.popitem(last=False)


class Conversations:
    """Begins conversations as requests have them.

    Args:
        palo: the model.
        max_pixels: of one image.
    """

    def __init__(self, palo: Palo, max_pixels: int) -> None:
        self._palo = palo
        self._max_pixels = max_pixels
        # Opening an image takes memory by its pixels, and catches warnings, which is the whole process's business.
        self._opening = threading.Lock()
        self._images: _Recent[bytes, ImageSegment] = _Recent(_N_IMAGES)
        self._answers: _Recent[tuple[str | None, str, str], Turn] = _Recent(_N_ANSWERS)

    def begin(self, question: Question, images: Sequence[Sequence[bytes]]) -> Chat:
        """The conversation up to the question that is to be answered, whose images are shown already.

        Args:
            question: the request.
            images: the files of each message's images.

        Raises:
            ImageError: one of the images cannot be read, or has too many pixels.
            ArgumentError: a language that the model does not know.
        """
        chat = self._palo.chat(lang=question.lang, system=question.system)
        *said, _last = question.messages
        for message, files in zip(said, images, strict=False):
            chat.turns.append(self._turn(message, chat.lang, tuple(self.open(data) for data in files)))
        chat.pending_images.extend(self.open(data) for data in images[-1])
        return chat

    def open(self, data: bytes) -> ImageSegment:
        """An image that was perhaps shown before."""
        key = hashlib.sha256(data).digest()
        with self._opening:
            image = self._images.get(key)
            if image is None:
                check_image(data, max_pixels=self._max_pixels)
                with self._palo.chat(data) as chat:
                    image = chat.pending_images[0]
                self._images.put(key, replace(image, elapsed_s=0.0))
        return image

    def remember(self, chat: Chat, text: str) -> None:
        """Keep the last answer's tokens for the request that continues the conversation.

        Args:
            chat: the conversation, answered.
            text: the question as the client worded it.
        """
        if chat.turns and chat.turns[-1].answer is not None:
            turn = chat.turns[-1]
            self._answers.put((chat.lang, text, turn.answer or ""), replace(turn, images=()))

    def _turn(self, message: Message, lang: str | None, images: tuple[ImageSegment, ...]) -> Turn:
        answer = message.answer or ""
        known = self._answers.get((lang, message.text, answer))
        if known is not None:
            return replace(known, images=images)
        is_worded = lang is not None or not message.text.strip()
        worded = question_in(lang or "en", message.text) if is_worded else message.text
        return Turn(worded, answer, images=images, asked=message.text)
