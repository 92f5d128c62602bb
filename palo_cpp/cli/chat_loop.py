"""The loop of `palo-cpp chat`: questions, commands, and what Ctrl-C and Ctrl-D do."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from palo_cpp.cli import open_model
from palo_cpp.cli.answering import (
    direction_for,
    print_answer,
    print_timings,
    to_json,
    warn_if_cut,
    warn_if_in_another_language,
)
from palo_cpp.cli.chat_commands import run_command
from palo_cpp.cli.console import Status, notice
from palo_cpp.cli.group import EXIT_FAILED, EXIT_INTERRUPTED, print_error
from palo_cpp.cli.line_input import LineInput
from palo_cpp.cli.options import ModelOptions, SamplingOptions
from palo_cpp.cli.session_saving import SessionSaver
from palo_cpp.errors import PaloError

if TYPE_CHECKING:
    from palo_cpp import Chat, Palo
    from palo_cpp.cli.bidi import BidiChoice

HOW_TO_LEAVE = "To leave, type /bye or press Ctrl-D."


class ChatLoop:
    """Answers until the user leaves or the input ends.

    Args:
        model: which model to load.
        sampling: how to choose tokens.
        language: code of the language of the answers, or None.
        as_json: print answers as JSON, one object to a line.
        show_timings: show after each answer what it cost.
        saver: the file that the conversation is saved to, if any.
        bidi: value of `--bidi`.

    Attributes:
        chat: the conversation.
        saver: likewise.
        lines: where questions and commands come from.
        language: code of the language of the answers, or None.
        is_over: whether the user has left.
    """

    chat: Chat
    lines: LineInput
    _palo: Palo

    def __init__(
        self,
        model: ModelOptions,
        sampling: SamplingOptions,
        language: str | None,
        as_json: bool,
        show_timings: bool,
        saver: SessionSaver,
        bidi: BidiChoice = "auto",
    ) -> None:
        self._model = model
        self._sampling = sampling
        self.language = language
        self.saver = saver
        self.is_over = False
        self._as_json = as_json
        self._show_timings = show_timings
        self._bidi = bidi
        self._open = ExitStack()
        self._exit_code = 0
        self._was_stopped = False

    def __enter__(self) -> ChatLoop:
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
            self._palo = self._open.enter_context(open_model.open_palo(self._model))
            status.show("reading the image")
            self.chat = self._open.enter_context(self.saver.begin(self._palo, image))
        self.chat.lang_mode = self._sampling.lang_mode or self.chat.lang_mode
        self.language = self.language or self.chat.lang
        self.lines = lines
        if lines.is_interactive:
            self._greet(image)
        try:
            self._answer_all()
        finally:
            self._save(is_leaving=True)
        return self._exit_code

    def _answer_all(self) -> None:
        while not self.is_over and (text := self._next()) is not None:
            self._handle(text)
            self._save(is_leaving=False)
            if self._was_stopped and not self.lines.is_interactive:  # nobody is there to ask more
                self._exit_code = EXIT_INTERRUPTED
                return

    def _save(self, *, is_leaving: bool) -> None:
        self.chat.lang = self.language
        try:
            self.saver.save_changes(self.chat, is_leaving=is_leaving)
        except PaloError as error:
            print_error(str(error))
            self._exit_code = self._exit_code or EXIT_FAILED

    def switch_to(self, path: Path) -> None:
        """Continue the conversation in a file instead of this one.

        Raises:
            SessionError: no such file, or a damaged one; this conversation continues.
        """
        self._save(is_leaving=True)
        chat = self.saver.load(self._palo, path)
        self.chat.close()
        self.chat = self._open.enter_context(chat)
        self.language = chat.lang

    def _greet(self, image: str | None) -> None:
        if image is None and not self.chat.turns:
            notice("No image yet: show one with /image PATH. /help lists the commands.")
        elif image is not None:
            notice(f"{Path(image).name} is open. Ask, or press Enter for a description; /help lists the commands.")

    def _next(self) -> str | None:
        while True:
            try:
                self._prepare()
                return self.lines.read()
            except KeyboardInterrupt:
                if not self.lines.is_interactive:
                    raise
                notice(f"\n{HOW_TO_LEAVE}")

    def _prepare(self) -> None:
        """Let the model read ahead while somebody types; the questions of a pipe are there at once."""
        if self.lines.is_interactive:
            with contextlib.suppress(PaloError):  # the question will say what is wrong
                self.chat.prepare()

    def _handle(self, text: str) -> None:
        try:
            if text.startswith("/"):
                run_command(self, text)
            elif text or (self.lines.is_interactive and self._shows_something_new()):
                self.ask(text or None)
        except PaloError as error:
            print_error(str(error))
            self._exit_code = 0 if self.lines.is_interactive else EXIT_FAILED

    def _shows_something_new(self) -> bool:
        return bool(self.chat.pending_images) or not self.chat.turns

    def ask(self, question: str | None, *, instead: bool = False) -> None:
        """Ask and print the answer.

        Args:
            question: None asks for a description.
            instead: replace the last question.
        """
        with Status() as status:
            stream = self.chat.stream(question, lang=self.language, instead=instead, **self._sampling.given())
            answer = print_answer(
                stream, direction_for(self.language, question), status, bidi=self._bidi, silent=self._as_json
            )
        self._was_stopped = answer is None
        if answer is None:
            notice("(stopped)")
            return
        warn_if_cut(answer)
        warn_if_in_another_language(answer)
        if self._as_json:
            click.echo(to_json(answer.to_dict()))
        elif self._show_timings:
            print_timings(answer)
