"""`palo-cpp recommend`: which model this machine runs, and how well it speaks a language."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.console import Status, is_terminal, terminal_width
from palo_cpp.cli.options import debug_option, json_option, language_option, threads_option

if TYPE_CHECKING:
    from palo_cpp.models.recommendation import Candidate, Prediction, Recommendation

EXAMPLES = """\b
Examples:
  palo-cpp recommend
  palo-cpp recommend --lang bn
  palo-cpp recommend --lang اردو --json
"""

_HEADINGS = ("MODEL", "FITS", "MEMORY", "DISK", "1ST WORD", "WORDS/S", "SCORE")
_WIDE = 66  # cells from which two spaces stand between columns


@click.command("recommend", epilog=EXAMPLES)
@language_option
@threads_option
@json_option
@debug_option
def command(language: str | None, n_threads: int, as_json: bool) -> None:
    """Say which model suits this machine and a language.

    Memory and disk are computed, times are predicted from a measurement of some seconds, scores are those of the
    models' paper. Without --lang everything is the average over the ten languages. Nothing is fetched.
    """
    found = recommendation(language, n_threads=n_threads)
    click.echo(to_json(found.to_dict()) if as_json else as_text(found, _width()))


def recommendation(language: str | None, *, n_threads: int = 0) -> Recommendation:
    """Measure this machine and choose.

    Args:
        language: code; None is the average over all.
        n_threads: 0 takes the physical cores this process may use.
    """
    from palo_cpp.bench.machine_speed import measure_speed
    from palo_cpp.machine import memory_available, memory_total
    from palo_cpp.models.recommendation import recommend

    available = memory_available()  # before the measurement takes any
    with Status() as status:
        speed = measure_speed(n_threads=n_threads, report=status.show)
    return recommend(speed, available=available, total=memory_total(), language=language)


def _width() -> int:
    return terminal_width() if is_terminal(sys.stdout) else 100


def as_text(found: Recommendation, width: int) -> str:
    """The table for people, with what they should know below it; the last line is the recommendation.

    Args:
        found: what was found.
        width: cells of a row.
    """
    table = _table(found.candidates, "  " if width >= _WIDE else " ")
    paragraphs = [_machine(found), *_notes(found), _conclusion(found)]
    first, *rest = (textwrap.fill(each, min(width, 100), break_on_hyphens=False) for each in paragraphs)
    return "\n".join([first, "", table, "", *rest, *([f"  {found.command}"] if found.command else [])])


def _table(candidates: tuple[Candidate, ...], gap: str) -> str:
    rows = [_HEADINGS, *map(_row, candidates)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        gap.join(cell.ljust(w) if n < 2 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def _row(each: Candidate) -> tuple[str, ...]:
    needs = each.prediction
    return (
        f"{each.name} {each.outtype}",
        each.fit,
        about_size(needs.memory_bytes),
        about_size(needs.disk_bytes),
        f"{about(needs.first_word_s)} s",
        about(needs.words_per_s),
        f"{each.score:.1f}",
    )


def _machine(found: Recommendation) -> str:
    speed, parts = found.speed, []
    if found.available is not None:
        total = f" of {about_size(found.total)}" if found.total is not None else ""
        parts.append(f"{about_size(found.available)} of memory available{total}")
    parts += [f"instructions {speed.isa}", f"{speed.n_threads} threads", f"memory read at {speed.read / 1e9:.0f} GB/s"]
    return f"This machine: {', '.join(parts)}."


def _notes(found: Recommendation) -> list[str]:
    notes = []
    if found.speed.is_noisy:
        notes += ["Other programs are busy. Times are estimates for when they rest; measure again then to be surer."]
    if any(each.fit == "tight" for each in found.candidates):
        notes += ["FITS: tight where it fits when other programs are closed."]
    where = f"in {found.language_name}" if found.language else "on average over the languages"
    notes += [
        f"1ST WORD: seconds to the first word of an answer about an image. WORDS/S: words per second after it, {where}."
        " Both are predicted from a short measurement, roughly.",
        *(f"SCORE: of 100, {where}, by {each.judge} on {each.benchmark} ({each.source})." for each in found.sources),
    ]
    return [*notes, *(_other_note(each, found) for each in found.others if each.outtype == "q4_k_m")]


def _other_note(each: Candidate, found: Recommendation) -> str:
    """A model whose points cannot stand in the table."""
    from palo_cpp.models.names import PUBLISHED

    model, where = PUBLISHED[each.name], f"in {found.language_name}" if found.language else "on average"
    fits = {"yes": "fits", "tight": "fits when other programs are closed", "no": "does not fit"}[each.fit]
    beams = (
        f"These times are those of --beams 1; by itself it searches {model.n_beams} answers side by side, where a word "
        "takes longer and is shown when all of them agree on it. "
        if model.n_beams > 1
        else ""
    )
    alike = [name for name, other in PUBLISHED.items() if other.variant and other.checkpoint == model.checkpoint]
    further = f" Further checkpoints of it, as large: {', '.join(alike)}." if alike else ""
    return (
        f"Also: {each.name} ({model.title}) {fits}; as {each.outtype} it {prediction_text(each.prediction, where)}. "
        f"{beams}"
        f"Its {each.score:.1f} of 100 {where} are of another benchmark ({model.evaluation.benchmark}) and cannot be "
        f"compared with the table's. Terms: {model.licenses[0].name}.{further}"
    )


def _conclusion(found: Recommendation) -> str:
    chosen = found.chosen
    if chosen is None:
        return _nothing_fits(min(found.candidates, key=lambda each: each.prediction.memory_bytes))
    in_time = "the smallest about as good as the best that fits and answers in time"
    reason, weak = in_time if chosen.is_patient else "slow, but the fastest that fits", found.weakness
    return f"Recommended: {chosen.name} as {chosen.outtype}, {reason}{f'; {weak}' if weak else ''}."


def _nothing_fits(least: Candidate) -> str:
    size = about_size(least.prediction.memory_bytes)
    needs = f"the smallest, {least.name} as {least.outtype}, needs {size} of memory"
    closing = "; it fits when other programs are closed" if least.fit == "tight" else ""
    return f"None fits: {needs}{closing}. What runs here is nano, a demo that knows simple drawings only."


def prediction_text(needs: Prediction, where: str) -> str:
    """What a model needs, in one sentence.

    Args:
        needs: the prediction.
        where: the language, as "in Hindi"; what "words" are counted in.
    """
    return (
        f"takes about {about_size(needs.memory_bytes)} of memory and {about_size(needs.disk_bytes)} of disk; on this "
        f"machine about {about(needs.first_word_s)} s to the first word about an image, then about "
        f"{about(needs.words_per_s)} words per second {where}"
    )


def about(value: float) -> str:
    """A number with no more digits than a prediction deserves: two, of which one after the point."""
    if value < 0.1:
        return f"{value:.2f}"
    rounded = float(f"{value:.2g}")
    return f"{rounded:.0f}" if rounded >= 10 else f"{rounded:.1f}"


def about_size(n_bytes: float) -> str:
    """Bytes in GiB, as `about` rounds."""
    return f"{about(n_bytes / 2**30)} GiB"
