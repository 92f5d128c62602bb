"""One conversation in the terminal: questions, the commands that begin with a slash, and what Ctrl-C and Ctrl-D do."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from palo_cpp.cli import opening
from palo_cpp.cli.answering import (
    direction_for,
    print_answer,
    print_timings,
    to_json,
    warn_if_cut,
    warn_if_in_another_language,
)
from palo_cpp.cli.console import Status, notice
from palo_cpp.cli.group import EXIT_FAILED, EXIT_INTERRUPTED, print_error
from palo_cpp.cli.line_input import LineInput
from palo_cpp.cli.options import ModelOptions, SamplingOptions
from palo_cpp.errors import PaloError
from palo_cpp.languages import LANGUAGES, get_language

if TYPE_CHECKING:
    from palo_cpp import Chat
    from palo_cpp.cli.bidi import BidiChoice

LEAVING = ("/bye", "/exit", "/quit")
HELP = '''/image PATH      talk about another image
/lang LANGUAGE   answer in another language: a code (hi), an English name (Hindi) or its own name (हिन्दी)
/clear           forget the conversation, keep the image
/help            show this
/bye             leave (also Ctrl-D)
""" begins a question of several lines and ends it; Ctrl-C stops an answer.'''
HOW_TO_LEAVE = "To leave, type /bye or press Ctrl-D."


class Conversation:
    """Talks until the user leaves or the input ends.

    Args:
        model: which model to load.
        sampling: how to choose tokens.
        language: code of the language of the answers, or None.
        as_json: print answers as JSON, one object to a line.
        show_timings: say after each answer what it cost.
        bidi: what `--bidi` says.
    """

    def __init__(
        self,
        model: ModelOptions,
        sampling: SamplingOptions,
        language: str | None,
        as_json: bool,
        show_timings: bool,
        bidi: BidiChoice = "auto",
    ) -> None:
        self._model = model
        self._sampling = sampling
        self._language = language
        self._as_json = as_json
        self._show_timings = show_timings
        self._bidi = bidi
        self._open = ExitStack()
        self._exit_code = 0
        self._is_fresh = True
        self._chat: Chat

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._open.close()

    def run(self, image: str | None, lines: LineInput) -> int:
        """Load the model, then answer until the input ends.

        Returns:
            The exit code: 1 when a line of a pipe failed, 130 when Ctrl-C ended a pipe.
        """
        with Status() as status:
            status.show("loading the model")
            palo = self._open.enter_context(opening.open_palo(self._model))
            status.show("reading the image")
            self._chat = self._open.enter_context(palo.chat(image))
        if lines.is_interactive:
            self._greet(image)
        while (text := self._next(lines)) not in (None, *LEAVING):
            if not self._take(text or "", lines.is_interactive):
                return EXIT_INTERRUPTED
        return self._exit_code

    def _greet(self, image: str | None) -> None:
        if image is None:
            notice("No image yet: show one with /image PATH. /help lists the commands.")
        else:
            notice(f"{Path(image).name} is open. Ask, or press Enter for a description; /help lists the commands.")

    def _next(self, lines: LineInput) -> str | None:
        while True:
            try:
                return lines.read()
            except KeyboardInterrupt:
                if not lines.is_interactive:
                    raise
                notice(f"\n{HOW_TO_LEAVE}")

    def _take(self, text: str, is_interactive: bool) -> bool:
        """Do what one line says; False where Ctrl-C ended the answer and nobody is there to ask more."""
        try:
            if text.startswith("/"):
                self._command(*text.partition(" ")[::2])
            elif text or (is_interactive and self._is_fresh):
                return self._ask(text or None) or is_interactive
        except PaloError as error:
            print_error(str(error))
            self._exit_code = 0 if is_interactive else EXIT_FAILED
        return True

    def _ask(self, question: str | None) -> bool:
        self._is_fresh = False
        with Status() as status:
            stream = self._chat.stream(question, lang=self._language, **self._sampling.given())
            answer = print_answer(
                stream, direction_for(self._language, question), status, bidi=self._bidi, silent=self._as_json
            )
        if answer is None:
            notice("(stopped)")
            return False
        warn_if_cut(answer)
        warn_if_in_another_language(answer)
        if self._as_json:
            click.echo(to_json(answer.to_dict()))
        elif self._show_timings:
            print_timings(answer)
        return True

    def _command(self, name: str, argument: str) -> None:
        commands: dict[str, Callable[[str], None]] = {
            "/image": self._show_image,
            "/lang": self._set_language,
            "/clear": self._clear,
            "/help": lambda _: notice(HELP),
            "/?": lambda _: notice(HELP),
        }
        if name in commands:
            commands[name](argument.strip())
        else:
            notice(f"{name} is no command; /help lists them")

    def _show_image(self, argument: str) -> None:
        if not argument:
            notice("usage: /image PATH")
            return
        path = unquoted(argument)
        self._chat.set_image(path)
        self._is_fresh = True
        notice(f"{Path(path).name} is open; the conversation begins anew.")

    def _set_language(self, argument: str) -> None:
        if argument:
            self._language = get_language(argument).code
        notice(f"Answers come in {LANGUAGES[self._language]}." if self._language else "Answers follow the question.")

    def _clear(self, _argument: str) -> None:
        self._chat.clear()
        self._is_fresh = True
        notice("The conversation is forgotten.")


def unquoted(argument: str) -> str:
    """A path as typed or as a terminal drops it: perhaps quoted, with escaped spaces, or beginning with ~."""
    if not Path(argument).exists():
        try:
            argument = " ".join(shlex.split(argument))
        except ValueError:  # a lone quotation mark, which then is part of the name
            return argument
    return str(Path(argument).expanduser())
