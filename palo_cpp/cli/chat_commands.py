"""The commands of a conversation: one table for what they do and for both places that explain them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.cli.console import notice
from palo_cpp.cli.session_saving import saved
from palo_cpp.languages.detection import detect_language
from palo_cpp.languages.languages import LANGUAGES, get_language

if TYPE_CHECKING:
    from palo_cpp.cli.chat_loop import Conversation


@dataclass(frozen=True)
class ChatCommand:
    """What a line that begins with a slash does.

    Attributes:
        name: the first word of the line.
        argument: what follows it, as the help shows it.
        explains: what it does, for the help.
        run: does it, given the rest of the line.
        aliases: other first words that do the same.
    """

    name: str
    argument: str
    explains: str
    run: Callable[[Conversation, str], None]
    aliases: tuple[str, ...] = ()


def _show_image(conversation: Conversation, argument: str) -> None:
    if not argument:
        notice("usage: /image PATH")
        return
    path = unquoted(argument)
    conversation.chat.set_image(path)
    notice(f"{Path(path).name} is open; the conversation begins anew.")


def _add_image(conversation: Conversation, argument: str) -> None:
    if not argument:
        notice("usage: /add PATH")
        return
    path = unquoted(argument)
    conversation.chat.add_image(path)
    notice(f"{Path(path).name} is open; the next question shows it too.")


def _set_language(conversation: Conversation, argument: str) -> None:
    if argument:
        conversation.language = get_language(argument).code
    code = conversation.language
    notice(f"Answers come in {LANGUAGES[code]}." if code else "Answers follow the question.")


def _edit(conversation: Conversation, argument: str) -> None:
    if not conversation.chat.turns:
        notice("There is no question to edit yet.")
        return
    last = conversation.chat.turns[-1]
    question = argument or conversation.lines.edit(last.asked or last.question)
    if question:
        conversation.ask(question, instead=True)
    else:
        notice("usage: /edit QUESTION" if question is None else "The last question stays as it was.")


def _undo(conversation: Conversation, _argument: str) -> None:
    if not conversation.chat.turns:
        notice("There is nothing to take back.")
        return
    undone = conversation.chat.undo()
    notice(f"Taken back: {undone.asked or undone.question}")


def _clear(conversation: Conversation, _argument: str) -> None:
    conversation.chat.clear()
    notice("The conversation is forgotten.")


def _tell_context(conversation: Conversation, _argument: str) -> None:
    codes = {conversation.language} if conversation.language else _languages_asked_in(conversation)
    use = str(conversation.chat.context_use(codes.pop() if len(codes) == 1 else None))
    notice(f"{use[0].upper()}{use[1:]}.")


def _languages_asked_in(conversation: Conversation) -> set[str]:
    turns = conversation.chat.turns
    return detect_language(turns[-1].question) if turns else set()


def _save(conversation: Conversation, argument: str) -> None:
    keeping = conversation.keeping
    path = Path(unquoted(argument)) if argument else keeping.path
    if path is None:
        notice("usage: /save FILE")
        return
    conversation.chat.lang = conversation.language
    keeping.save(conversation.chat, path, with_kv=keeping.with_kv)
    notice(saved(conversation.chat, path))


def _load(conversation: Conversation, argument: str) -> None:
    if not argument:
        notice("usage: /load FILE")
        return
    conversation.go_on_with(Path(unquoted(argument)))


def _help(_conversation: Conversation, _argument: str) -> None:
    notice(f"{commands_help()}\n{OTHER_HELP}")


def _leave(conversation: Conversation, _argument: str) -> None:
    conversation.is_over = True


COMMANDS = (
    ChatCommand("/image", "PATH", "talk about another image; the conversation begins anew", _show_image),
    ChatCommand("/add", "PATH", "show one more image with the next question", _add_image),
    ChatCommand("/lang", "LANGUAGE", "answer in another language: hi, Hindi or हिन्दी", _set_language),
    ChatCommand("/edit", "[QUESTION]", "ask this, or the last question edited, instead of the last one", _edit),
    ChatCommand("/undo", "", "take back the last question and its answer", _undo),
    ChatCommand("/clear", "", "forget the conversation, keep its images", _clear),
    ChatCommand("/context", "", "tell how many more words fit before the oldest leave", _tell_context),
    ChatCommand("/save", "FILE", "write the conversation to a file, to go on with another day", _save),
    ChatCommand("/load", "FILE", "go on with the conversation in a file", _load),
    ChatCommand("/help", "", "show this", _help, aliases=("/?",)),
    ChatCommand("/bye", "", "leave (also Ctrl-D)", _leave, aliases=("/exit", "/quit")),
)
OTHER_HELP = '""" begins a question of several lines and ends it; Ctrl-C stops an answer.'

_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def run_command(conversation: Conversation, line: str) -> None:
    """Do what a line that begins with a slash says.

    Raises:
        PaloError: it cannot be done; nothing has changed.
    """
    name, _, argument = line.partition(" ")
    if name in _BY_NAME:
        _BY_NAME[name].run(conversation, argument.strip())
    else:
        notice(f"{name} is no command; /help lists them")


def commands_help() -> str:
    """The table of commands, a line for each."""
    lines = [f"{command.name} {command.argument}".rstrip() for command in COMMANDS]
    width = max(map(len, lines)) + 3
    return "\n".join(f"{line:<{width}}{command.explains}" for line, command in zip(lines, COMMANDS, strict=True))


def unquoted(argument: str) -> str:
    """A path as typed or as a terminal drops it: perhaps quoted, with escaped spaces, or beginning with ~."""
    if not Path(argument).exists():
        try:
            argument = " ".join(shlex.split(argument))
        except ValueError:  # a lone quotation mark, which then is part of the name
            return argument
    return str(Path(argument).expanduser())
