"""`palo-cpp show`: what is in GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.group import EXIT_FAILED, print_error
from palo_cpp.cli.options import debug_option, json_option
from palo_cpp.errors import ModelNotFoundError, PaloError

if TYPE_CHECKING:
    from palo_cpp.models.show import Summary

EXAMPLES = """\b
Examples:
  palo-cpp show models
  palo-cpp show models/PALO-7B-Q4_K_M.gguf
  palo-cpp show models/*.gguf --json | jq '.[].memory_bytes'
"""


@click.command("show", epilog=EXAMPLES)
@click.argument("places", nargs=-1, required=True, metavar="PATH...")
@json_option
@debug_option
def command(places: tuple[str, ...], as_json: bool) -> int:
    """Summarize GGUF files.

    PATH is either of the two files of a model, or a folder, whose GGUF files are shown; the sizes, types, languages and
    origin of each are printed. A file that cannot be read is reported on stderr, and the others are shown. --json
    prints one object for one file, a list of them for several or for a folder.
    """
    if len(places) == 1 and not Path(places[0]).is_dir():
        summary = _summarize(Path(places[0]))
        click.echo(to_json(summary.to_dict()) if as_json else str(summary))
        return 0
    objects: list[dict[str, Any]] = []
    for file in (file for place in places for file in _files_at(Path(place))):
        try:
            summary = _summarize(file)
        except (PaloError, OSError) as error:
            print_error(str(error) if str(file) in str(error) else f"{file}: {error}")
            objects.append({"path": str(file), "error": str(error)})
            continue
        if not as_json:
            is_first = all("error" in found for found in objects)
            click.echo(str(summary) if is_first else f"\n{summary}")
        objects.append(summary.to_dict())
    if as_json:
        click.echo(to_json(objects))
    return EXIT_FAILED if any("error" in found for found in objects) else 0


def _files_at(place: Path) -> list[Path]:
    """The GGUF files of a folder; a file, or a folder without any, as it is."""
    if not place.is_dir():
        return [place]
    return sorted(file for file in place.glob("*.gguf") if file.is_file()) or [place]


def _summarize(path: Path) -> Summary:
    from palo_cpp.convert import summarize

    if path.is_dir():
        raise ModelNotFoundError(f"{path}: expected GGUF files, got none; `palo-cpp convert` makes them")
    return summarize(path)
