"""One run: which stages, both sides in turn, medians of several runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from palo_cpp.bench.fidelity import compare, compare_logits
from palo_cpp.bench.figures import BenchReport, SideTimes
from palo_cpp.bench.llama_side import unsupported
from palo_cpp.bench.noise import Noise, describe_machine, watched_noise
from palo_cpp.bench.operations import prefill_operations
from palo_cpp.bench.plan import BenchPlan
from palo_cpp.bench.worker_process import WorkerProcess
from palo_cpp.errors import ArgumentError
from palo_cpp.families.family import LoadOptions
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.machine import memory_available
from palo_cpp.models.files import model_files
from palo_cpp.models.loading import Choices, needed_memory
from palo_cpp.models.memory import check_memory_fits

Report = Callable[[str], None]


def run_bench(plan: BenchPlan, report: Report = lambda _: None) -> BenchReport:
    """Measure.

    Args:
        plan: what to measure.
        report: called with what is going on.

    Returns:
        Medians, spread, ratios and fidelity.

    Raises:
        ArgumentError: llama.cpp is asked for, and cannot run the model.
        ModelFormatError: one of the sides does not load a file.
        OutOfMemoryError: the model does not fit into memory even once.
        PaloError: a side's process died.
    """
    left_out = _left_out(plan)
    names = ["palo_cpp"] if left_out or plan.with_llama_cpp is False else ["palo_cpp", "llama_cpp"]
    fits_together = _check_memory(plan, len(names))
    with tempfile.TemporaryDirectory(prefix="palo-bench-") as folder, watched_noise() as noise:
        image = _write_image(plan, Path(folder))
        run = _Run(plan, image, noise, report)
        for side_names in [names] if fits_together else [[name] for name in names]:
            run.measure(side_names)
        fidelity = run.fidelity() if "fidelity" in plan.stages else None
    return BenchReport(
        machine=describe_machine(),
        isa=run.isas["palo_cpp"],
        n_threads=run.setup.n_threads,
        model=plan.model,
        files={"text": str(plan.text), "mmproj": str(plan.mmproj)},
        n_runs=plan.n_runs,
        is_alternating=fits_together,
        sides=run.times,
        fidelity=fidelity,
        noise=noise.to_dict(),
        llama_cpp_isa=run.isas.get("llama_cpp"),
        backend=plan.backend,
        int8_peak=run.int8_peak * run.setup.n_threads if plan.precision != "float" else None,
        operations=_operations(plan),
        n_paths=plan.n_paths,
        read_speed=run.read_speed,
        bytes_per_token=run.bytes_per_token,
        written=run.written,
        left_out=left_out,
    )


def _left_out(plan: BenchPlan) -> str:
    """Why llama.cpp is not measured although nobody said that it should not be; nothing where it is."""
    reason = "" if plan.with_llama_cpp is False else unsupported(read_header(plan.mmproj))
    if reason and plan.with_llama_cpp:
        raise ArgumentError(f"llama.cpp: could not run this model: {reason}; measure without it: --vs none")
    return reason


def _operations(plan: BenchPlan) -> dict[str, int]:
    """Operations of an image (key "") and of each prompt, by its length."""
    found = {"": 2 * plan.n_image_products} if plan.n_image_products else {}
    sizes = plan.family.sizes(read_header(plan.text))
    is_causal = plan.family.capabilities.reuses_prefix
    prompts = {str(n): prefill_operations(sizes, n, is_causal=is_causal) for n in plan.prompt_tokens}
    return found | prompts


def _check_memory(plan: BenchPlan, n_sides: int) -> bool:
    """Whether all sides fit into memory at once.

    Raises:
        OutOfMemoryError: not even one does.
    """
    if not plan.needs_text:
        return True
    files = model_files(read_header(plan.text), read_header(plan.mmproj))
    estimate = needed_memory(files, Choices(options=LoadOptions(n_ctx=plan.n_ctx)))
    available = memory_available()
    check_memory_fits(estimate, available, n_ctx=plan.n_ctx)
    return available is None or n_sides * estimate.total <= available


def _write_image(plan: BenchPlan, folder: Path) -> Path:
    """An image of the tower's size, so that neither side resizes: noise in blocks of 4 x 4 pixels."""
    size = _image_size(read_header(plan.mmproj))
    blocks = np.random.default_rng(0).integers(0, 256, (-(-size // 4), -(-size // 4), 3), dtype=np.uint8)
    path = folder / "image.npy"
    np.save(path, blocks.repeat(4, axis=0).repeat(4, axis=1)[:size, :size])
    return path


def _image_size(header: GgufHeader) -> int:
    prefix = "clip.vision" if header.metadata.get("general.architecture") == "clip" else "beit3"
    size = header.metadata.get(f"{prefix}.image_size")
    if not isinstance(size, int) or not 1 <= size <= 1 << 14:
        raise ArgumentError(f"{header.path.name}: expected an mmproj file with its image size, got {size!r}")
    return size


class _Run:
    """One run in progress."""

    def __init__(self, plan: BenchPlan, image: Path, noise: Noise, report: Report) -> None:
        self._plan, self._image, self._noise, self._report = plan, image, noise, report
        self.setup = plan.setup()
        self.times: dict[str, SideTimes] = {}
        self.isas: dict[str, str] = {}
        self.read_speed: float | None = None
        self.int8_peak = 0.0
        self.bytes_per_token = weight_bytes_per_token(read_header(plan.text))
        self.written: dict[str, dict[str, float]] = {}

    def measure(self, names: list[str]) -> None:
        """Measure sides in turn, A B A B, stage after stage."""
        for path in {self._plan.text, self._plan.mmproj} if "load" in self._plan.stages else ():
            _read_through(path)
        with ExitStack() as stack:
            sides = self._loaded(names, stack)
            for stage, what, arguments in self._steps():
                self._repeat(sides, stage, what, arguments)
            for name, side in sides.items():
                if "fidelity" in self._plan.stages:
                    self._save_outputs(side)
                self.times[name].peak_rss = side.ask("peak_rss")
            if "decode" in self._plan.stages and "palo_cpp" in sides:  # after the peak, for it takes memory of its own
                self.read_speed = self._measure_read(sides["palo_cpp"])
                if self._plan.speaks:
                    self._report("writing in ten languages")
                    self.written = sides["palo_cpp"].ask("written")
            if "projector" in self._plan.stages:  # last: llama.cpp's side loads the weights once more to watch them
                self._repeat(sides, "projector", "project", {})

    def _loaded(self, names: list[str], stack: ExitStack) -> dict[str, WorkerProcess]:
        """Load each side, several times where loading is measured, each time in a new process; keep the last."""
        n_loads = self._plan.n_runs if "load" in self._plan.stages else 1
        for run in range(1, n_loads):
            for name in names:
                self._report(f"loading {name} ({run} of {n_loads})")
                with WorkerProcess(name, self.setup) as side:
                    self._load(side)
        sides = {name: stack.enter_context(WorkerProcess(name, self.setup)) for name in names}
        for name, side in sides.items():
            self._report(f"loading {name}")
            self._load(side)
            side.ask("set_image", path=str(self._image))
            self.isas[name] = side.isa
        return sides

    def _load(self, side: WorkerProcess) -> None:
        elapsed_s = side.ask("load")
        times = self.times.setdefault(side.side, SideTimes(n_generated=self._plan.n_gen))
        if "load" in self._plan.stages:
            times.load.append(elapsed_s)

    def _steps(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(where the times go, what to ask, with which arguments) for each stage wanted but the projector."""
        plan = self._plan
        steps: list[tuple[str, str, dict[str, Any]]] = [("encode", "encode", {})]
        steps += [("prefill", "prefill", {"n_tokens": n}) for n in plan.prompt_tokens]
        for n in plan.contexts:
            for stage, n_paths in (("decode", 1), ("beams", plan.n_paths)):
                if stage == "decode" or n_paths > 1:
                    steps.append((stage, "generate", {"n_tokens": plan.n_gen, "n_prompt": n, "n_paths": n_paths}))
        steps += [("first-token", "first_token", {})]
        return [step for step in steps if step[0] in plan.stages]

    def _repeat(self, sides: dict[str, WorkerProcess], stage: str, what: str, arguments: dict[str, Any]) -> None:
        self._report(f"measuring {stage}")
        for run in range(-1, self._plan.n_runs):  # the first is a warm-up
            for name, side in sides.items():
                elapsed_s = side.ask(what, **arguments)
                if run >= 0:
                    _values(self.times[name], stage, arguments).append(elapsed_s)
            self._noise.sample_clock()
            if stage in ("encode", "prefill") and "palo_cpp" in sides:
                self.int8_peak = max(self.int8_peak, sides["palo_cpp"].ask("int8_peak"))

    def _save_outputs(self, side: WorkerProcess) -> None:
        side.ask("save_embeddings", path=str(self._image.with_name(f"{side.side}.npy")))
        if side.side == "palo_cpp" and self._plan.needs_text:
            side.ask("save_logits", path=str(self._image.with_name("logits.npy")))

    def _measure_read(self, side: WorkerProcess) -> float | None:
        self._report("measuring a plain read")
        speeds = [
            side.ask("read_speed", n_bytes=self.bytes_per_token, n_threads=self.setup.n_threads)
            for _ in range(self._plan.n_runs)
        ]
        found = [speed for speed in speeds if speed]
        return median(found) if found else None

    def fidelity(self) -> dict[str, float]:
        """Compare what was measured with our float32 path on the image and with llama.cpp's kernels on the text."""
        self._report("measuring fidelity")
        embeddings = {name: np.load(self._image.with_name(f"{name}.npy")) for name in self.times}
        ours = embeddings["palo_cpp"]
        found = compare(ours, self._reference(), embeddings.get("llama_cpp"))
        return found | self._logits_fidelity() if self._plan.needs_text else found

    def _logits_fidelity(self) -> dict[str, float]:
        path = self._image.with_name("reference_logits.npy")
        with WorkerProcess("palo_cpp", replace(self.setup, backend="cpu")) as side:
            side.ask("load")
            side.ask("save_logits", path=str(path))
        return compare_logits(np.load(path.with_name("logits.npy")), np.load(path))

    def _reference(self) -> Any:
        """Embeddings [n_tokens, n_embd] of our float32 path, computed in a process of its own."""
        environment, precision = _float32_path(self.setup.precision, self.isas["palo_cpp"])
        path = self._image.with_name("reference.npy")
        setup = replace(self.setup, n_ctx=0, precision=precision)
        with WorkerProcess("palo_cpp", setup, environment) as side:
            side.ask("load")
            side.ask("set_image", path=str(self._image))
            side.ask("save_embeddings", path=str(path))
        return np.load(path)


def weight_bytes_per_token(header: GgufHeader) -> int:
    """Bytes of weights that decoding one token reads: all but the rows of the embedding matrix that it does not use."""
    tensors = header.tensors
    total = sum(tensor.n_bytes for tensor in tensors.values())
    is_tied = "output.weight" not in tensors
    return total if is_tied or "token_embd.weight" not in tensors else total - tensors["token_embd.weight"].n_bytes


def _values(times: SideTimes, stage: str, arguments: dict[str, Any]) -> list[float]:
    if stage == "prefill":
        return times.prefill.setdefault(arguments["n_tokens"], [])
    if stage in ("decode", "beams"):
        lengths = times.generate if stage == "decode" else times.beams
        return lengths.setdefault(arguments["n_prompt"], [])
    named = {"encode": times.encode, "projector": times.projector}
    return named.get(stage, times.first_token)


def _float32_path(precision: str | None, isa: str) -> tuple[dict[str, str], str | None]:
    """Environment and precision of the float32 path that is fast enough to wait for.

    Only `avx2` and `ref` compute in float32 for certain (others may use bf16); the plain reference takes minutes, so it
    serves where there is no AVX2, or where AVX2's own float path is what is being measured.
    """
    from palo_cpp import _core

    float_precision = "float"
    is_own = isa == "avx2" and precision == float_precision
    chosen = "avx2" if "avx2" in _core.available_isas() and not is_own else "ref"
    return {"PALO_CPP_ISA": chosen}, float_precision


def _read_through(path: Path) -> None:
    """Bring a file into the page cache, so that no side pays for the disk."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
