"""A conversation that is kept in a file: it goes on where it was left, and is saved as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palo_cpp.cli.console import Status, notice

if TYPE_CHECKING:
    from palo_cpp import Chat, Palo


class Keeping:
    """Keeps one conversation in one file.

    After each answer text and images are saved, which is little and cannot be had again; keys and values, megabytes
    that can, when the user leaves. A file always appears whole, so neither a crash nor a full disk loses the older one.

    Args:
        path: the file; None keeps nothing.
        with_kv: keep keys and values.

    Attributes:
        path: likewise.
        with_kv: likewise.
    """

    def __init__(self, path: str | None, *, with_kv: bool) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.with_kv = with_kv
        self._kept: Any = None
        self._kept_kv = False

    def begin(self, palo: Palo, image: str | None) -> Chat:
        """Go on with the conversation in the file, where there is one, or begin a new one.

        An image that the conversation has not shown yet joins it: what was said stays, and so does the file's content.

        Raises:
            PaloError: the file or the image cannot be read.
        """
        if self.path is None or not self.path.exists():
            return palo.chat(image)
        chat = self.load(palo, self.path)
        if image is not None and chat.add_image(image, if_new=True):
            notice(f"{Path(image).name} joins the conversation: the next question shows it.")
        return chat

    def load(self, palo: Palo, path: Path) -> Chat:
        """Open another conversation; where one is kept, that file is kept up to date from now on.

        Raises:
            SessionError: no such file, or a damaged one.
        """
        with Status() as status:
            status.show(f"opening {path.name}")
            chat = palo.load_chat(path)
        if self.path is not None:
            self.path = path
        self._kept, self._kept_kv = _content(chat), True
        notice(f"{path.name} goes on; questions so far: {len(chat.turns)}.")
        return chat

    def keep(self, chat: Chat, *, is_leaving: bool) -> None:
        """Bring the file up to date, where there is something to keep.

        Raises:
            PaloError: it cannot be written; an older one is as it was.
        """
        content = _content(chat)
        with_kv = self.with_kv and is_leaving
        is_kept = content == self._kept and (self._kept_kv or not with_kv)
        if self.path is None or is_kept or (not chat.turns and not self.path.exists()):
            return
        self.save(chat, self.path, with_kv=with_kv)
        self._kept, self._kept_kv = content, with_kv

    def save(self, chat: Chat, path: Path, *, with_kv: bool) -> None:
        """Write a file.

        Raises:
            PaloError: it cannot be written; an older one is as it was.
        """
        with Status() as status:
            status.show(f"saving {path.name}")
            chat.save(path, with_kv=with_kv)


def _content(chat: Chat) -> Any:
    return list(chat.turns), list(chat.pending_images), chat.lang, chat.lang_mode


def saved(chat: Chat, path: Path) -> str:
    """What a file holds, in one sentence."""
    size = path.stat().st_size / 1024**2
    return f"{path.name} holds the conversation; questions: {len(chat.turns)}, size: {size:.1f} MiB."
