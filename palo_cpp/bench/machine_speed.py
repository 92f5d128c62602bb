"""A short measurement of this machine: what `models.recommendation` predicts from.

Random layers as wide as MobilePALO's run through the very encoder and language model that answers come from, for a
fraction of a second each. They are written into a temporary folder and removed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from palo_cpp.bench.noise import watched_noise
from palo_cpp.bench.palo_sizes import PALO_MODELS, PaloSizes
from palo_cpp.bench.synthetic import Report, synthetic_mmproj, synthetic_text
from palo_cpp.families.palo.published import clip_cost
from palo_cpp.ggml.backend import read_speed
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.machine import memory_available, n_physical_cores
from palo_cpp.models.recommendation import OUTTYPES, MachineSpeed
from palo_cpp.models.weight_types import decoder_bytes, n_products_per_token
from palo_cpp.vision.encoder import VisionEncoder

Clock = Callable[[], float]

# Two layers: as many with finer types as without, as in a whole model of Q4_K_M.
_N_LAYER, _N_VOCAB, _N_FF = 2, 512, 2816  # half of MobilePALO's feed-forward part: fewer bytes to make up
_N_PROMPT, _N_CTX = 128, 256
_BUDGET_S = 0.15  # of one measurement, which is repeated as long as that is not used up
# A layer is some ten steps with threads that wait for each other after each: up to 0.25 ms on two cores, more is not
# waiting.
_LAYER_S_MAX = 0.3e-3
_LAYER_S = 0.15e-3  # where it cannot be measured
_SCALING = 0.94  # n threads compute so many times n times as fast as one (SPEED.md, encode)
_READ_SCALING = 1.75  # two threads and more read so many times as fast as one: 1.75 to 1.95 on three machines
_READ_BYTES = 256 << 20  # beyond any cache


def measure_speed(
    outtypes: Sequence[str] = OUTTYPES, *, n_threads: int = 0, report: Report = lambda _: None
) -> MachineSpeed:
    """Measure this machine, in two seconds or so where nothing else runs.

    Args:
        outtypes: types of weights that will be asked about.
        n_threads: 0 takes the physical cores that this process may use, as `Palo` does.
        report: called with what is being measured.

    Raises:
        PaloError: no room for 120 MiB in the folder for temporary files, or in memory.
    """
    n_threads = n_threads or n_physical_cores()
    with watched_noise() as noise:
        found = _measured(outtypes, n_threads, time.perf_counter, _read_speed(n_threads), report)
    if not noise.is_noisy:
        return found
    report("other programs are busy: timing one thread alone")
    return _faster(found, _measured(outtypes, 1, time.thread_time, _read_speed_alone(), report))


def _measured(
    outtypes: Sequence[str], n_threads: int, clock: Clock, read: float | None, report: Report
) -> MachineSpeed:
    prefill, steps = {}, {}
    with tempfile.TemporaryDirectory(prefix="palo-speed-") as folder:
        report("timing the vision encoder")
        isa, encode = _encode_speed(Path(folder), n_threads, clock)
        for outtype in outtypes:
            report(f"timing the language model as {outtype}")
            prefill[outtype], steps[outtype] = _text_speeds(Path(folder), outtype, n_threads, clock)
    layer_s = min(step.layer_s(read) for step in steps.values())
    decode = {outtype: step.n_bytes / (step.elapsed_s - _N_LAYER * layer_s) for outtype, step in steps.items()}
    return MachineSpeed(isa, n_threads, read or max(decode.values()), encode, prefill, decode, layer_s)


def _faster(found: MachineSpeed, alone: MachineSpeed) -> MachineSpeed:
    """What a busy machine would do if it had nothing else to do.

    Threads that wait for one that has no core take up to ten times as long. One thread alone waits for nobody, and its
    processor time leaves out what others took.
    """
    scale = _SCALING * found.n_threads

    def each(ours: Mapping[str, float], one: Mapping[str, float]) -> dict[str, float]:
        return {outtype: max(speed, scale * one[outtype]) for outtype, speed in ours.items()}

    return replace(
        found,
        read=max(found.read, (_READ_SCALING if found.n_threads > 1 else 1) * alone.read),
        encode=max(found.encode, scale * alone.encode),
        prefill=each(found.prefill, alone.prefill),
        decode=each(found.decode, alone.decode),
        layer_s=_LAYER_S if found.n_threads > 1 else 0.0,
        is_noisy=True,
    )


@dataclass(frozen=True)
class _Step:
    """One token through the layers: bytes of weights that it is multiplied with, and how long that takes."""

    n_bytes: int
    elapsed_s: float

    def layer_s(self, read: float | None) -> float:
        """What a layer takes beyond reading its weights, as far as that can be waiting and not arithmetic."""
        if not read:
            return 0.0
        return min(max(self.elapsed_s - self.n_bytes / read, 0.0) / _N_LAYER, _LAYER_S_MAX)


def _sizes() -> PaloSizes:
    mobile = PALO_MODELS["mobile"]
    text = replace(mobile.text, n_layer=_N_LAYER, n_vocab=_N_VOCAB, n_ff=_N_FF)
    vision = replace(mobile.vision, select_layer=1)
    projector = replace(PALO_MODELS["7b"].projector, n_out=vision.n_embd)
    return PaloSizes("speed", text, vision, projector)


def _encode_speed(folder: Path, n_threads: int, clock: Clock) -> tuple[str, float]:
    """(instruction set, multiplications per second) of one layer of the tower, patch embeddings and a projector."""
    sizes = _sizes()
    path = synthetic_mmproj(sizes, "q8_0", folder=folder)
    pixels = np.zeros((3, sizes.vision.image_size, sizes.vision.image_size), np.float32)
    with VisionEncoder(path, n_threads=n_threads) as encoder:
        elapsed_s = _least_s(lambda: encoder.encode(pixels), clock)
        isa = encoder.isa
    path.unlink()
    return isa, clip_cost(1, "mlp", sizes.projector.n_out).n_products / elapsed_s


def _text_speeds(folder: Path, outtype: str, n_threads: int, clock: Clock) -> tuple[float, _Step]:
    """(multiplications per second of a prompt, a single token) in two layers."""
    path = synthetic_text(_sizes(), outtype, folder=folder)
    with LanguageModel(path, n_ctx=_N_CTX, n_threads=n_threads) as model:
        sizes = model.sizes
        prompt = list(range(300, 300 + _N_PROMPT))

        def prefill() -> None:
            model.remove(0)
            model.decode(prompt, position=0)

        def single() -> None:
            model.remove(0, _N_PROMPT)
            model.decode([300], position=_N_PROMPT)

        prefill_s, single_s = _least_s(prefill, clock), _least_s(single, clock)
    path.unlink()
    weights = decoder_bytes(sizes, outtype)
    n_bytes = sum(weights.values()) - weights["token_embd.weight"]
    return _N_PROMPT * n_products_per_token(sizes) / prefill_s, _Step(n_bytes, single_s)


def _least_s(work: Callable[[], object], clock: Clock) -> float:
    """The shortest of several runs after the first: what the machine does when nothing else interrupts it."""
    work()
    begin, least_s = clock(), float("inf")
    while True:
        start = clock()
        work()
        now = clock()
        least_s = min(least_s, now - start)
        if now - begin > _BUDGET_S:
            return least_s


def _read_speed_alone() -> float:
    """Bytes per second that this thread reads, by its own processor time."""
    values = np.ones((_READ_BYTES // 2) // 8, np.uint64)
    return values.nbytes / _least_s(lambda: np.max(values), time.thread_time)


def _read_speed(n_threads: int) -> float | None:
    """Bytes per second of a plain read, of less memory where not much is available."""
    available = memory_available()
    n_bytes = _READ_BYTES if available is None else min(_READ_BYTES, available // 4)
    found = [speed for _ in range(2) if (speed := read_speed(n_bytes, n_threads))]
    return max(found, default=None)
