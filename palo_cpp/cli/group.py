"""The group of commands: imports a command only when it runs; turns every failure into one line and an exit code."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from palo_cpp.cli.console import OutputError, give_up_stdout, use_utf8
from palo_cpp.errors import PaloError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class CommandGroup(click.Group):
    """The commands of `palo-cpp`, each in the module of its name."""

    def __init__(self, *args: Any, commands_help: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_help = commands_help
        self.is_debugging = False

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Name the commands, in the order of the table."""
        return list(self.commands_help)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """Import one command."""
        if cmd_name not in self.commands_help:
            return None
        command: click.Command = importlib.import_module(f"palo_cpp.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """List the commands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.commands_help.items()))

    def main(self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command line; when it is the whole program, leave the process with 0, 1, 2 or 130."""
        run = functools.partial(super().main, args, *rest, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        self.is_debugging = bool(os.environ.get("PALO_CPP_DEBUG"))
        use_utf8()
        sys.exit(self._exit_code(run))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, with the library's warnings on stderr."""
        from palo_cpp.cli.log import shown_warnings

        with shown_warnings(is_debugging=self.is_debugging):
            return super().invoke(ctx)

    def begin_debugging(self) -> None:
        """Show everything that is logged from now on, and the traceback of a failure."""
        import logging

        self.is_debugging = True
        logging.getLogger("palo_cpp").setLevel(logging.DEBUG)

    def _exit_code(self, run: Callable[[], Any]) -> int:
        # A reader that leaves early (EPIPE) ends it quietly, with exit code 1: here, and in click while a command runs.
        try:
            code = run()
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            return EXIT_INTERRUPTED
        except Exception as error:
            return self._report(error)

    def _report(self, error: Exception) -> int:
        if isinstance(error, OutputError):
            give_up_stdout()
            if error.errno == errno.EPIPE:
                return EXIT_FAILED
        if self.is_debugging:
            import traceback

            traceback.print_exception(error)
        elif isinstance(error, OutputError):
            print_error(f"stdout: could not write the output: {error.strerror}; send it to another place")
        elif isinstance(error, (PaloError, OSError)):
            print_error(str(error))
        else:
            kind = type(error).__name__
            print_error(f"unexpected {kind}: {error}; run again with --debug to see where, and please report it")
        return EXIT_FAILED


def print_error(message: str) -> None:
    """Print one line about a failure on stderr."""
    click.echo(f"palo-cpp: error: {' '.join(message.split())}", err=True)


def print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Print the version and leave, when `--version` was given."""
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"palo-cpp {version('palo-cpp')}")
    ctx.exit()
