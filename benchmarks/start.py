"""What a short command waits for: import, `--help`, loading PALO-Nano, one answer; several installations in turn.

    python benchmarks/start.py PYTHON [PYTHON ...] [--rounds 9]

Each PYTHON is the interpreter of an environment that palo_cpp is installed in. Every measurement is a process of its
own, started in a folder without palo_cpp; the table has medians and least values in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

IMAGE = Path(__file__).resolve().parents[1] / "examples" / "scene.png"
_NANO = f"""
import time
from palo_cpp import Palo
begin = time.perf_counter()
palo = Palo("nano", n_threads=2)
loaded = time.perf_counter()
palo.ask({str(IMAGE)!r}, "What is this?", lang="hi")
print(loaded - begin, time.perf_counter() - loaded)
"""
MEASURED = ("import", "--help", "load Nano", "one answer")


def seconds(python: str) -> tuple[float, ...]:
    """Of each of MEASURED, once."""
    begin = time.perf_counter()
    run(python, "-c", "from palo_cpp import Palo")
    imported = time.perf_counter()
    run(python, "-m", "palo_cpp", "--help")
    helped = time.perf_counter()
    load, answer = map(float, run(python, "-c", _NANO).split())
    return imported - begin, helped - imported, load, answer


def run(*command: str) -> str:
    """What a command prints; started where no clone is in the way."""
    done = subprocess.run(command, cwd=tempfile.gettempdir(), check=True, capture_output=True, text=True)
    return done.stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="+")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    rounds = [[seconds(python) for python in arguments.python] for _ in range(arguments.rounds)]
    for i, python in enumerate(arguments.python):
        print(python)
        for what, values in zip(MEASURED, zip(*(each[i] for each in rounds), strict=True), strict=True):
            print(f"  {what:10} {1e3 * statistics.median(values):6.1f} ms, least {1e3 * min(values):6.1f}")


if __name__ == "__main__":
    main()
