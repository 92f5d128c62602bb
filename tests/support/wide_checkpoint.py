"""Large synthetic checkpoints, written in pieces, and the memory that converting them takes.

    python tests/support/wide_checkpoint.py FOLDER [--weights pickle] [--dtype bf16] [--outtype q4_k_m] [--layers 2]

makes a checkpoint of PALO-13B's widths and prints the peak resident memory of converting it. Two layers need 4 GB of
disk in FOLDER for f16, and twice that for f32.

Why depth does not matter: the converter holds the tables of contents (about 1 KB for each of the 363 tensors of 40
layers) and one tensor at a time, which is freed before the next is read (test_convert_memory.py has the numbers);
llama.cpp's quantizer holds 256 MiB of rows and unmaps each tensor of its input after it. The largest tensors, embedding
and output matrix [32000, 5120], are there once however many layers there are; a layer has [13824, 5120].

Measured, two layers: f16 safetensors to f16 414 MiB, bf16 pickle to f16 996 MiB, f32 safetensors to f16 1309 MiB; f16
pickle to q4_k_m 414 MiB and 545 MiB in the quantizing process.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import tensor_files
from random_model import SMALL, Size, plan_llama, plan_projector

PALO_13B = replace(SMALL, n_vocab=32000, n_embd=5120, n_ff=13824, n_layer=2, n_head=40, n_head_kv=40)
_PIECE = 1 << 20
_STORAGES = {
    "f32": ("F32", "FloatStorage", 4),
    "f16": ("F16", "HalfStorage", 2),
    "bf16": ("BF16", "BFloat16Storage", 2),
}
# Its own peak is VmHWM: Linux counts what a process was before exec, here the whole test run, into its ru_maxrss.
_CONVERT = """
import json, re, resource, sys
from pathlib import Path
from palo_cpp.convert import convert
convert(sys.argv[1], sys.argv[2], outtype=sys.argv[3], name="wide")
own = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([own * 1024, child * 1024]))
"""


def write_wide_checkpoint(folder: Path, size: Size, *, weights: str, dtype: str) -> Path:
    """Write a checkpoint of any width without holding it in memory; every tensor repeats the same random values."""
    checkpoints.write_checkpoint(folder, projector="mlp2x_gelu", clip_inside=False, buffers=False)
    plan = [*plan_llama(size), *plan_projector(size, "mlp2x_gelu")]
    shapes = {name: tensor.shape for name, tensor in plan}
    (folder / "model.safetensors").unlink()
    if weights == "pickle":
        _write_pickle(folder / "pytorch_model.bin", shapes, dtype)
    else:
        _write_safetensors(folder / "model.safetensors", shapes, dtype)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": size.n_embd, "intermediate_size": size.n_ff, "num_hidden_layers": size.n_layer}
    config |= {"num_attention_heads": size.n_head, "num_key_value_heads": size.n_head_kv, "vocab_size": size.n_vocab}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _pieces(n_values: int, dtype: str) -> Iterator[bytes]:
    values = np.random.default_rng(0).normal(0, 0.02, _PIECE).astype(np.float32)
    data = tensor_files.encode_tensor(values, dtype)[1]
    n_bytes = n_values * _STORAGES[dtype][2]
    for at in range(0, n_bytes, len(data)):
        yield data[: n_bytes - at]


def _write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    header, end = dict[str, Any](), 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * _STORAGES[dtype][2]
        header[name] = {"dtype": _STORAGES[dtype][0], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            file.writelines(_pieces(math.prod(shape), dtype))


def _write_pickle(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    program = [pickle.PROTO, b"\x02", pickle.EMPTY_DICT, pickle.MARK]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for key, (name, shape) in enumerate(shapes.items()):
            program += [tensor_files._text(name), tensor_files._rebuild_tensor(str(key), _STORAGES[dtype][1], shape)]
            with archive.open(zipfile.ZipInfo(f"archive/data/{key}"), "w", force_zip64=True) as entry:
                for piece in _pieces(math.prod(shape), dtype):
                    entry.write(piece)
        archive.writestr("archive/data.pkl", b"".join([*program, pickle.SETITEMS, pickle.STOP]))


def peak_memory_bytes(source: Path, output: Path, outtype: str) -> tuple[int, int]:
    """Peak resident memory of the converting process, and of its quantizing child (0 where there is none)."""
    command = [sys.executable, "-c", _CONVERT, str(source), str(output), outtype]
    result = subprocess.run(command, capture_output=True, check=True, text=True)
    own, child = json.loads(result.stdout)
    return int(own), int(child)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", choices=("safetensors", "pickle"), default="safetensors")
    parser.add_argument("--dtype", choices=tuple(_STORAGES), default="f16")
    parser.add_argument("--outtype", default="f16")
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    size = replace(PALO_13B, n_layer=options.layers)
    source = write_wide_checkpoint(options.folder / "source", size, weights=options.weights, dtype=options.dtype)
    own, child = peak_memory_bytes(source, options.folder / "out", options.outtype)
    print(f"peak resident memory: converter {own / 2**20:.0f} MiB, quantizer {child / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
