"""Phases, tasks and idle time of an image, a prompt and tokens, and what they predict for processors of many cores.

    python benchmarks/pool_trace.py mobile --synthetic [--threads 1] [--wait-us 3]

Every task is recorded with its begin and end (`PALO_CPP_TRACE`). A prediction deals the tasks of each phase, in their
order, to whichever core is free first; what runs between the phases stays as it is, and each phase waits for its last
task and `--wait-us` more. It is compared with all cores' speeds together. What cores share is not in it: memory,
caches, the clock. So decoding is predicted as if its weights came for nothing. Trace one thread: its tasks do not slow
each other down.
"""

from __future__ import annotations

import csv
import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from models import loaded_side, model_parser

from palo_cpp.bench.noise import describe_machine

# Speeds of cores. Half and a quarter of a fast core: what efficient cores have in products of bytes.
PROCESSORS = {
    "4 alike": [1.0] * 4,
    "8": [1.0] * 8,
    "16": [1.0] * 16,
    "4 and 4 of half the speed": [1.0] * 4 + [0.5] * 4,
    "2 and 8 of half": [1.0] * 2 + [0.5] * 8,
    "4 and 4 of a quarter": [1.0] * 4 + [0.25] * 4,
}


@dataclass(frozen=True)
class Work:
    """What was traced between two moments.

    Attributes:
        phases: the tasks of each, seconds, in their order.
        between_s: when no phase was under way.
        elapsed_s: all of it.
        n_threads: how many computed.
    """

    phases: list[list[float]]
    between_s: float
    elapsed_s: float
    n_threads: int

    @property
    def busy_s(self) -> float:
        """Time of all tasks."""
        return sum(map(sum, self.phases))

    def row(self, wait_s: float) -> str:
        """Figures of the table, from phases on."""
        tasks = sorted(1e6 * task for phase in self.phases for task in phase)
        idle = 1 - self.busy_s / (self.n_threads * self.elapsed_s)
        figures = [f"{len(self.phases)}", f"{len(tasks)}", f"{median(tasks):.0f}, {tasks[-1]:.0f}", f"{100 * idle:.1f}"]
        for speeds in PROCESSORS.values():
            figures.append(f"{100 * self.predicted_share(speeds, wait_s):.0f}")
        return " | ".join(figures)

    def predicted_share(self, speeds: Sequence[float], wait_s: float) -> float:
        """The predicted speed, as a share of what these cores have together; their fastest has one."""
        predicted_s = self.between_s + sum(makespan_s(phase, speeds) + wait_s for phase in self.phases)
        return (self.between_s + self.busy_s) / sum(speeds) / predicted_s


def makespan_s(tasks: Sequence[float], speeds: Sequence[float]) -> float:
    """Seconds until all tasks are done, each dealt to the core that is free first."""
    free = [(0.0, -speed) for speed in speeds]
    heapq.heapify(free)
    for task in tasks:
        since, negative_speed = heapq.heappop(free)
        heapq.heappush(free, (since - task / negative_speed, negative_speed))
    # A core that was dealt nothing is free at 0.
    return max(since for since, _ in free)


def main() -> None:
    """Trace a process of its own and print a table."""
    parser = model_parser(__doc__, n_threads=1)
    parser.add_argument("--wait-us", type=float, default=3.0)
    options = parser.parse_args()
    if "PALO_CPP_TRACE" in os.environ:
        print(json.dumps(moments(options.model, options.threads, is_synthetic=options.synthetic)))
        return
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.csv"
        output = subprocess.run(
            [sys.executable, *sys.argv], env=os.environ | {"PALO_CPP_TRACE": str(trace)}, check=True,
            stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip
        records = read(trace)
    print("|  | phases | tasks | median, longest task, us | idle, % |", " |".join(PROCESSORS), "|")
    print("|---" * (5 + len(PROCESSORS)) + "|")
    for name, (begin_ns, end_ns) in json.loads(output.splitlines()[-1]).items():
        phases = [phase for phase in records if begin_ns <= phase[0][0] < end_ns]
        tasks = [[(end - begin) / 1e9 for begin, end in phase] for phase in phases]
        elapsed_ns = end_ns - begin_ns
        between_ns = elapsed_ns - sum(max(end for _, end in phase) - phase[0][0] for phase in phases)
        work = Work(tasks, between_ns / 1e9, elapsed_ns / 1e9, options.threads)
        print(f"| {name} | {work.row(options.wait_us / 1e6)} |")


def moments(model: str, n_threads: int, *, is_synthetic: bool) -> dict[str, tuple[int, int]]:
    """Compute, and say from when to when, in nanoseconds of the trace's clock."""
    side = loaded_side(model, n_threads, is_synthetic=is_synthetic)
    works: dict[str, Callable[[], object]] = {
        "encode": side.encode,
        "prefill, 144 tokens": lambda: side.text.prefill_s(144),
        "decode, 1 token": lambda: side.text.generate_s(1, 64, 1),
    }
    found = {}
    for name, work in works.items():
        work()
        begin_ns = time.monotonic_ns()
        seconds = work()
        end_ns = time.monotonic_ns()
        if name.startswith("decode"):  # without its prompt
            assert isinstance(seconds, float)
            begin_ns = end_ns - int(1e9 * seconds)
        found[name] = (begin_ns, end_ns)
    return found


def read(path: Path) -> list[list[tuple[int, int]]]:
    """When each task of each phase began and ended, nanoseconds, in their order."""
    phases: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    with path.open(newline="", encoding="ascii") as file:
        for library, phase, _, begin_ns, end_ns in csv.reader(file):
            phases[library, phase].append((int(begin_ns), int(end_ns)))
    return [sorted(phase) for phase in phases.values()]


if __name__ == "__main__":
    main()
