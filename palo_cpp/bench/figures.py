"""The figures of a run: medians, spread, ratios, and how they are printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

_MIB = 1024**2
Figure = float | dict[str, float] | None

# name -> whether less is better. The order is that of the table and of the JSON.
METRICS: dict[str, bool] = {
    "encode_ms": True,
    "projector_ms": True,
    "load_ms": True,
    "prefill_tokens_per_s": False,
    "decode_tokens_per_s": False,
    "decode_tokens_per_s_by_context": False,
    "beam_step_ms_by_context": True,
    "first_token_ms": True,
    "peak_rss_mib": True,
}


@dataclass
class SideTimes:
    """Every time measured on one side, in seconds.

    Attributes:
        encode, projector, load, first_token: one for each run.
        prefill: tokens of the prompt -> times.
        generate: tokens in the context before -> times to decode `n_generated` tokens.
        beams: the same on all paths of a search.
        peak_rss: bytes.
    """

    encode: list[float] = field(default_factory=list)
    projector: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)
    prefill: dict[int, list[float]] = field(default_factory=dict)
    generate: dict[int, list[float]] = field(default_factory=dict)
    beams: dict[int, list[float]] = field(default_factory=dict)
    n_generated: int = 0
    peak_rss: int | None = None

    def figures(self) -> dict[str, Figure]:
        """Median of each metric; None for what was not measured."""
        return {name: _reduced(values, median) for name, values in self._values().items()}

    def spread(self) -> dict[str, Any]:
        """[least, most] of each metric."""
        return {name: _reduced(values, lambda v: [min(v), max(v)]) for name, values in self._values().items()}

    def _values(self) -> dict[str, Any]:
        """Metric -> values, in the unit of the metric."""
        decode = {str(n): [self.n_generated / t for t in times] for n, times in self.generate.items()}
        steps = {str(n): _ms([t / self.n_generated for t in times]) for n, times in self.beams.items()}
        return {
            "encode_ms": _ms(self.encode),
            "projector_ms": _ms(self.projector),
            "load_ms": _ms(self.load),
            "prefill_tokens_per_s": {str(n): [n / t for t in times] for n, times in self.prefill.items()} or [],
            "decode_tokens_per_s": next(iter(decode.values()), []),
            "decode_tokens_per_s_by_context": decode or [],
            "beam_step_ms_by_context": steps or [],
            "first_token_ms": _ms(self.first_token),
            "peak_rss_mib": [] if self.peak_rss is None else [self.peak_rss / _MIB],
        }


def _ms(times: list[float]) -> list[float]:
    return [1000 * t for t in times]


def _reduced(values: Any, reduce: Any) -> Any:
    if isinstance(values, dict):
        return {key: _reduced(inner, reduce) for key, inner in values.items()}
    return reduce(values) if values else None


def ratios(ours: Mapping[str, Figure], theirs: Mapping[str, Figure]) -> dict[str, Figure]:
    """How much better we are: above 1 means faster or smaller."""
    return {name: _ratio(ours[name], theirs[name], less_is_better=less) for name, less in METRICS.items()}


def _ratio(ours: Figure, theirs: Figure, *, less_is_better: bool) -> Any:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {key: _ratio(ours[key], theirs[key], less_is_better=less_is_better) for key in ours if key in theirs}
    if not isinstance(ours, (int, float)) or not isinstance(theirs, (int, float)) or not ours or not theirs:
        return None
    return theirs / ours if less_is_better else ours / theirs


@dataclass(frozen=True)
class BenchReport:
    """All that a run found; `to_dict` is the JSON object.

    Attributes:
        left_out: why llama.cpp could not be measured.
        int8_peak: operations per second of int8 products in registers, on all threads; None where it is not known or
            nothing was computed with such products.
        operations: of an image (key "") and of prompts, by their lengths.
        n_paths: paths of an answer that the model searches.
    """

    machine: str
    isa: str
    n_threads: int
    model: str
    files: dict[str, str]
    n_runs: int
    is_alternating: bool
    sides: dict[str, SideTimes]
    fidelity: dict[str, float] | None
    noise: dict[str, Any]
    llama_cpp_isa: str | None
    backend: str = "auto"
    read_speed: float | None = None
    bytes_per_token: int = 0
    written: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: str = ""
    int8_peak: float | None = None
    operations: dict[str, int] = field(default_factory=dict)
    n_paths: int = 1

    @property
    def decode_limit(self) -> float | None:
        """Tokens per second if decoding were nothing but reading the weights, in bytes of `read_speed`."""
        return self.read_speed / self.bytes_per_token if self.read_speed and self.bytes_per_token else None

    def shares(self) -> dict[str, Any]:
        """What our side reaches of the machine's limits; what is not known is left out.

        Returns:
            `encode` and `prefill`, of the peak of int8 products; `decode`, of a plain read of the weights; `beams`, the
            time of a step on all paths in steps on one.
        """
        ours: dict[str, Any] = dict(self.sides["palo_cpp"].figures())
        shares: dict[str, Any] = {}
        peak, limit = self.int8_peak, self.decode_limit
        if peak and (elapsed_ms := ours["encode_ms"]) and "" in self.operations:
            shares["encode"] = self.operations[""] / peak / (elapsed_ms / 1000)
        if peak and (prefill := ours["prefill_tokens_per_s"]):
            shares["prefill"] = {n: self.operations[n] / int(n) * speed / peak for n, speed in prefill.items()}
        if limit and (decode := ours["decode_tokens_per_s_by_context"]):
            shares["decode"] = {n: speed / limit for n, speed in decode.items()}
        if (decode := ours["decode_tokens_per_s_by_context"]) and (steps := ours["beam_step_ms_by_context"]):
            shares["beams"] = {n: step_ms / 1000 * decode[n] for n, step_ms in steps.items() if n in decode}
        return shares

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what was not measured is null."""
        sides = {name: self.sides[name].figures() if name in self.sides else None for name in ("palo_cpp", "llama_cpp")}
        ours, theirs = sides["palo_cpp"], sides["llama_cpp"]
        return {
            "machine": self.machine,
            "isa": self.isa,
            "n_threads": self.n_threads,
            "model": self.model,
            "palo_cpp": _rounded(ours),
            "llama_cpp": _rounded(theirs),
            "ratio": _rounded(ratios(ours, theirs)) if ours and theirs else None,
            "fidelity": self.fidelity,
            "backend": self.backend,
            "read_gb_per_s": _rounded(self.read_speed / 1e9 if self.read_speed else None),
            "read_tokens_per_s": _rounded(self.decode_limit),
            "int8_peak_gop_per_s": _rounded(self.int8_peak / 1e9 if self.int8_peak else None),
            "shares": _rounded(self.shares()),
            "written": _rounded(self.written or None),
            "spread": _rounded({name: times.spread() for name, times in self.sides.items()}),
            "files": self.files,
            "n_runs": self.n_runs,
            "is_alternating": self.is_alternating,
            "noise": self.noise,
            "llama_cpp_isa": self.llama_cpp_isa,
            "llama_cpp_left_out": self.left_out or None,
        }


def _rounded(value: Any) -> Any:
    """Four significant digits: more would be noise."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
