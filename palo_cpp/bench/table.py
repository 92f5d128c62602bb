"""The report as a small table for people."""

from __future__ import annotations

from typing import Any

from palo_cpp.bench.figures import BenchReport

_LABELS = {
    "encode_ms": "encode an image, ms",
    "projector_ms": "  of it the projector, ms",
    "load_ms": "load, ms",
    "prefill_tokens_per_s": "prefill {} tokens, tokens/s",
    "decode_tokens_per_s_by_context": "decode after {} tokens, tokens/s",
    "beam_step_ms_by_context": "a step of {n_paths} paths after {} tokens, ms",
    "first_token_ms": "image to first token, ms",
    "peak_rss_mib": "peak memory, MiB",
}
HEADINGS = ("", "palo_cpp", "llama.cpp", "ratio")
Row = tuple[str, str, str, str]


def rows(report: BenchReport) -> list[Row]:
    """What was measured: label, ours, theirs, ratio."""
    found = report.to_dict()
    result: list[Row] = []
    for name, label in _LABELS.items():
        figures = [(found[side] or {}).get(name) for side in ("palo_cpp", "llama_cpp", "ratio")]
        spreads = [found["spread"].get(side, {}).get(name) for side in ("palo_cpp", "llama_cpp")]
        keys = sorted({key for figure in figures if isinstance(figure, dict) for key in figure}, key=int)
        for key in keys or [""]:
            ours, theirs, ratio = (_at(figure, key) for figure in figures)
            cells = [_cell(ours, _at(spreads[0], key)), _cell(theirs, _at(spreads[1], key))]
            if any(cells):
                cells[1] = cells[1] or ("n/a" if report.left_out else "")
                result.append((label.format(key, n_paths=report.n_paths), *cells, f"{ratio:.2f}x" if ratio else ""))  # type: ignore[arg-type]  # two cells
    return result


def _at(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else value


def _cell(figure: float | None, spread: list[float] | None) -> str:
    """Median, and in brackets the least and the most."""
    if figure is None:
        return ""
    if not spread or spread[0] == spread[1]:
        return f"{figure:g}"
    return f"{figure:g} ({spread[0]:g}-{spread[1]:g})"


def notes(report: BenchReport) -> list[str]:
    """What is printed below the table."""
    found = report.to_dict()
    lines = [f"{report.model}: median of {report.n_runs} (least-most); ratio above 1: palo_cpp is faster or smaller"]
    lines += [f"{report.machine}; {report.n_threads} threads; palo_cpp uses {report.isa or 'no kernels of its own'}"]
    if report.left_out:
        lines += [f"llama.cpp cannot run this model: {report.left_out}"]
    if found["fidelity"]:
        values = "; ".join(f"{name} {value:.6g}" for name, value in found["fidelity"].items())
        lines += [f"fidelity: {values}"]
    if found["read_gb_per_s"]:
        speed, times = found["read_gb_per_s"], found["read_tokens_per_s"]
        lines += [f"a plain read of the weights: {speed:g} GB/s, {times:g} times a second"]
    lines += _shares(report)
    if written := found["written"]:
        words = ", ".join(f"{code} {each['words_per_s']:.3g}" for code, each in written.items())
        lines += [f"words per second: {words}"]
        saved = ", ".join(f"{code} {each['guessed_right']:.0%}" for code, each in written.items())
        lines += [f"steps that a right guess saved: {saved}"]
        if any(each["drafted"] for each in written.values()):
            asked = ", ".join(f"{code} {each['drafted']:.0%}" for code, each in written.items())
            lines += [f"tokens that the draft model was asked for: {asked}"]
    if not report.is_alternating:
        lines += ["memory was too short for both at once: they ran one after the other, not in turn"]
    if found["noise"]["is_noisy"]:
        percent = found["noise"]["other_cpu_percent"]
        lines += [f"other programs took {percent:g} % of the processors: do not quote these figures"]
    return lines


def _shares(report: BenchReport) -> list[str]:
    shares, peak = report.shares(), (report.int8_peak or 0) / 1e9
    of_peak = [f"an image {shares['encode']:.2f}"] if "encode" in shares else []
    of_peak += [f"{n} tokens {share:.2f}" for n, share in shares.get("prefill", {}).items()]
    lines = [f"share of the peak of int8 products ({peak:.4g} GOP/s): {', '.join(of_peak)}"] if of_peak else []
    if of_read := [f"after {n} tokens {share:.2f}" for n, share in shares.get("decode", {}).items()]:
        lines += [f"decode, share of a plain read: {', '.join(of_read)}"]
    if steps := [f"after {n} tokens {times:.2f}" for n, times in shares.get("beams", {}).items()]:
        lines += [f"a step of {report.n_paths} paths, in steps of one: {', '.join(steps)}"]
    return lines


def as_text(report: BenchReport) -> str:
    """The table in plain characters."""
    lines = [HEADINGS, *rows(report)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    shown = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*shown, "", *notes(report)])


def print_rich(report: BenchReport) -> None:
    """The table on a terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADINGS)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows(report):
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    for line in notes(report):
        console.print(line, style="dim", markup=False)
