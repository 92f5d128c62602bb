"""`palo-cpp bench`: how fast this machine is, beside llama.cpp on the same files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.console import Status, is_terminal, warn
from palo_cpp.cli.options import backend_option, debug_option, draft_option, json_option, threads_option
from palo_cpp.cli.progress import readable_size
from palo_cpp.errors import ArgumentError, ModelNotFoundError

if TYPE_CHECKING:
    from palo_cpp.bench.figures import BenchReport
    from palo_cpp.bench.run import Report
    from palo_cpp.ggml.backend import BackendMode

# Kept here, not imported, so that `--help` stays fast; a test compares.
STAGES = ("encode", "projector", "load", "prefill", "decode", "beams", "first-token", "fidelity")

EXAMPLES = """\b
Examples:
  palo-cpp bench mobile --synthetic
  palo-cpp bench 7b --synthetic --outtype q4_k_m --json
  palo-cpp bench viscpm --synthetic --only decode --only beams
  palo-cpp bench models --only encode --threads 4
  palo-cpp bench --remove-synthetic
"""


def _to_counts(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Turn numbers with commas between them into a tuple, nothing into an empty one."""
    if text is None:
        return ()
    try:
        counts = tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise click.BadParameter(f"expected counts of tokens such as 144,640, got {text!r}")
    return counts


@click.command("bench", epilog=EXAMPLES)
@click.argument("model", required=False, metavar="MODEL|mobile|7b|13b|viscpm")
@click.option(
    "--synthetic",
    is_flag=True,
    help="Make random weights of the true shapes of mobile, 7b, 13b or viscpm (kept in the cache): true speeds, no "
    "download.",
)
@click.option(
    "--vs",
    type=click.Choice(["llama.cpp", "none"]),
    show_default="llama.cpp, where it can run the model",
    help="Whom to compare with, on the same files.",
)
@threads_option
@click.option("--runs", "n_runs", type=click.IntRange(1), default=5, show_default=True, help="Runs to take medians of.")
@click.option(
    "--only",
    type=click.Choice(STAGES),
    multiple=True,
    show_default="all",
    help="Measure this alone; may be given several times.",
)
@click.option(
    "--prompt-tokens",
    show_default="144,640; with beams 89,600",
    callback=_to_counts,
    metavar="N,N",
    help="Lengths of the prompts to read.",
)
@click.option(
    "--n-gen", type=click.IntRange(1, 4096), default=32, show_default=True, metavar="N", help="Tokens to decode."
)
@click.option(
    "--context",
    "contexts",
    show_default="64,1000; with beams 89,600",
    callback=_to_counts,
    metavar="N,N",
    help="Tokens that the context holds when decoding begins.",
)
@backend_option
@draft_option
@click.option("--outtype", default="q4_0", show_default=True, metavar="TYPE", help="Type of the random decoder.")
@click.option("--mmproj-outtype", default="f16", show_default=True, metavar="TYPE", help="Type of the random tower.")
@click.option(
    "--vision-precision",
    type=click.Choice(["int8", "float"]),
    show_default="the vision encoder's default",
    help="Precision of our vision encoder.",
)
@click.option("--remove-synthetic", is_flag=True, help="Remove the random models (of MODEL, or all) and list them.")
@json_option
@debug_option
def command(
    model: str | None,
    synthetic: bool,
    vs: str | None,
    n_threads: int,
    n_runs: int,
    only: tuple[str, ...],
    prompt_tokens: tuple[int, ...],
    n_gen: int,
    contexts: tuple[int, ...],
    backend: BackendMode,
    draft: str | None,
    outtype: str,
    mmproj_outtype: str,
    vision_precision: str | None,
    remove_synthetic: bool,
    as_json: bool,
) -> None:
    """Measure this machine, beside llama.cpp.

    MODEL is a folder or GGUF file, or mobile, 7b, 13b or viscpm with --synthetic. Both sides run in turn, in processes
    of their own, on the same files and threads; medians are printed. Image preprocessing is never timed.
    """
    if remove_synthetic:
        _remove(model, as_json)
        return
    if model is None:
        raise click.UsageError(
            "Missing argument 'MODEL': a folder, a GGUF file, or mobile, 7b, 13b or viscpm with --synthetic."
        )
    if draft and synthetic:
        raise click.UsageError("--draft drafts answers, and random weights give none: leave out --synthetic.")
    from palo_cpp.bench.plan import BenchPlan
    from palo_cpp.bench.run import run_bench

    stages = frozenset(only or STAGES)
    with Status() as status:
        find = _synthetic_files if synthetic else _files
        text, mmproj = find(model, outtype, mmproj_outtype, stages, status.show)
        if draft:
            _check_draft(model, draft)
        plan = BenchPlan(
            model=f"synthetic {model}" if synthetic else model,
            text=text,
            mmproj=mmproj,
            stages=stages,
            with_llama_cpp=None if vs is None else vs == "llama.cpp",
            n_threads=n_threads,
            n_runs=n_runs,
            prompt_tokens=prompt_tokens,
            n_gen=n_gen,
            contexts=contexts,
            backend=backend,
            draft=draft,
            precision=vision_precision,
            speaks=not synthetic,
            n_image_products=_image_products(model) if synthetic else 0,
        )
        report = run_bench(plan, status.show)
    _print(report, as_json)


