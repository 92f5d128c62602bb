"""`palo-cpp quantize`: a GGUF file in, a smaller one out."""

from __future__ import annotations

from pathlib import Path

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.options import debug_option, json_option, threads_option
from palo_cpp.cli.progress import TensorProgress, readable_size

EXAMPLES = """\b
Examples:
  palo-cpp quantize models/PALO-7B-F16.gguf q4_k_m
  palo-cpp quantize models/mmproj-PALO-7B-F16.gguf q8_0 -o small
"""


@click.command("quantize", epilog=EXAMPLES)
@click.argument("file")
@click.argument("outtype")
@click.option(
    *("-o", "--output"),
    metavar="PATH",
    show_default="beside FILE, named after the type",
    help="The file to write, or the folder to write it into.",
)
@threads_option
@json_option
@debug_option
def command(file: str, outtype: str, output: str | None, n_threads: int, as_json: bool) -> None:
    """Make a smaller copy of a GGUF file.

    FILE is either of the two files of a model. OUTTYPE for the language model is any type that llama.cpp quantizes to
    (q8_0, q6_k, q5_k_m, q4_k_m, q4_0, ...); for the mmproj file it is f32, f16, bf16 or q8_0.
    """
    from palo_cpp.convert import quantize

    with TensorProgress() as progress:
        path = quantize(file, _target(Path(file), output), outtype, n_threads=n_threads, progress=progress.update)
    before, after = Path(file).stat().st_size, path.stat().st_size
    if as_json:
        click.echo(to_json({"path": str(path), "outtype": outtype, "n_bytes_before": before, "n_bytes": after}))
    else:
        click.echo(f"{path}: {readable_size(before)} -> {readable_size(after)}")


def _target(file: Path, output: str | None) -> Path:
    """Where to write: beside the file, into a folder (made if it is not there), or to a name that ends in .gguf."""
    if output is None:
        return file.parent
    target = Path(output)
    if target.suffix != ".gguf" and file.is_file():
        target.mkdir(parents=True, exist_ok=True)
    return target
