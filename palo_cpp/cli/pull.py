"""`palo-cpp pull`: a model from the hub or a stick to this machine, or from here to a stick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.console import is_terminal, terminal_width
from palo_cpp.cli.downloading import DownloadBars, confirm, describe_plan, try_it, wrapped
from palo_cpp.cli.model_names import NamingCommand
from palo_cpp.cli.options import debug_option, json_option, language_option, option
from palo_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from palo_cpp.models.hub_models import ModelPaths
    from palo_cpp.models.names import HubName
    from palo_cpp.pull.plan import PullOptions

EXAMPLES = """\b
Examples:
  palo-cpp pull 7b --outtype q4_k_m
  palo-cpp pull 13b --low-disk
  palo-cpp pull ORG/PALO-7B-GGUF:Q8_0
  palo-cpp pull mobile --plan
  palo-cpp pull 7b --to /media/stick
  palo-cpp pull 7b --from /media/stick
"""


@click.command("pull", cls=NamingCommand, epilog=EXAMPLES)
@click.argument("model", required=False)
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
@click.option("--low-disk", is_flag=True, help="Remove each file of a checkpoint as soon as it has been read.")
@click.option("--to", "target", metavar="DIR", help="Copy the model to a folder, such as a stick; fetch it before.")
@click.option("--from", "source", metavar="DIR", help="Take the model from a folder instead of the hub.")
@language_option
@json_option
@debug_option
def command(
    model: str | None,
    yes: bool,
    is_plan: bool,
    revision: str | None,
    outtype: str | None,
    keep_checkpoint: bool,
    low_disk: bool,
    target: str | None,
    source: str | None,
    language: str | None,
    as_json: bool,
) -> None:
    """Fetch a model from the hub into the cache.

    MODEL is MODEL_NAMES, or a repository ORG/NAME with GGUF files or a checkpoint; ORG/NAME:Q8_0 names one of its
    types. Without MODEL the one is offered that suits this machine and --lang (see `palo-cpp recommend`). A checkpoint
    is converted, and its vision tower is fetched where it has none. What was interrupted goes on where it stopped.
    HF_TOKEN, HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE are honoured.
    """
    from palo_cpp.models.hub_models import HubOptions, cached_model
    from palo_cpp.pull.plan import PullOptions

    if keep_checkpoint and low_disk:
        raise ArgumentError("--low-disk: removes what --keep-checkpoint keeps; give one of them")
    if source and (target or is_plan):
        raise ArgumentError("--from: takes a model from a folder; give it without --to and --plan")
    name = _name(model, outtype) if model else _recommended(language, outtype)
    if source:
        result = _take(name, Path(source))
    else:
        options = PullOptions(HubOptions(revision=revision), keep_checkpoint, low_disk)
        here = cached_model(name, options.hub) if target and not is_plan else None
        result = {"model": str(name)} if here else pull(name, options, yes=yes, is_plan=is_plan)
        if target and not is_plan:
            result |= _carry(here or result["at"], name, Path(target))
    result.pop("at", None)
    text = result.pop("text")
    click.echo(to_json(result) if as_json else wrapped(text))


def pull(name: HubName, options: PullOptions, *, yes: bool = False, is_plan: bool = False) -> dict[str, Any]:
    """Fetch a model, after asking.

    Returns:
        What to print: as text under "text", where the model is now under "at", and the rest for JSON.

    Raises:
        PaloError: it could not be fetched or converted, or nobody is there to be asked.
    """
    from palo_cpp.pull.plan import Watch
    from palo_cpp.pull.pulling import opened_pull

    with opened_pull(name, options) as found:
        plan = found.plan
        text = describe_plan(plan)
        if is_plan:
            return {**plan.to_dict(), "text": text}
        if plan.n_bytes_missing or plan.is_converted:
            confirm(text, yes=yes)
        with DownloadBars() as bars:
            paths = found.run(Watch(bars.update, bars.convert))
        return {**plan.to_dict(), "paths": _strings(paths), "at": paths, "text": try_it(name)}


def _strings(paths: ModelPaths) -> list[str]:
    return [str(path) for path in (paths.text, paths.mmproj) if path]


def _name(model: str, outtype: str | None) -> HubName:
    from dataclasses import replace

    from palo_cpp.models.names import hub_name_or_error

    name = hub_name_or_error(model)
    return replace(name, outtype=outtype.upper()) if outtype else name


def _recommended(language: str | None, outtype: str | None) -> HubName:
    """The model that suits this machine and the language; shown, with the others."""
    from palo_cpp.cli.recommend import as_text, recommendation

    found = recommendation(language)
    if found.chosen is None:
        raise ArgumentError(
            "pull: expected memory for a model, got too little; `palo-cpp recommend` shows what they need"
        )
    if not is_terminal(sys.stdin) or not is_terminal(sys.stderr):
        raise ArgumentError(f"pull: expected a model where nobody can be asked, got none; try `{found.command}`")
    click.echo(as_text(found, terminal_width()) + "\n", err=True)
    return _name(found.chosen.name, outtype or found.chosen.outtype)


def _take(name: HubName, folder: Path) -> dict[str, Any]:
    """Bring a model from a folder."""
    from palo_cpp.hub.settings import cache_folder
    from palo_cpp.models.carried_models import carry_from

    with DownloadBars() as bars:
        paths = carry_from(name, folder, cache_folder(), bars.update)
    return {"model": str(name), "paths": _strings(paths), "text": try_it(name)}


def _carry(paths: ModelPaths, name: HubName, folder: Path) -> dict[str, Any]:
    """Copy a model to a folder."""
    from palo_cpp.models.carried_models import carry_to

    with DownloadBars() as bars:
        copies = carry_to(paths, name, folder, bars.update)
    text = f"{name} is in {folder}. On the other machine:\n  palo-cpp pull {name} --from {folder}"
    return {"copies": [str(path) for path in copies], "text": text}
