"""Downloads from a hub on this machine: kill -9 at random moments of one pull, and the speed beside curl.

    python benchmarks/hub.py kills [--size-mb 210] [--kills 100] [--rate-mb 0.6]
    python benchmarks/hub.py speed [--size-mb 537] [--runs 7]

The hub is that of the tests (tests/support/local_hub.py), in a process of its own for `speed`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from local_hub import local_hub

PULL = """
import time
from palo_cpp.hub.repository import fetch, open_repository
begun = time.perf_counter()
repository = open_repository("o/r")
print("open", flush=True)
fetch(repository, ["big.bin"])
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
print(time.perf_counter() - begun, int(peak) / 1024)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "speed", "serve"])
    parser.add_argument("--size-mb", type=int, default=210)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rate-mb", type=float, default=0.6, help="of one connection, so that kills come in between")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "serve":
        serve(options.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        big = Path(folder) / "big.bin"
        big.write_bytes(random.Random(1).randbytes(options.size_mb * 1_000_000))
        if options.what == "kills":
            kills(big, options.kills, options.rate_mb * 1e6)
        else:
            speed(big, options.runs)


def serve(file: Path) -> None:
    """A hub with one file, until the parent closes our input."""
    with local_hub() as hub:
        hub.add("o/r", {"big.bin": file})
        print(hub.endpoint, flush=True)
        sys.stdin.read()


def pull(endpoint: str, home: Path) -> subprocess.Popen[str]:
    """A process that pulls the file."""
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-c", PULL], env=env, stdout=subprocess.PIPE, text=True)


def kills(big: Path, n_kills: int, bytes_per_s: float) -> None:
    """Kill the pull at random moments, then let it end."""
    size, moments, home = big.stat().st_size, random.Random(2), big.parent / "home"
    with local_hub() as hub:
        hub.add("o/r", {"big.bin": big})
        hub.bytes_per_s = bytes_per_s
        n_left = n_kills
        while n_left:
            process = pull(hub.endpoint, home)
            assert process.stdout  # it is a pipe
            process.stdout.readline()
            time.sleep(moments.uniform(0, 2 * size / (4 * bytes_per_s) / n_kills))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                n_left -= 1
            process.wait()
        pull(hub.endpoint, home).communicate()
        whole = next(home.rglob("snapshots/*/big.bin")).read_bytes() == big.read_bytes()
        print(f"{n_kills} kills: whole {whole}, served {hub.n_bytes_served() / size:.3f} times the size")


def speed(big: Path, n_runs: int) -> None:
    """Curl and we in turn; ours lists the repository, hashes and syncs, too."""
    code = [sys.executable, __file__, "serve", "--file", str(big)]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout  # both are pipes
        endpoint, home, out = server.stdout.readline().strip(), big.parent / "home", big.parent / "out.bin"
        curl, ours, peaks = [], [], []
        for _ in range(n_runs):
            begun = time.perf_counter()
            subprocess.run(["curl", "-sL", "-o", str(out), f"{endpoint}/o/r/resolve/main/big.bin"], check=True)
            curl.append(time.perf_counter() - begun)
            elapsed, peak = pull(endpoint, home).communicate()[0].split()[1:]
            ours.append(float(elapsed))
            peaks.append(float(peak))
            shutil.rmtree(home)
        server.stdin.close()
    rate = big.stat().st_size / 1e6
    print(
        f"curl {rate / statistics.median(curl):.0f} MB/s, palo_cpp {rate / statistics.median(ours):.0f} MB/s, ", end=""
    )
    print(f"{statistics.median(curl) / statistics.median(ours):.2f} of curl, peak memory {max(peaks):.0f} MiB")


if __name__ == "__main__":
    main()
