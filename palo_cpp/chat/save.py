"""A conversation to a file and back: what of it can serve again with this model, and what is prefilled again.

    Transcript --save_transcript--> StoredSession, StoredKv --session_file--> FILE --load_transcript--> Transcript

Text and pixels serve with any model. Keys and values serve with the very files that made them and under the same
llama.cpp; n_ctx, threads and kernels do not matter.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from palo_cpp.chat.session_file import read_kv, read_session, write_session
from palo_cpp.chat.session_records import StoredImage, StoredKv, StoredSession, StoredTurn
from palo_cpp.errors import ArgumentError, OutOfMemoryError, SessionError
from palo_cpp.models.identity import ModelIdentity
from palo_cpp.segments import Cell, ImageSegment, Turn

if TYPE_CHECKING:
    from palo_cpp.models.loaded_model import LoadedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transcript:
    """All that a conversation consists of.

    Attributes:
        turns: questions and answers.
        pending_images: to be shown with the next question.
        lang: code of the language of the answers, or None.
        lang_mode: how that is kept.
        system: the text that opens the prompt.
    """

    turns: tuple[Turn, ...]
    pending_images: tuple[ImageSegment, ...]
    lang: str | None
    lang_mode: str
    system: str


def save_transcript(path: Path, transcript: Transcript, model: LoadedModel, *, with_kv: bool) -> None:
    """Write a conversation to a file; see `Chat.save`."""
    from importlib.metadata import version  # a tenth of the import of palo_cpp

    shown = [image for turn in transcript.turns for image in turn.images] + list(transcript.pending_images)
    hashes = list(dict.fromkeys(image.content_hash for image in shown))
    by_hash = {image.content_hash: image for image in shown}
    session = StoredSession(
        model=model.identity,
        language=transcript.lang,
        lang_mode=transcript.lang_mode,
        system=transcript.system,
        turns=tuple(
            StoredTurn(turn.question, turn.answer or "", turn.answer_ids, _numbers(turn.images, hashes), turn.asked)
            for turn in transcript.turns
        ),
        images=tuple(_stored_image(by_hash[content_hash]) for content_hash in hashes),
        pending_images=_numbers(transcript.pending_images, hashes),
        palo_cpp=version("palo-cpp"),
    )
    write_session(path, session, _stored_kv(transcript, model, hashes) if with_kv else None)


def _numbers(images: Sequence[ImageSegment], hashes: list[str]) -> tuple[int, ...]:
    return tuple(hashes.index(image.content_hash) for image in images)


def _stored_image(image: ImageSegment) -> StoredImage:
    if image.square is None:
        raise ArgumentError("session: expected an image with its pixels, got one without; open it with this Palo")
    return StoredImage(image.content_hash, image.preprocess, image.size, image.square)


def _stored_kv(transcript: Transcript, model: LoadedModel, hashes: list[str]) -> StoredKv | None:
    if not transcript.turns:  # only the system text may be held, and that is prefilled faster than a file is read
        return None
    if model.prefix is None:  # nothing of a prompt serves the next one
        return None
    prefix = model.family.prompt_prefix(
        model.language_model, transcript.turns, transcript.pending_images, system=transcript.system
    )
    stored = model.prefix.cache.stored(prefix)
    if stored is None:
        return None
    cells, state = stored
    numbers = {content_hash: -1 - i for i, content_hash in enumerate(hashes)}
    return StoredKv(np.array([_number(cell, numbers) for cell in cells], np.int32), state)


def _number(cell: Cell, numbers: dict[str, int]) -> int:
    """A row of an image as -1 - N; a token as itself, wherever its keys and values came from."""
    return cell if isinstance(cell, int) else numbers.get(cell[0], cell[1])


def load_transcript(path: Path, model: LoadedModel) -> Transcript:
    """Read a conversation and put its keys and values back, where they fit; see `Palo.load_chat`."""
    session, own = read_session(path), model.identity
    images = [model.embedder.reopen(each.square, mode=each.preprocess, size=each.size) for each in session.images]
    origin = f"session {secrets.token_hex(8)}"
    n_ids = model.language_model.n_vocab if session.model.text_id == own.text_id else 0
    transcript = Transcript(
        turns=tuple(_turn(turn, images, n_ids, origin) for turn in session.turns),
        pending_images=tuple(images[i] for i in session.pending_images),
        lang=session.language,
        lang_mode=session.lang_mode,
        # A family whose prompts have no such text says none for all others.
        system=session.system or (own.text_id != session.model.text_id and model.family.system) or "",
    )
    reason = _difference(session.model, own) or _restored(path, session, model, images, origin)
    if reason:
        logger.warning("%s: %s; the conversation is prefilled again with the next question", path.name, reason)
    return transcript


def _turn(turn: StoredTurn, images: list[ImageSegment], n_ids: int, origin: str) -> Turn:
    # Other models have other tokens: there the text counts.
    ids = turn.answer_ids if n_ids else None
    if ids and max(ids) >= n_ids:
        raise SessionError(f"session: expected tokens 0 to {n_ids - 1} in the answers, got {max(ids)}; it is damaged")
    return Turn(turn.question, turn.answer, ids, tuple(images[i] for i in turn.images), turn.asked, origin)


def _difference(made_with: ModelIdentity, own: ModelIdentity) -> str | None:
    """Why keys and values cannot serve."""
    if (made_with.text_id, made_with.vision_id) != (own.text_id, own.vision_id):
        also = "other files of " if made_with.name == own.name else ""
        return f"it was held with {also}{_shown(made_with.name)}, and this is {own.name}"
    if made_with.llama_cpp != own.llama_cpp:
        return f"it was written by llama-cpp-python {_shown(made_with.llama_cpp)}, and this is {own.llama_cpp}"
    return None


def _shown(text: str) -> str:
    """A text from a file, on one line of a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:60])


def _restored(
    path: Path, session: StoredSession, model: LoadedModel, images: list[ImageSegment], origin: str
) -> str | None:
    """Put the file's keys and values into the context; the reason, where it has some that do not fit there."""
    n_cells = session.n_cells
    if n_cells == 0 or model.prefix is None:
        return None
    language_model = model.prefix.model
    if n_cells > language_model.n_ctx:
        return f"it takes {n_cells} tokens of context, and there are {language_model.n_ctx}"
    try:
        kv = read_kv(path, session, language_model.n_state_bytes(n_cells))
        model.prefix.cache.restore(_cells(kv.cells, origin, images), kv.state)
    except ArgumentError as error:
        raise SessionError(f"{path.name}: expected keys and values of this model, got others ({error})") from error
    except OutOfMemoryError as error:
        return str(error)
    return None


def _cells(numbers: NDArray[np.int32], origin: str, images: list[ImageSegment]) -> list[Cell]:
    """Positions as `cells_of` gives them; rows of an image are counted up."""
    cells: list[Cell] = []
    row = 0
    for i, number in enumerate(numbers.tolist()):
        if number >= 0:
            cells.append((origin, number) if i == 0 else number)
            row = 0
            continue
        if number < -len(images):
            raise ArgumentError(f"cells: expected {len(images)} images, got number {-1 - number}")
        cells.append((images[-1 - number].content_hash, row))
        row += 1
    return cells
