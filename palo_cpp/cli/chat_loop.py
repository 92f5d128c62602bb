"""The loop of `palo-cpp chat`: questions, images, commands, and what Ctrl-C and Ctrl-D do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from palo_cpp.cli import open_model
from palo_cpp.cli.answering import NO_IMAGE, AnswerPrinter, direction_for, to_json
from palo_cpp.cli.chat_commands import find_command
from palo_cpp.cli.console import Status, notice, warn
from palo_cpp.cli.group import EXIT_FAILED, EXIT_INTERRUPTED, print_error
from palo_cpp.cli.line_input import LineInput
from palo_cpp.cli.options import ModelOptions, SamplingOptions
from palo_cpp.cli.session_saving import SessionSaver
from palo_cpp.cli.typed_paths import split_line
from palo_cpp.errors import ArgumentError, PaloError

if TYPE_CHECKING:
    from palo_cpp import Chat, Palo

HOW_TO_LEAVE = "To leave, type /bye or press Ctrl-D."


class ChatLoop:
    """Answers until the user leaves or the input ends.

    Args:
        model: which model to load.
        sampling: how to choose tokens.
        language: code of the language of the answers, or None.
        printer: how answers are printed.
        saver: the file that the conversation is saved to, if any.

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
        printer: AnswerPrinter,
        saver: SessionSaver,
    ) -> None:
        self._model = model
        self._sampling = sampling
        self.language = language
        self._printer = printer
        self.saver = saver
        self.is_over = False
        self._open = ExitStack()
        self._names: list[str] = []
        self._unasked: list[str] = []
        self._save_error = ""
        self._exit_code = 0
        self._was_stopped = False

    def __enter__(self) -> ChatLoop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._open.close()

    def run(self, images: Sequence[str], lines: LineInput) -> int:
        """Load the model, then answer until the input ends.

        Returns:
            The exit code: 1 when a line of a pipe failed, 130 when Ctrl-C ended a pipe.
        """
        self.lines = lines
        with Status() as status:
            status.show("loading the model")
            self._palo = self._open.enter_context(open_model.open_palo(self._model, *images))
            if self.language:
                self.set_language(self.language)
            self.chat = self._open.enter_context(self.saver.begin(self._palo))
            status.show("reading the image")
            self._open_images(images)
        self.chat.lang_mode = self._sampling.lang_mode or self.chat.lang_mode
        self.language = self.language or self.chat.lang
        self._greet(images)
        try:
            self._answer_all()
        finally:
            self._save(is_leaving=True)
        return self._exit_code

    def _answer_all(self) -> None:
        while not self.is_over:
            text = self._next()
            if text is None:
                self._check_all_was_asked()
                return
            self._handle(text)
            self._save(is_leaving=False)
            if self._was_stopped and not self.lines.is_interactive:  # nobody is there to ask more
                self._exit_code = EXIT_INTERRUPTED
                return

    def _save(self, *, is_leaving: bool) -> None:
        self.chat.lang = self.language
        try:
            self.saver.save_changes(self.chat, is_leaving=is_leaving)
            self._save_error = ""
        except PaloError as error:
            if str(error) != self._save_error:  # said once, not after each answer
                print_error(str(error))
            self._save_error = str(error)
            self._exit_code = self._exit_code or EXIT_FAILED

    def set_language(self, name: str) -> None:
        """Answer in another language.

        Raises:
            ArgumentError: it is none, or the model does not know it.
        """
        self.language = self._palo.language(name).code

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
        self._names, self._unasked = [], []

    def _greet(self, images: Sequence[str]) -> None:
        if not self.lines.is_interactive:
            return
        if images:
            notice(f"{_are_open(images)}. Ask, or press Enter for a description; /help lists the commands.")
        elif not self._palo.sees_images:
            notice(f"{self._palo.name} reads texts only: ask something. /help lists the commands.")
        elif not self._n_images():
            notice("No image is open: type or drop its path. /help lists the commands.")

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

    # ---- one line

    def _handle(self, text: str) -> None:
        try:
            if found := find_command(text):
                command, argument = found
                command.run(self, argument)
            else:
                self._handle_question(text)
        except PaloError as error:
            self._report(error, text)

    def _handle_question(self, text: str) -> None:
        typed = split_line(text, open_names=self._names)
        if typed.missing and (name := re.match(r"/\w+(?!\S)", text)):
            raise ArgumentError(f"{name[0]} is not a command, and no file has this path; /help lists the commands")
        paths = (*typed.missing, *typed.images)
        if paths:
            self.show_images(paths)
        if typed.question or (not paths and self.lines.is_interactive and self._shows_something_new()):
            self.ask(typed.question or None)

    def _shows_something_new(self) -> bool:
        return bool(self.chat.pending_images) or not self.chat.turns

    def _report(self, error: PaloError, text: str) -> None:
        if self.lines.is_interactive:
            print_error(str(error))
            return
        print_error(f"{error} (line {self.lines.number} of stdin)")
        self._exit_code = EXIT_FAILED
        if self._printer.as_json and not find_command(text):
            click.echo(to_json({"question": text, "error": str(error)}))

    def _check_all_was_asked(self) -> None:
        """Report what a pipe opened and asked nothing about, unless it is kept for another day."""
        if self.lines.is_interactive or self.saver.path is not None:
            return
        if self._unasked:
            names = ", ".join(self._unasked)
            print_error(f"{names}: expected a question on stdin, got none; `palo-cpp describe` needs none")
            self._exit_code = EXIT_FAILED
        elif not self.lines.number:
            warn("stdin held no question")

    # ---- images and questions

    def show_images(self, paths: Sequence[str], *, start_again: bool = False) -> None:
        """Show images with the next question.

        Args:
            paths: where they are; one that the conversation shows already is not added again.
            start_again: forget the turns and the images so far.

        Raises:
            ImageError: one of them cannot be read; the conversation stays as it was.
        """
        n_before = self._n_images()
        self._open_images(paths, start_again=start_again)
        n_images = self._n_images()
        if start_again:
            notice(f"{_are_open(paths)}; the conversation starts again.")
        elif n_images == n_before:
            notice(f"{_are_open(paths)} already.")
        elif n_before:
            shown = "shows it too" if len(paths) == 1 else "shows them too"
            notice(f"{_are_open(paths)}; the next question {shown}. Images so far: {n_images}; /image starts again.")
        else:
            notice(f"{_are_open(paths)}.")

    def _open_images(self, paths: Sequence[str], *, start_again: bool = False) -> None:
        if start_again:
            self.chat.set_images(paths)
            self._names, self._unasked = [], []
        else:
            self._add_images(paths)
        names = [_name(path) for path in paths]
        self._names += names
        self._unasked += names

    def _add_images(self, paths: Sequence[str]) -> None:
        pending_before = list(self.chat.pending_images)
        try:
            for path in paths:
                self.chat.add_image(path, if_new=True)
        except PaloError:
            self.chat.pending_images[:] = pending_before
            raise

    def _n_images(self) -> int:
        return len(self.chat.pending_images) + sum(len(turn.images) for turn in self.chat.turns)

    def ask(self, question: str | None, *, instead: bool = False) -> None:
        """Ask and print the answer.

        Args:
            question: None asks for a description.
            instead: replace the last question.
        """
        if question and self._palo.sees_images and not self._n_images():
            warn(f"{NO_IMAGE}; /image PATH opens one")
        with Status() as status:
            stream = self.chat.stream(question, lang=self.language, instead=instead, **self._sampling.given())
            answer = self._printer.print_pieces(stream, direction_for(self.language, question), status)
        self._unasked.clear()
        self._was_stopped = answer is None
        if answer is None:
            notice("(stopped)")
        else:
            self._printer.print_rest(answer, known=NO_IMAGE)


def _are_open(paths: Sequence[str]) -> str:
    return f"{', '.join(map(_name, paths))} {'is' if len(paths) == 1 else 'are'} open"


def _name(path: str) -> str:
    return "data URI" if path.lower().startswith("data:") else Path(path).name or path
