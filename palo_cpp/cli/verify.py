"""`palo-cpp verify`: whether what is in the cache is what the hub has."""

from __future__ import annotations

import sys

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.console import Status
from palo_cpp.cli.options import debug_option, json_option

EXAMPLES = """\b
Examples:
  palo-cpp verify 7b
  palo-cpp verify ORG/PALO-7B-GGUF:Q8_0 --remove-damaged
"""


@click.command("verify", epilog=EXAMPLES)
@click.argument("model")
@click.option("--remove-damaged", is_flag=True, help="Remove damaged files, so that the next pull fetches them again.")
@json_option
@debug_option
def command(model: str, remove_damaged: bool, as_json: bool) -> None:
    """Hash a model's files in the cache again.

    MODEL is named as for `palo-cpp pull`. Damaged files are named with both hashes, and the exit code is 1. Files whose
    hash nobody kept are said to be unknown.
    """
    from palo_cpp.models.names import hub_name_or_error
    from palo_cpp.models.removed_models import remove_file
    from palo_cpp.models.verified_models import verify_model

    name = hub_name_or_error(model)
    checked = []
    with Status() as status:
        status.show("hashing")
        for file in verify_model(name):
            checked.append(file)
            if not as_json:
                status.clear()
                click.echo(file)
            if file.is_damaged and remove_damaged:
                remove_file(name, file.path)
    if as_json:
        click.echo(to_json([file.to_dict() for file in checked]))
    if any(file.is_damaged for file in checked):
        sys.exit(1)
