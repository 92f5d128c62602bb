"""`--session FILE`: a chat continues where it stopped, and is saved while it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palo_cpp.cli.console import Status, notice

if TYPE_CHECKING:
    from palo_cpp import Chat, Palo


class SessionSaver:
    """Saves one chat to one file.

    Text and images are saved after each answer: they are small and cannot be computed again. Keys and values, which are
    megabytes and can be, are saved when the user leaves. A file appears whole or not at all, so neither a crash nor a
    full disk loses the older one.

    Args:
        path: the file; None saves nothing.
        with_kv: save keys and values.

    Attributes:
        path: likewise.
        with_kv: likewise.
    """

    def __init__(self, path: str | None, *, with_kv: bool) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.with_kv = with_kv
        self._saved: Any = None
        self._saved_kv = False

    def begin(self, palo: Palo) -> Chat:
        """Continue the chat in the file if there is one, or begin a new one.

        Raises:
            PaloError: the file cannot be read.
        """
        if self.path is None or not self.path.exists():
            return palo.chat()
        return self.load(palo, self.path)

    def load(self, palo: Palo, path: Path) -> Chat:
        """Open another chat; if one is being saved, that file is kept up to date from now on.

        Raises:
            SessionError: no such file, or a damaged one.
        """
        with Status() as status:
            status.show(f"opening {path.name}")
            chat = palo.load_chat(path)
        if self.path is not None:
            self.path = path
        self._saved, self._saved_kv = _content(chat), True
        notice(f"{path.name} continues; questions so far: {len(chat.turns)}.{_not_kept(chat)}")
        return chat

    def save_changes(self, chat: Chat, *, is_leaving: bool) -> None:
        """Bring the file up to date, if there is one and something has changed.

        Raises:
            PaloError: it cannot be written; an older one is as it was.
        """
        content = _content(chat)
        with_kv = self.with_kv and is_leaving
        is_saved = content == self._saved and (self._saved_kv or not with_kv)
        if self.path is None or is_saved or (not chat.turns and not self.path.exists()):
            return
        self.save(chat, self.path, with_kv=with_kv)
        self._saved, self._saved_kv = content, with_kv

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


def file_summary(chat: Chat, path: Path) -> str:
    """What a session file holds, in one sentence."""
    size_mib = path.stat().st_size / 1024**2
    return (
        f"{path.name} holds the conversation; questions: {len(chat.turns)}, size: {size_mib:.1f} MiB.{_not_kept(chat)}"
    )


def _not_kept(chat: Chat) -> str:
    """What a session file lacks with some models, as a sentence."""
    return "" if chat.keeps_prompt else " This model keeps no keys and values: each question reads all of it again."
