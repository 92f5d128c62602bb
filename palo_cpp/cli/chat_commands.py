"""The commands of a chat: one table for what they do and for both places that explain them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from palo_cpp.cli.console import notice
from palo_cpp.cli.session_saving import file_summary
from palo_cpp.languages.detection import detect_language
from palo_cpp.languages.languages import LANGUAGES, get_language

if TYPE_CHECKING:
    from palo_cpp import Chat
    from palo_cpp.cli.line_input import LineInput
    from palo_cpp.cli.session_saving import SessionSaver


class RunningChat(Protocol):
    """What a command may read and do of the chat that it is typed in.

    Attributes:
        chat: the conversation.
        language: code of the language of the answers, or None.
        lines: where questions and commands come from.
        saver: the file that the conversation is saved to, if any.
        is_over: whether the user has left.
    """

    chat: Chat
    language: str | None
    lines: LineInput
    saver: SessionSaver
    is_over: bool

    def ask(self, question: str | None, *, instead: bool = False) -> None:
        """Ask, and print the answer; `instead` replaces the last question."""

    def switch_to(self, path: Path) -> None:
        """Continue the conversation in a file instead of this one."""


@dataclass(frozen=True)
class ChatCommand:
    """What a line that begins with a slash does.

    Attributes:
        name: the first word of the line.
        argument: what follows it, as the help shows it.
        summary: what it does, for the help.
        run: does it, given the rest of the line.
        aliases: other first words that do the same.
    """

    name: str
    argument: str
    summary: str
    run: Callable[[RunningChat, str], None]
    aliases: tuple[str, ...] = ()


def _set_image(running: RunningChat, argument: str) -> None:
    if not argument:
        notice("usage: /image PATH")
        return
    path = unquoted(argument)
    running.chat.set_image(path)
    notice(f"{Path(path).name} is open; the conversation starts again.")


def _add_image(running: RunningChat, argument: str) -> None:
    if not argument:
        notice("usage: /add PATH")
        return
    path = unquoted(argument)
    running.chat.add_image(path)
    notice(f"{Path(path).name} is open; the next question shows it too.")


def _set_language(running: RunningChat, argument: str) -> None:
    if argument:
        running.language = get_language(argument).code
    code = running.language
    notice(f"Answers come in {LANGUAGES[code]}." if code else "Answers follow the question.")


def _edit(running: RunningChat, argument: str) -> None:
    if not running.chat.turns:
        notice("There is no question to edit yet.")
        return
    last = running.chat.turns[-1]
    question = argument or running.lines.edit(last.asked or last.question)
    if question:
        running.ask(question, instead=True)
    else:
        notice("usage: /edit QUESTION" if question is None else "The last question stays as it was.")


def _undo(running: RunningChat, _argument: str) -> None:
    if not running.chat.turns:
        notice("There is nothing to take back.")
        return
    undone = running.chat.undo()
    notice(f"Taken back: {undone.asked or undone.question}")


def _clear(running: RunningChat, _argument: str) -> None:
    running.chat.clear()
    notice("The conversation is cleared; its images stay.")


def _show_context(running: RunningChat, _argument: str) -> None:
    codes = {running.language} if running.language else _languages_of_last_question(running)
    use = str(running.chat.context_use(codes.pop() if len(codes) == 1 else None))
    notice(f"{use[0].upper()}{use[1:]}.")


def _languages_of_last_question(running: RunningChat) -> set[str]:
    turns = running.chat.turns
    return detect_language(turns[-1].question) if turns else set()


def _save(running: RunningChat, argument: str) -> None:
    saver = running.saver
    path = Path(unquoted(argument)) if argument else saver.path
    if path is None:
        notice("usage: /save FILE")
        return
    running.chat.lang = running.language
    saver.save(running.chat, path, with_kv=saver.with_kv)
    notice(file_summary(running.chat, path))


def _load(running: RunningChat, argument: str) -> None:
    if not argument:
        notice("usage: /load FILE")
        return
    running.switch_to(Path(unquoted(argument)))


def _help(_running: RunningChat, _argument: str) -> None:
    notice(f"{commands_help()}\n{OTHER_HELP}")


def _leave(running: RunningChat, _argument: str) -> None:
    running.is_over = True


COMMANDS = (
    ChatCommand("/image", "PATH", "talk about another image; the conversation starts again", _set_image),
    ChatCommand("/add", "PATH", "show one more image with the next question", _add_image),
    ChatCommand("/lang", "LANGUAGE", "answer in another language: hi, Hindi or हिन्दी", _set_language),
    ChatCommand("/edit", "[QUESTION]", "replace the last question by this one, or by an edited one", _edit),
    ChatCommand("/undo", "", "remove the last question and its answer", _undo),
    ChatCommand("/clear", "", "forget the conversation, keep its images", _clear),
    ChatCommand("/context", "", "show how many more words fit before the oldest turns leave", _show_context),
    ChatCommand("/save", "FILE", "save the conversation to a file, to continue another day", _save),
    ChatCommand("/load", "FILE", "continue the conversation in a file", _load),
    ChatCommand("/help", "", "show this help", _help, aliases=("/?",)),
    ChatCommand("/bye", "", "leave (also Ctrl-D)", _leave, aliases=("/exit", "/quit")),
)
OTHER_HELP = '""" begins a question of several lines and ends it; Ctrl-C stops an answer.'

_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def run_command(running: RunningChat, line: str) -> None:
    """Run a line that begins with a slash.

    Raises:
        PaloError: it cannot be done; nothing has changed.
    """
    name, _, argument = line.partition(" ")
    if name in _BY_NAME:
        _BY_NAME[name].run(running, argument.strip())
    else:
        notice(f"{name} is not a command; /help lists the commands.")


def commands_help() -> str:
    """The table of commands, a line for each."""
    lines = [f"{command.name} {command.argument}".rstrip() for command in COMMANDS]
    width = max(map(len, lines)) + 3
    return "\n".join(f"{line:<{width}}{command.summary}" for line, command in zip(lines, COMMANDS, strict=True))


def unquoted(argument: str) -> str:
    """A path as typed or as a terminal drops it: perhaps quoted, with escaped spaces, or beginning with ~."""
    if not Path(argument).exists():
        try:
            argument = " ".join(shlex.split(argument))
        except ValueError:  # a lone quotation mark, which then is part of the name
            return argument
    return str(Path(argument).expanduser())
