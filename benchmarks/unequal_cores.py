"""Cores that are unequal: how much longer an image, a prompt and tokens take while another program uses one core.

    python benchmarks/unequal_cores.py mobile --synthetic [--threads 2] [--runs 7] [--core 1]

The other program computes without end on one core, held there; the system gives each of the two a share of that core.
What it took is read from its processor time. Where it took f cores out of n, the cores that are left allow n / (n - f)
times the time of a machine of one's own: the last column is how much longer than that it took. Runs alone and beside
the other program alternate. Linux.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from models import loaded_side, model_parser

from palo_cpp.bench.noise import describe_machine
from palo_cpp.bench.timed_text import seconds

_BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


class OtherProgram:
    """A process that computes on one core.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu_s(self) -> float:
        """Its processor time so far, seconds."""
        text = Path(f"/proc/{self._pid}/schedstat").read_text(encoding="ascii")
        return int(text.split()[0]) / 1e9


@contextmanager
def other_program(core: int) -> Iterator[OtherProgram]:
    """One that is computing."""
    process = subprocess.Popen([sys.executable, "-c", _BUSY, str(core)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield OtherProgram(process.pid)
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Measure and print a table."""
    parser = model_parser(__doc__, n_threads=0)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--core", type=int, default=1, help="the other program's")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    side = loaded_side(options.model, options.threads, is_synthetic=options.synthetic)
    text = side.text
    works: dict[str, Callable[[], float]] = {
        "encode": lambda: seconds(side.encode),
        "prefill, 144 tokens": lambda: text.prefill_s(144),
        "decode, 24 tokens": lambda: text.generate_s(24, 64, 1),
    }
    n_cores = len(os.sched_getaffinity(0))
    print("|  | alone, ms | beside the other, ms | cores it took | times what the rest allows |\n|---|---|---|---|---|")
    for name, work in works.items():
        alone, beside, taken = alternating(work, options.runs, options.core)
        allowed = [n_cores / (n_cores - share) * median(alone) for share in taken]
        longer = median(time_s / bound for time_s, bound in zip(beside, allowed, strict=True))
        figures = f"{1e3 * median(alone):.0f} | {1e3 * median(beside):.0f} | {median(taken):.2f} | {longer:.2f}"
        print(f"| {name} | {figures} |", flush=True)


def alternating(work: Callable[[], float], n_runs: int, core: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds alone, seconds beside the other program, and the cores that this one took."""
    alone, beside, taken = [], [], []
    work()
    for _ in range(n_runs):
        alone.append(work())
        with other_program(core) as other:
            begun, cpu = time.perf_counter(), other.cpu_s()
            beside.append(work())
            taken.append((other.cpu_s() - cpu) / (time.perf_counter() - begun))
    return alone, beside, taken


if __name__ == "__main__":
    main()
