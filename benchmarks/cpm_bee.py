"""CPM-Bee alone, with random weights of VisCPM's true widths: prefill, greedy and three-path steps, memory.

    python benchmarks/cpm_bee.py [--type Q4_0] [--layers 48] [--prompt 89] [--folder FOLDER]

Shares do not depend on the number of layers. On a busy machine, --alone takes the processor time of a single thread,
which leaves out what others took; a plain read is then one core's.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from palo_cpp.bench.random_blocks import random_tensor
from palo_cpp.ggml.backend import read_speed
from palo_cpp.llm.cpm_bee_model import CpmBeeModel
from palo_cpp.llm.cpm_bee_prompt import BeePrompt

N_EMBD, N_FF, N_HEAD, N_VOCAB = 4096, 10240, 32, 86583
LAYER_WEIGHTS = 4 * N_EMBD * N_EMBD + 3 * N_EMBD * N_FF
ANSWER = 8


def write(path: Path, type_name: str, n_layer: int) -> Path:
    """A file of `n_layer` layers, the embedding in Q6_K."""
    writer = gguf.GGUFWriter(path, "cpmbee")
    sizes = {
        "vocab_size": N_VOCAB,
        "context_length": 3513,
        "embedding_length": N_EMBD,
        "block_count": n_layer,
        "feed_forward_length": N_FF,
        "attention.head_count": N_HEAD,
        "position_bias.position_buckets": 256,
        "position_bias.segment_buckets": 256,
        "position_bias.max_distance": 2048,
    }
    numbers = {
        "attention.layer_norm_rms_epsilon": 1e-6,
        "embedding_scale": 1 / 64,
        "logit_scale": 1 / 64,
        "residual_divisor": 1.05,
        "rotary.scale": 16.0,
        "rotary.base": 10000.0,
    }
    for key, size in sizes.items():
        writer.add_uint32(f"cpmbee.{key}", size)
    for key, number in numbers.items():
        writer.add_float32(f"cpmbee.{key}", number)
    writer.add_bool("cpmbee.scales_folded", True)
    writer.add_array("tokenizer.ggml.tokens", [f"w{i}" for i in range(N_VOCAB)])
    shapes = {"token_embd.weight": (N_VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,), "rel_attn_bias": (512, N_HEAD)}
    for i in range(n_layer):
        block = f"blk.{i}."
        shapes |= {f"{block}{name}.weight": (N_EMBD, N_EMBD) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"{block}{name}.weight": (N_EMBD,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"{block}{name}.weight": (N_FF, N_EMBD) for name in ("ffn_gate", "ffn_up")}
        shapes[f"{block}ffn_down.weight"] = (N_EMBD, N_FF)
    kinds = {name: kind_of(name, shape, type_name) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType[kinds[name]]
        block_size, n_block_bytes = gguf.GGML_QUANT_SIZES[kind]
        n_row_bytes = shape[-1] // block_size * n_block_bytes
        byte_shape = (*shape[:-1], n_row_bytes)
        writer.add_tensor_info(name, byte_shape, np.dtype(np.uint8), int(np.prod(byte_shape)), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape in shapes.items():
        std, mean = {"token_embd.weight": (1.0, 0.0), "rel_attn_bias": (1.0, 0.0)}.get(
            name, (0.05, 1.0) if len(shape) == 1 else (shape[-1] ** -0.5, 0.0)
        )
        writer.write_tensor_data(random_tensor(name, shape, kinds[name], std=std, mean=mean))
    writer.close()
    return path


def kind_of(name: str, shape: tuple[int, ...], type_name: str) -> str:
    """Type of a tensor in the file."""
    if name == "rel_attn_bias":
        return "F16"
    return "F32" if len(shape) == 1 else "Q6_K" if name == "token_embd.weight" else type_name


def prompt(n: int) -> BeePrompt:
    """A prompt of `n` tokens in eight segments, and <s> of the answer as its last."""
    segments = [min(7, i * 8 // n) for i in range(n)] + [ANSWER]
    relations = np.where(np.eye(9, dtype=bool), 0, 10).astype(np.int32)
    ids = [int(token) for token in np.random.default_rng(1).integers(11, N_VOCAB, n)] + [6]
    return BeePrompt(ids, [0] * (n + 1), segments, [*range(n), 0], [True] * n + [False], relations)


Clock = Callable[[], float]


def timed(clock: Clock, work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = clock()
    work()
    return clock() - start


def plain_read(clock: Clock, n_bytes: int, n_threads: int) -> float:
    """Bytes per second."""
    if clock is time.perf_counter:
        return read_speed(n_bytes, n_threads) or float("nan")
    values = np.ones(min(n_bytes, 1 << 28) // 4, np.float32)
    return values.nbytes / min(timed(clock, lambda: np.max(values)) for _ in range(4))


def steps(clock: Clock, model: CpmBeeModel, n_paths: int, first: int, n: int) -> list[float]:
    """Seconds of each of `n` steps of `n_paths` paths, whose parents change."""
    times = []
    for i in range(n):
        parents = [0] * n_paths if i == 0 else [0, 0, *range(1, n_paths - 1)][:n_paths]
        ids, place = [11 + i + k for k in range(n_paths)], [first + i] * n_paths
        times.append(
            timed(clock, lambda p=parents, t=ids, s=place: model.step(p, t, segments=[ANSWER] * len(p), positions=s))
        )
    return times


def peak_rss() -> float:
    """GB, of this process until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=89)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--peak", type=float, default=0.0, help="GOP/s of one core, from palo_cpp_kernel_benchmark")
    parser.add_argument("--alone", action="store_true", help="one thread, its processor time")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    path = folder / f"cpm-bee-{arguments.layers}-{arguments.type}.gguf"
    if not path.is_file():
        write(path, arguments.type, arguments.layers)
    clock = time.thread_time if arguments.alone else time.perf_counter
    n_threads = 1 if arguments.alone else arguments.threads
    start = clock()
    n_ctx = arguments.prompt + 1 + 513
    with CpmBeeModel(path, n_ctx=n_ctx, n_threads=n_threads, backend=arguments.backend) as model:
        print(f"load {clock() - start:.1f} s, {model.backend.n_packed_bytes / 1e9:.3f} GB packed", end="")
        print(f", {model.n_threads} threads")
        for _ in range(arguments.runs):
            measure(clock, model, arguments)
        print(f"peak resident {peak_rss():.2f} GB, {model.n_used_cells} of {model.n_cells} cells")


