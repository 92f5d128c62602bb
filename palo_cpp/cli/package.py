"""`palo-cpp package`: a folder that is ready to be published."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.console import Status, warn
from palo_cpp.cli.options import debug_option, json_option
from palo_cpp.cli.progress import TensorProgress, readable_size
from palo_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from palo_cpp.convert.progress import ProgressCallback
    from palo_cpp.models.repository_card import CardFacts
    from palo_cpp.packaging import Source

EXAMPLES = """\b
Examples:
  palo-cpp package PALO-7B -o PALO-7B-GGUF --vision-tower clip-vit-large-patch14-336
  palo-cpp package models/PALO-7B-F16.gguf -o PALO-7B-GGUF --types q4_k_m,q8_0
  palo-cpp package nano -o PALO-Nano-GGUF --types q8_0
"""


def _to_types(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """`q4_0,q8_0` -> the types, each once."""
    from palo_cpp.convert import outtypes

    if text is None:
        return None
    types = tuple(dict.fromkeys(filter(None, (each.strip().lower() for each in text.split(",")))))
    if not types or (unknown := [each for each in types if each not in outtypes()]):
        got = ", ".join(unknown) if types else "none"
        raise click.BadParameter(f"expected types with commas between them ({', '.join(outtypes())}), got {got}")
    return types


@click.command("package", epilog=EXAMPLES)
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The folder to publish; made if it is not there.")
@click.option(
    "--types",
    callback=_to_types,
    metavar="TYPE,...",
    show_default="q4_0,q4_k_m,q8_0, or its own type of a quantized model",
    help="Types of the language model's weights.",
)
@click.option("--vision-tower", metavar="DIR", help="Folder of the CLIP model, for a checkpoint that does not hold it.")
@click.option("--base", metavar="DIR", help="Folder of the LLaMA model under a LoRA, or under a lone mm_projector.bin.")
@click.option("--name", help="Name of the model in the files' names.", show_default="what the model is called")
@json_option
@debug_option
def command(
    model: str,
    output: str,
    types: tuple[str, ...] | None,
    vision_tower: str | None,
    base: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Write a folder that is ready to be published.

    MODEL is the folder of a checkpoint, or an unquantized model as -m takes it. The folder gets the language model in
    each type, the mmproj file in F16 and Q8_0, a model card and SHA256SUMS; `hf upload` publishes it, and `palo-cpp
    pull` takes it from the hub or, with --from, from the folder. A second run goes on where one stopped.
    """
    from palo_cpp.models.repository_card import facts_of
    from palo_cpp.packaging import make_package

    folder = Path(output)
    package = make_package(_source(model, folder, types, vision_tower, base, name), folder, _Shown())
    options = {"types": ",".join(types or ()), "vision-tower": vision_tower, "base": base, "name": name}
    facts = facts_of(folder, package.source.stem, _command(model, folder, options), _versions())
    texts = _write_texts(facts, folder)
    files = [_file(folder / name, digest, is_new=name in package.new) for name, digest in package.sums.items()]
    if as_json:
        click.echo(to_json({"folder": str(folder), "name": facts.name, "files": files, "texts": texts}))
    else:
        click.echo(_text(files, folder))
    if facts.is_under_llama_2 and not any(folder.glob("LICENSE*")):
        warn(f"{folder}: put a copy of the Llama 2 agreement into it as LICENSE.txt before you publish it")


class _Shown:
    """See `packaging.Watch`."""

    @contextmanager
    def making(self) -> Iterator[ProgressCallback]:
        """With a bar."""
        with TensorProgress() as progress:
            yield progress.update

    @contextmanager
    def hashing(self, name: str) -> Iterator[None]:
        """With a line that goes away."""
        with Status() as status:
            status.show(f"hashing {name}")
            yield


def _source(
    model: str,
    folder: Path,
    types: tuple[str, ...] | None,
    vision_tower: str | None,
    base: str | None,
    name: str | None,
) -> Source:
    from palo_cpp.models.files import find_model
    from palo_cpp.packaging import TYPES, CheckpointSource, GgufSource

    path = Path(model)
    if path.is_dir() and not any(path.glob("*.gguf")):
        arguments = {"source": model, "vision_tower": vision_tower, "base": base, "name": name}
        source = CheckpointSource(arguments, types or TYPES, folder)
        for warning in source.warnings:
            warn(warning)
        return source
    for option, value in (("--vision-tower", vision_tower), ("--base", base)):
        if value:
            raise ArgumentError(
                f"{option}: expected a checkpoint to go with it, got a model in GGUF files; leave it out"
            )
    return GgufSource(find_model(model), types, name)


def _command(model: str, folder: Path, options: dict[str, str | None]) -> str:
    """What was typed, without the folders of this machine."""
    words = ["palo-cpp", "package", _short(model), "-o", folder.resolve().name]
    for option, value in options.items():
        words += [f"--{option}", _short(value)] if value else []
    return shlex.join(words)


def _short(argument: str) -> str:
    return Path(argument).resolve().name if Path(argument).exists() else argument


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("palo-cpp", "llama-cpp-python", "gguf")}


def _write_texts(facts: CardFacts, folder: Path) -> list[str]:
    """Write the card, unless somebody has changed it, and the notice where the terms ask for one."""
    from palo_cpp.models.repository_card import NOTICE, card_text, is_ours, notice_text
    from palo_cpp.partial_files import partial_files

    texts = {"README.md": card_text(facts)} | ({NOTICE: notice_text(facts)} if facts.is_under_llama_2 else {})
    card = folder / "README.md"
    if card.exists() and not is_ours(card.read_text(encoding="utf-8", errors="replace")):
        warn(f"{card}: was changed and stays as it is; remove it to have it written again")
        del texts["README.md"]
    with partial_files(folder, sum(map(len, texts.values()))) as partial:
        new = {partial.new(name): name for name in texts}
        for path, name in new.items():
            path.write_text(texts[name], encoding="utf-8", newline="\n")
        partial.publish(new)
    return [str(folder / name) for name in texts]


def _file(path: Path, digest: str, *, is_new: bool) -> dict[str, Any]:
    return {"path": str(path), "n_bytes": path.stat().st_size, "sha256": digest, "is_new": is_new}


def _text(files: list[dict[str, Any]], folder: Path) -> str:
    rows = [
        f"{readable_size(file['n_bytes']):>12}  {file['path']}{'' if file['is_new'] else ', was there'}"
        for file in files
    ]
    where, repository = shlex.quote(str(folder)), f"ORG/{folder.resolve().name}"
    next_steps = (
        "README.md and SHA256SUMS are beside them; read README.md, then publish the folder:",
        f"  hf upload {repository} {where}",
        "or carry it, and on the other machine:",
        f"  palo-cpp pull {repository} --from {where}",
    )
    return "\n".join([*rows, "", *next_steps])