def _image_products(model: str) -> int:
    from palo_cpp.models.names import PUBLISHED

    return PUBLISHED[model].vision.n_products if model in PUBLISHED else 0


def _check_draft(model: str, draft: str) -> None:
    from palo_cpp.models.draft_model import check_draft
    from palo_cpp.models.files import find_model

    check_draft(find_model(model), find_model(draft))


def _synthetic_files(
    model: str, outtype: str, mmproj_outtype: str, stages: frozenset[str], report: Report
) -> tuple[Path, Path]:
    """Random text model and mmproj file; where only images are encoded, a decoder of next to no layers will do."""
    from palo_cpp.bench.plan import TEXT_STAGES
    from palo_cpp.bench.sizes import model_sizes
    from palo_cpp.bench.synthetic import synthetic_mmproj, synthetic_text

    sizes = model_sizes(model)
    if stages & TEXT_STAGES:
        text = synthetic_text(sizes, outtype, report=report)
    else:
        text = synthetic_text(sizes, "q8_0", is_stub=True, report=report)
    return text, synthetic_mmproj(sizes, mmproj_outtype, report=report)


def _files(
    model: str, _outtype: str, _mmproj_outtype: str, _stages: frozenset[str], _report: Report
) -> tuple[Path, Path]:
    """The files of a model that is there."""
    from palo_cpp.models.files import find_model
    from palo_cpp.models.names import PUBLISHED

    try:
        files = find_model(model)
    except ModelNotFoundError as error:
        if model not in PUBLISHED:
            raise
        raise ModelNotFoundError(f"{error}; or add --synthetic to measure with random weights of its shapes") from None
    if files.mmproj is None:
        raise ArgumentError(f"bench: expected a model that sees images, got {files.name}, which has no mmproj file")
    return files.text.path, files.mmproj.path


def _print(report: BenchReport, as_json: bool) -> None:
    from palo_cpp.bench.table import as_text, print_rich

    if as_json:
        if report.noise["is_noisy"]:
            warn(f"other programs took {report.noise['other_cpu_percent']:g} % of the processors: figures are noisy")
        click.echo(to_json(report.to_dict()))
    elif is_terminal(sys.stdout):
        print_rich(report)
    else:
        click.echo(as_text(report))


def _remove(model: str | None, as_json: bool) -> None:
    from palo_cpp.bench.cache_folder import remove_synthetic

    removed = remove_synthetic(model)
    if as_json:
        click.echo(to_json({"removed": [{"path": str(file.path), "n_bytes": file.n_bytes} for file in removed]}))
        return
    for file in removed:
        click.echo(f"removed {file.path} ({readable_size(file.n_bytes)})")
    click.echo(f"{len(removed)} files, {readable_size(sum(file.n_bytes for file in removed))}")