def measure(clock: Clock, model: CpmBeeModel, arguments: argparse.Namespace) -> None:
    """Measure once and print."""
    asked, n_bytes, n_layer = prompt(arguments.prompt), model.backend.n_packed_bytes, model.sizes.n_layer
    prefill_s = timed(clock, lambda: model.prefill(asked))
    speed = (2 * len(asked) * LAYER_WEIGHTS * n_layer + 2 * N_VOCAB * N_EMBD) / prefill_s / 1e9
    greedy = statistics.median(steps(clock, model, 1, 1, arguments.steps))
    three = statistics.median(steps(clock, model, 3, 1 + arguments.steps, arguments.steps))
    read = plain_read(clock, n_bytes, model.n_threads)
    line = f"prefill {prefill_s:.3f} s, {speed:.1f} GOP/s"
    if arguments.peak:
        line += f" ({speed / arguments.peak / model.n_threads:.2f} of the int8 peak)"
    line += f"; greedy step {1e3 * greedy:.1f} ms, {n_bytes / greedy / 1e9:.2f} GB/s"
    line += f" ({n_bytes / greedy / read:.2f} of a plain read, {read / 1e9:.2f})"
    print(f"{line}; three paths {1e3 * three:.1f} ms ({three / greedy:.2f})", flush=True)


if __name__ == "__main__":
    main()
