"""`palo-cpp convert`: a checkpoint in, two GGUF files out."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.console import warn
from palo_cpp.cli.options import debug_option, json_option, option
from palo_cpp.cli.progress import TensorProgress

if TYPE_CHECKING:
    from palo_cpp.convert.conversion import Conversion


EXAMPLES = """\b
Examples:
  palo-cpp convert PALO-7B -o models --vision-tower clip-vit-large-patch14-336
  palo-cpp convert PALO-7B -o models --outtype q4_k_m
  palo-cpp convert my-lora -o models --base vicuna-7b-v1.5 --name my-palo
  palo-cpp convert PALO-13B -o models --dry-run
  palo-cpp convert VisCPM-Chat -o models --outtype q4_k_m
"""


@click.command("convert", epilog=EXAMPLES)
@click.argument("source")
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="Where to write the two files; made if it is not there."
)
@click.option(
    "--vision-tower",
    metavar="DIR",
    help="Folder of the CLIP model, for a checkpoint that does not hold it (openai/clip-vit-large-patch14-336).",
)
@click.option("--base", metavar="DIR", help="Folder of the LLaMA model under a LoRA, or under a lone mm_projector.bin.")
@option(
    "--outtype",
    env="OUTTYPE",
    default="f16",
    show_default=True,
    metavar="TYPE",
    help="Type of the language model's weights: f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0, ...",
)
@option(
    "--mmproj-outtype",
    env="MMPROJ_OUTTYPE",
    default="f16",
    show_default=True,
    metavar="TYPE",
    help="Type of the weights of vision tower and projector: f32, f16, bf16 or q8_0.",
)
@click.option("--name", help="Name of the model in the files and in their names.", show_default="the folder's name")
@click.option("--dry-run", is_flag=True, help="Print the plan - tensors, types, sizes, memory - and write nothing.")
@json_option
@debug_option
def command(
    source: str,
    output: str,
    vision_tower: str | None,
    base: str | None,
    outtype: str,
    mmproj_outtype: str,
    name: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Turn a PALO, LLaVA, MobileVLM or VisCPM checkpoint into GGUF files.

    SOURCE is the folder of a checkpoint, or of a LoRA or a lone mm_projector.bin with --base; or one of several files
    of weights in it. It is only read, and nothing in it is run. Two files are written: the language model, and the
    mmproj file of vision tower and projector.
    """
    from palo_cpp.convert import convert

    with TensorProgress() as progress:
        conversion = convert(
            source,
            output,
            vision_tower=vision_tower,
            base=base,
            outtype=outtype,
            mmproj_outtype=mmproj_outtype,
            name=name,
            dry_run=dry_run,
            progress=progress.update,
        )
    if not dry_run:  # the text of a plan has them
        for warning in conversion.plan.warnings:
            warn(warning)
    click.echo(_as_json(conversion, dry_run) if as_json else _as_text(conversion, output, dry_run))


def _as_text(conversion: Conversion, output: str, dry_run: bool) -> str:
    if dry_run:
        return str(conversion.plan)
    names = {"text": "language model: ", "mmproj": "vision:         "}
    lines = [f"{names[role]}{path}" for role, path in conversion.paths.items()]
    languages = conversion.plan.languages
    example = "hi" if "hi" in languages else languages[0]
    return "\n".join([*lines, f"\nTry it:\n  palo-cpp chat photo.jpg -m {shlex.quote(output)} --lang {example}"])


def _as_json(conversion: Conversion, dry_run: bool) -> str:
    names = {"text": "model", "mmproj": "mmproj"}
    written = {} if dry_run else {names[role]: str(path) for role, path in conversion.paths.items()}
    return to_json({**written, "plan": conversion.plan.to_dict()})
