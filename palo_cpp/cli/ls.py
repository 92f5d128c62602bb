"""`palo-cpp ls`: the models that are here."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.console import is_terminal, printable, terminal_width
from palo_cpp.cli.options import debug_option, json_option
from palo_cpp.cli.progress import readable_size

if TYPE_CHECKING:
    from palo_cpp.models.kept_models import KeptModel

_DAY_S = 86400
NOTHING = "-"

EXAMPLES = """\b
Examples:
  palo-cpp ls
  palo-cpp ls --json
"""


@click.command("ls", epilog=EXAMPLES)
@json_option
@debug_option
def command(as_json: bool) -> None:
    """List the models that are here.

    Those in the hub's cache, whoever fetched them, those that were converted or carried here, checkpoints, and files
    that have arrived in part.
    """
    from palo_cpp.models.kept_models import kept_models

    models = kept_models()
    if as_json:
        click.echo(to_json([model.to_dict() for model in models]))
    elif models:
        click.echo(_table(models))
    else:
        click.echo("No models are here yet; `palo-cpp pull 7b` fetches one.", err=True)


def _table(models: list[KeptModel]) -> str:
    """Columns; in a terminal too narrow for them, what comes last has a line of its own."""
    rows = [("NAME", "TYPE", "SIZE", "USED", "LANGUAGES", "STATE"), *map(_row, models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    n_whole = len(widths)
    while is_terminal(sys.stdout) and n_whole > 1 and sum(widths[:n_whole]) + 2 * (n_whole - 1) > terminal_width():
        n_whole -= 1
    lines = []
    for n, row in enumerate(rows):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row[:n_whole], widths, strict=False)).rstrip())
        lines += [f"    {cell}" for cell in row[n_whole:] if n and cell != NOTHING]
    return "\n".join(lines)


def _row(model: KeptModel) -> tuple[str, ...]:
    return (
        printable(model.name),
        model.outtype or NOTHING,
        readable_size(model.n_bytes),
        _ago(time.time() - model.used_at) if model.used_at else NOTHING,
        " ".join(model.languages) or NOTHING,
        printable(model.problem) or "complete",
    )


def _ago(elapsed_s: float) -> str:
    days = int(elapsed_s // _DAY_S)
    return "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"
