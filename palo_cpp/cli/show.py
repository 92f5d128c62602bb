"""`palo-cpp show`: what is in a GGUF file."""

from __future__ import annotations

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.options import debug_option, json_option

EXAMPLES = """\b
Examples:
  palo-cpp show models/PALO-7B-Q4_K_M.gguf
  palo-cpp show models/mmproj-PALO-7B-F16.gguf --json
"""


@click.command("show", epilog=EXAMPLES)
@click.argument("file")
@json_option
@debug_option
def command(file: str, as_json: bool) -> None:
    """Summarize a GGUF file.

    FILE is either of the two files of a model; its sizes, types, languages and origin are printed.
    """
    from palo_cpp.convert import summarize

    summary = summarize(file)
    click.echo(to_json(summary.to_dict()) if as_json else str(summary))
