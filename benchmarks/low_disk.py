"""What a pull of a sharded checkpoint takes of disk and memory, from a hub on this machine.

    python benchmarks/low_disk.py [--layers 12] [--shards 6] [--outtype q4_k_m] [--whole]

A random checkpoint of PALO-7B's widths with so many layers, f16, as a repository of shards beside its tower's; the disk
is looked at every 20 ms, in allocated blocks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hub_pulls import publish
from local_hub import local_hub
from palo_cpp.convert.safetensors_file import read_safetensors
from random_model import SMALL
from wide_checkpoint import write_wide_checkpoint

_GB = 1e9
WIDTHS_7B = replace(SMALL, n_vocab=32000, n_embd=4096, n_ff=11008, n_head=32, n_head_kv=32)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--outtype", default="q4_k_m")
    parser.add_argument("--whole", action="store_true", help="without --low-disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, local_hub() as hub:
        size = replace(WIDTHS_7B, n_layer=options.layers)
        source = write_wide_checkpoint(Path(folder) / "Wide", size, weights="safetensors", dtype="f16")
        shard(source, options.shards)
        publish(hub, source, name="org/wide", vision_tower="org/tower")
        measure(hub.endpoint, Path(folder) / "home", options.outtype, is_low=not options.whole)


def shard(folder: Path, n_shards: int) -> None:
    """Split the checkpoint's one file into shards of whole tensors, with their index."""
    whole = folder / "model.safetensors"
    tensors = sorted(read_safetensors(whole).values(), key=lambda tensor: tensor.offset)
    n_bytes = whole.stat().st_size
    groups: list[list] = [[] for _ in range(n_shards)]
    for tensor in tensors:
        groups[min(n_shards - 1, tensor.offset * n_shards // n_bytes)].append(tensor)
    weight_map = {}
    for i, group in enumerate(groups, 1):
        name, header, at = f"model-{i:05}-of-{n_shards:05}.safetensors", {}, 0
        for tensor in group:
            n = 2 * int(math.prod(tensor.shape))
            header[tensor.name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [at, at + n]}
            weight_map[tensor.name], at = name, at + n
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as target, whole.open("rb") as source:
            target.write(len(text).to_bytes(8, "little") + text)
            source.seek(group[0].offset)
            shutil.copyfileobj(_Limited(source, at), target, 1 << 20)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    whole.unlink()


class _Limited:
    """The next bytes of a file, so many at most."""

    def __init__(self, file, n_bytes: int) -> None:
        self._file, self._left = file, n_bytes

    def read(self, n_bytes: int) -> bytes:
        """Some of them."""
        data = self._file.read(min(n_bytes, self._left))
        self._left -= len(data)
        return data


def measure(endpoint: str, home: Path, outtype: str, *, is_low: bool) -> None:
    """Pull in a child, and look at its disk and memory."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    command = [sys.executable, "-m", "palo_cpp", "pull", "org/wide", "--outtype", outtype, "--json"]
    command += ["--low-disk"] if is_low else []
    plan = json.loads(subprocess.check_output([*command, "--plan"], env=environment))
    begun_at, peak, memory = time.monotonic(), 0, 0
    with subprocess.Popen([*command, "--yes"], env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak, memory = max(peak, disk(home)), max(memory, resident(process.pid))
            time.sleep(0.02)
    shards = [file["n_bytes"] for part in plan["parts"] for file in part["files"]]
    print(
        f"checkpoint {sum(shards) / _GB:.2f} GB, largest file {max(shards) / _GB:.2f} GB, result "
        f"{plan['n_bytes_result'] / _GB:.2f} GB"
    )
    print(f"disk: {plan['n_bytes_disk_peak'] / _GB:.3f} GB said, {peak / _GB:.3f} GB seen at most")
    print(f"memory: {memory / 2**20:.0f} MiB; {time.monotonic() - begun_at:.0f} s; exit code {process.returncode}")


def disk(folder: Path) -> int:
    """Allocated bytes of all files."""
    n_bytes = 0
    for parent, _, names in os.walk(folder):
        for path in (Path(parent) / name for name in names):
            with suppress(OSError):  # it went meanwhile
                found = path.lstat()
                n_bytes += 512 * found.st_blocks if stat.S_ISREG(found.st_mode) else 0
    return n_bytes


def resident(pid: int) -> int:
    """Bytes of memory that the process has at most had."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
