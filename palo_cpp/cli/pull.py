"""`palo-cpp pull`: a model from the hub into the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.downloading import DownloadBars, DownloadPlan, confirm, describe_plans, try_it
from palo_cpp.cli.options import debug_option, json_option, option

if TYPE_CHECKING:
    from palo_cpp.models.names import HubName

EXAMPLES = """\b
Examples:
  palo-cpp pull 7b --outtype q4_k_m
  palo-cpp pull ORG/PALO-7B-GGUF:Q8_0
  palo-cpp pull mobile --plan
"""


@click.command("pull", epilog=EXAMPLES)
@click.argument("model")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--plan", "is_plan", is_flag=True, help="Print what would be fetched, and fetch no weights.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit.", show_default="main")
@option(
    "--outtype",
    env="OUTTYPE",
    metavar="TYPE",
    show_default="q4_k_m",
    help="Type of the language model's weights: which file is fetched, or what a checkpoint is converted to.",
)
@click.option("--keep-checkpoint", is_flag=True, help="Keep the checkpoint in the cache after it was converted.")
@json_option
@debug_option
def command(
    model: str,
    yes: bool,
    is_plan: bool,
    revision: str | None,
    outtype: str | None,
    keep_checkpoint: bool,
    as_json: bool,
) -> None:
    """Fetch a model from the hub into the cache.

    MODEL is mobile, 7b, 13b, or a repository ORG/NAME with GGUF files or a checkpoint; ORG/NAME:Q8_0 names one of its
    types. A checkpoint is converted, its vision tower is fetched, too. What was interrupted goes on where it stopped.
    HF_TOKEN, HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE are honoured.
    """
    result = pull(_name(model, outtype), revision=revision, yes=yes, is_plan=is_plan, is_kept=keep_checkpoint)
    text = result.pop("text")
    click.echo(to_json(result) if as_json else text)


def pull(
    name: HubName, *, revision: str | None = None, yes: bool = False, is_plan: bool = False, is_kept: bool = False
) -> dict[str, Any]:
    """Fetch a model, after asking.

    Returns:
        What to print: as text under "text", and the rest for JSON.

    Raises:
        PaloError: it could not be fetched or converted, or nobody is there to be asked.
    """
    from palo_cpp.models.file_choice import has_gguf
    from palo_cpp.models.hub_models import HubOptions, open_model, plan_model

    options = HubOptions(revision=revision)
    repository = open_model(name, options)
    if has_gguf(repository.files):
        return _pull_gguf(DownloadPlan(repository, plan_model(repository, name)), name, yes=yes, is_plan=is_plan)
    from palo_cpp.cli.pulling_checkpoints import pull_checkpoint

    return pull_checkpoint(repository, name, options, yes=yes, is_plan=is_plan, is_kept=is_kept)


def _name(model: str, outtype: str | None) -> HubName:
    from dataclasses import replace

    from palo_cpp.models.names import hub_name_or_error

    name = hub_name_or_error(model)
    return replace(name, outtype=outtype.upper()) if outtype else name


def _pull_gguf(plan: DownloadPlan, name: HubName, *, yes: bool, is_plan: bool) -> dict[str, Any]:
    from palo_cpp.hub.repository import fetch

    text = describe_plans([plan], plan.repository.cached.root)
    if is_plan:
        return {**plan.to_dict(), "text": text}
    if plan.n_bytes_missing:
        confirm(text, yes=yes)
    with DownloadBars() as bars:
        paths = fetch(plan.repository, [file.path for file in plan.files], bars.update)
    return {**plan.to_dict(), "paths": [str(path) for path in paths], "text": try_it(name)}
