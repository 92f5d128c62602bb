"""kill -9 at random moments of one pull: it always ends whole, and little is fetched twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from hub_pulls import LARGE, NAME

from palo_cpp.hub.repository import open_repository

N_KILLS = 6
CODE = f"""
from palo_cpp.hub.repository import fetch, open_repository
opened = open_repository({NAME!r})
print("opened", flush=True)
print(fetch(opened, [{LARGE!r}])[0])
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""


def test_killed_at_random_moments(hub, repository, content):
    chance = random.Random(16)
    hub.bytes_per_s = 300_000
    for n in range(N_KILLS):
        process = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True)
        with process:
            process.stdout.readline()
            time.sleep(chance.uniform(0.05, 0.5))
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, f"ended before kill {n}; the test's pace is too fast"
    assert 0 < open_repository(NAME).n_bytes_missing([LARGE]) < len(content)
    hub.bytes_per_s = 0
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    _, path, peak_kib = done.stdout.split()
    assert Path(path).read_bytes() == content
    assert hub.n_bytes_served() <= 1.05 * len(content) + N_KILLS * 4 * 16_384, "more than a piece of each connection"
    assert int(peak_kib) < 150 * 1024
