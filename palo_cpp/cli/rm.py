"""`palo-cpp rm`: a model out of the cache."""

from __future__ import annotations

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.options import debug_option, json_option
from palo_cpp.cli.progress import readable_size

EXAMPLES = """\b
Examples:
  palo-cpp rm ORG/PALO-7B-GGUF:Q8_0
  palo-cpp rm 7b
"""


@click.command("rm", epilog=EXAMPLES)
@click.argument("model")
@json_option
@debug_option
def command(model: str, as_json: bool) -> None:
    """Remove a model from the cache.

    MODEL is named as `palo-cpp ls` lists it; without a type all of its repository goes. What another revision needs
    stays.
    """
    from palo_cpp.models.names import hub_name_or_error
    from palo_cpp.models.removed_models import remove_model

    n_freed = remove_model(hub_name_or_error(model))
    click.echo(to_json({"model": model, "n_bytes_freed": n_freed}) if as_json else f"freed {readable_size(n_freed)}")
