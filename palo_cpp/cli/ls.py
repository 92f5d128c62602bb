"""`palo-cpp ls`: the models that are here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.options import debug_option, json_option
from palo_cpp.cli.progress import readable_size

if TYPE_CHECKING:
    from palo_cpp.models.kept_models import KeptModel

_DAY_S = 86400


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

    Those in the hub's cache, whoever fetched them, those that were converted, and files that have arrived in part.
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
    rows = [("NAME", "SIZE", "USED", "LANGUAGES"), *map(_row, models)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows
    )


def _row(model: KeptModel) -> tuple[str, str, str, str]:
    size = readable_size(model.n_bytes)
    if not model.is_complete:
        return model.name, size, "-", f"{100 * model.n_bytes_here / model.n_bytes:.0f} % has arrived; pull it again"
    return model.name, size, _ago(time.time() - model.used_at), " ".join(model.languages) or "-"


def _ago(elapsed_s: float) -> str:
    days = int(elapsed_s // _DAY_S)
    return "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"
