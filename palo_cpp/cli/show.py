"""`palo-cpp show`: what is in GGUF files, and what is here of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.console import printable
from palo_cpp.cli.group import EXIT_FAILED, print_error
from palo_cpp.cli.options import debug_option, json_option
from palo_cpp.cli.progress import readable_size
from palo_cpp.errors import ModelNotFoundError, PaloError

if TYPE_CHECKING:
    from palo_cpp.models.kept_models import KeptModel
    from palo_cpp.models.names import HubName
    from palo_cpp.models.show import Summary

EXAMPLES = """\b
Examples:
  palo-cpp show 7b
  palo-cpp show ORG/PALO-7B-GGUF:Q8_0
  palo-cpp show models/PALO-7B-Q4_K_M.gguf
  palo-cpp show models/*.gguf --json | jq '.[].memory_bytes'
"""


@click.command("show", epilog=EXAMPLES)
@click.argument("places", nargs=-1, required=True, metavar="MODEL...")
@json_option
@debug_option
def command(places: tuple[str, ...], as_json: bool) -> int:
    """Summarize GGUF files, or what is here of a model.

    MODEL is either of the two files of a model; a folder, whose GGUF files are shown; or a name as `palo-cpp ls` lists
    it, of which all that is here is shown. The sizes, types, languages and origin of each file are printed. A file that
    cannot be read is reported on stderr, and the others are shown. --json prints one object for one file, a list of
    them for several, for a folder or for a name.
    """
    if len(places) == 1 and _is_file(places[0]):
        summary = _summarize(Path(places[0]))
        click.echo(to_json(summary.to_dict()) if as_json else str(summary))
        return 0
    found = [each for place in places for each in _found_at(place)]
    objects = list(_shown(found, as_json=as_json))
    if as_json:
        click.echo(to_json(objects))
    return EXIT_FAILED if any("error" in each for each in objects) else 0


def _is_file(place: str) -> bool:
    """Whether one file is meant, perhaps one that is not there."""
    from palo_cpp.models.names import NANO

    return not Path(place).is_dir() and place != NANO and _name_of(place) is None


def _name_of(place: str) -> HubName | None:
    """The model of the hub that a text names, unless a file or folder has that name."""
    from palo_cpp.models.names import hub_name

    return None if Path(place).exists() else hub_name(place)


def _found_at(place: str) -> Sequence[Path | KeptModel]:
    """The GGUF files of a folder or of a name, and what of the name is not complete; or a file as it is."""
    from palo_cpp.models.kept_models import CHECKPOINT, kept_of
    from palo_cpp.models.names import NANO, NANO_FOLDER

    if (name := _name_of(place)) is not None:
        kept = kept_of(name)
        files = dict.fromkeys(path for model in kept if model.outtype != CHECKPOINT for path in model.paths)
        return [*files, *(model for model in kept if model.problem)]
    path = NANO_FOLDER if place == NANO and not Path(place).exists() else Path(place)
    return sorted(file for file in path.glob("*.gguf") if file.is_file()) or [path]


def _shown(found: Sequence[Path | KeptModel], *, as_json: bool) -> Iterator[dict[str, Any]]:
    """Print one after the other, with an empty line between; gives the objects for JSON."""
    is_first = True
    for each in found:
        try:
            shown = _summarize(each) if isinstance(each, Path) else each
        except (PaloError, OSError) as error:
            print_error(str(error) if str(each) in str(error) else f"{each}: {error}")
            yield {"path": str(each), "error": str(error)}
            continue
        if not as_json:
            text = str(shown) if isinstance(each, Path) else _unfinished(each)
            click.echo(text if is_first else f"\n{text}")
        is_first = False
        yield shown.to_dict()


def _unfinished(model: KeptModel) -> str:
    return f"{printable(model.name)}, {readable_size(model.n_bytes)}: {printable(model.problem)}"


def _summarize(path: Path) -> Summary:
    from palo_cpp.convert import summarize

    if path.is_dir():
        raise ModelNotFoundError(f"{path}: expected GGUF files, got none; `palo-cpp convert` makes them")
    return summarize(path)
