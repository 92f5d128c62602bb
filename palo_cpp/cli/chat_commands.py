"""The commands of a chat: one table for what they do and for both places that explain them."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from palo_cpp.cli.console import notice, terminal_width
from palo_cpp.cli.path_quoting import unquoted
from palo_cpp.cli.session_saving import file_summary
from palo_cpp.cli.typed_paths import split_paths
from palo_cpp.errors import ArgumentError
from palo_cpp.languages.detection import detect_language
from palo_cpp.languages.languages import LANGUAGES

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

    def show_images(self, paths: Sequence[str], *, start_again: bool = False) -> None:
        """Show images with the next question, as the only ones with `start_again`."""

    def ask(self, question: str | None, *, instead: bool = False) -> None:
        """Ask, and print the answer; `instead` replaces the last question."""

    def set_language(self, name: str) -> None:
        """Answer in another language, where the model knows it."""

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


def _start_again(running: RunningChat, argument: str) -> None:
    _show_images("/image", running, argument, start_again=True)


def _add_image(running: RunningChat, argument: str) -> None:
    _show_images("/add", running, argument, start_again=False)


def _show_images(name: str, running: RunningChat, argument: str, *, start_again: bool) -> None:
    if not argument:
        raise _usage(name, "PATH")
    typed = split_paths(argument)
    running.show_images((*typed.missing, *typed.images), start_again=start_again)
    if typed.question:
        running.ask(typed.question)


def _set_language(running: RunningChat, argument: str) -> None:
    if argument:
        running.set_language(argument)
    code = running.language
    text = f"Answers come in {LANGUAGES[code]}." if code else "Answers follow the question."
    notice(text) if argument else _show(text)


def _edit(running: RunningChat, argument: str) -> None:
    if not running.chat.turns:
        raise ArgumentError("There is no question to edit yet; ask one first")
    last = running.chat.turns[-1]
    question = argument or running.lines.edit(last.asked or last.question)
    if question is None:
        raise _usage("/edit", "QUESTION")
    if question:
        running.ask(question, instead=True)
    else:
        notice("The last question stays as it was.")


def _undo(running: RunningChat, _argument: str) -> None:
    if not running.chat.turns:
        raise ArgumentError("There is nothing to take back; ask a question first")
    undone = running.chat.undo()
    notice(f"Taken back: {undone.asked or undone.question}")


def _clear(running: RunningChat, _argument: str) -> None:
    running.chat.clear()
    notice("The conversation is cleared; its images stay.")


def _show_context(running: RunningChat, _argument: str) -> None:
    codes = {running.language} if running.language else _languages_of_last_question(running)
    use = str(running.chat.context_use(codes.pop() if len(codes) == 1 else None))
    _show(f"{use[0].upper()}{use[1:]}.")


def _languages_of_last_question(running: RunningChat) -> set[str]:
    turns = running.chat.turns
    return detect_language(turns[-1].question) if turns else set()


def _save(running: RunningChat, argument: str) -> None:
    saver = running.saver
    path = Path(unquoted(argument)) if argument else saver.path
    if path is None:
        raise _usage("/save", "FILE")
    running.chat.lang = running.language
    saver.save(running.chat, path, with_kv=saver.with_kv)
    notice(file_summary(running.chat, path))


def _load(running: RunningChat, argument: str) -> None:
    if not argument:
        raise _usage("/load", "FILE")
    running.switch_to(Path(unquoted(argument)))


def _help(_running: RunningChat, _argument: str) -> None:
    width = terminal_width()
    _show("\n".join([commands_help(width), *(textwrap.fill(line, width) for line in OTHER_HELP)]))


def _leave(running: RunningChat, _argument: str) -> None:
    running.is_over = True


def _show(text: str) -> None:
    """Show what was asked for, on stderr, also in a pipe."""
    click.echo(text, err=True)


def _usage(name: str, argument: str) -> ArgumentError:
    return ArgumentError(f"{name}: expected {argument}, got nothing; usage: {name} {argument}")


COMMANDS = (
    ChatCommand("/image", "PATH", "start again with another image", _start_again),
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
OTHER_HELP = (
    "A path typed or dropped anywhere in a line does the same as /add; the rest of the line is the question.",
    'Tab completes commands and paths. Three quotation marks (""") begin and end a question of several lines.',
    "Ctrl-C stops an answer.",
)

_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def find_command(line: str) -> tuple[ChatCommand, str] | None:
    """The command that a line names and its argument; None if it names none.

    Names may be in capitals, as some phones begin a line, and of full width, as Japanese and Chinese keyboards type.
    """
    name, *rest = line.split(maxsplit=1) or [""]
    command = _BY_NAME.get(unicodedata.normalize("NFKC", name).casefold())
    return (command, "".join(rest).strip()) if command else None


def commands_help(width: int | None = None) -> str:
    """The table of commands, a line for each; if `width` columns are too few for it, with summaries below names."""
    names = [f"{command.name} {command.argument}".rstrip() for command in COMMANDS]
    summaries = [command.summary for command in COMMANDS]
    n_before = max(map(len, names)) + 3
    if width is None or width >= n_before + max(map(len, summaries)):
        return "\n".join(f"{name:<{n_before}}{summary}" for name, summary in zip(names, summaries, strict=True))
    indented = [textwrap.fill(summary, width, initial_indent="  ", subsequent_indent="  ") for summary in summaries]
    return "\n".join(f"{name}\n{summary}" for name, summary in zip(names, indented, strict=True))
