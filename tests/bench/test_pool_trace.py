"""PALO_CPP_TRACE: what ran when, and benchmarks/pool_trace.py's table of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/pool_trace.py"


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_table_of_a_small_model(n_threads):
    table = subprocess.run(
        [sys.executable, SCRIPT, "nano", "--threads", str(n_threads)], stdout=subprocess.PIPE, check=True, text=True
    ).stdout.splitlines()
    rows = {name.strip(): values for _, name, *values, _ in (line.split("|") for line in table[3:])}
    assert list(rows) == ["encode", "prefill, 144 tokens", "decode, 1 token"]
    for n_phases, n_tasks, _, idle, *shares in rows.values():
        assert 10 < int(n_phases) <= int(n_tasks)
        assert 0 <= float(idle) < 100
        assert all(0 < int(share) <= 100 for share in shares)
        assert int(shares[0]) > int(shares[1]) > int(shares[2])  # 4, 8 and 16 cores for as few tasks
