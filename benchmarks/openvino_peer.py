"""Reading an image: our vision encoder beside OpenVINO's int8, on the same random weights of the true shapes.

    python benchmarks/openvino_peer.py [--isa avx2] [--threads 2] [--runs 7]

OpenVINO and NNCF are no dependency: `pip install openvino nncf` in an environment that has palo_cpp. The graph is
ViT-L/14-336 with 23 layers and PALO-7B's MLP projector, quantized by NNCF as a transformer with its mixed preset. Both
sides read the image in turn. The smallest cosine of an image embedding is against our float path; the row `f32` shows
that both sides compute the same. `--isa` holds both sides to an instruction set.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.noise import describe_machine
from palo_cpp.bench.sizes import model_sizes
from palo_cpp.bench.synthetic import synthetic_mmproj
from palo_cpp.vision.encoder import VisionEncoder

Array = NDArray[np.float32]

# oneDNN's names of our instruction sets.
_ISAS = {"avx2": "AVX2", "avxvnni": "AVX2_VNNI", "avx512vnni": "AVX512_CORE_VNNI"}
_SIZE, _PATCH, _WIDTH, _N_HEAD, _N_LAYER, _EPS = 336, 14, 1024, 16, 23, 1e-5
_N_CALIBRATION = 4  # images


class Graph:
    """The vision encoder as OpenVINO's operations.

    Args:
        tensors: of an mmproj file, by name.
    """

    def __init__(self, tensors: dict[str, Array]) -> None:
        from openvino import opset13

        self._op, self._w = opset13, tensors

    def model(self) -> Any:
        """The whole of it: pixels [1, 3, 336, 336] to image embeddings [1, 576, n_embd]."""
        import openvino

        op, w = self._op, self._w
        n_patches = (_SIZE // _PATCH) ** 2
        pixels = op.parameter([1, 3, _SIZE, _SIZE], np.float32, name="pixels")
        stride, none, one = [_PATCH, _PATCH], [0, 0], [1, 1]
        patches = op.convolution(pixels, op.constant(w["v.patch_embd.weight"]), stride, none, none, one)
        rows = op.transpose(op.reshape(patches, [1, _WIDTH, n_patches], special_zero=False), [0, 2, 1])
        x = op.concat([op.constant(w["v.class_embd"].reshape(1, 1, _WIDTH)), rows], axis=1)
        x = op.add(x, op.constant(w["v.position_embd.weight"][None]))
        x = self._norm(x, "v.pre_ln")
        for layer in range(_N_LAYER):
            x = self._layer(x, f"v.blk.{layer}")
        x = op.slice(x, [1], [n_patches + 1], [1], [1])
        x = self._linear(op.gelu(self._linear(x, "mm.0"), "erf"), "mm.2")
        return openvino.Model([op.result(x)], [pixels])

    def _linear(self, x: Any, name: str) -> Any:
        product = self._op.matmul(x, self._op.constant(self._w[f"{name}.weight"]), False, True)
        return self._op.add(product, self._op.constant(self._w[f"{name}.bias"][None, None]))

    def _norm(self, x: Any, name: str) -> Any:
        op = self._op
        normal = op.mvn(x, op.constant(np.array([-1])), True, _EPS, "inside_sqrt")
        scaled = op.multiply(normal, op.constant(self._w[f"{name}.weight"][None, None]))
        return op.add(scaled, op.constant(self._w[f"{name}.bias"][None, None]))

    def _layer(self, x: Any, name: str) -> Any:
        op = self._op
        normal = self._norm(x, f"{name}.ln1")
        q, k, v = (self._heads(self._linear(normal, f"{name}.attn_{part}")) for part in "qkv")
        attended = op.transpose(op.scaled_dot_product_attention(q, k, v, causal=False), [0, 2, 1, 3])
        x = op.add(x, self._linear(op.reshape(attended, [1, -1, _WIDTH], special_zero=False), f"{name}.attn_out"))
        up = self._linear(self._norm(x, f"{name}.ln2"), f"{name}.ffn_up")
        active = op.multiply(up, op.sigmoid(op.multiply(up, op.constant(np.float32(1.702)))))
        return op.add(x, self._linear(active, f"{name}.ffn_down"))

    def _heads(self, x: Any) -> Any:
        op = self._op
        return op.transpose(op.reshape(x, [1, -1, _N_HEAD, _WIDTH // _N_HEAD], special_zero=False), [0, 2, 1, 3])


def openvino_sides(tensors: dict[str, Array], n_threads: int) -> dict[str, Callable[[Array], Array]]:
    """OpenVINO's f32 and int8, each from pixels [3, 336, 336] to image embeddings."""
    import nncf
    import openvino

    model = Graph(tensors).model()
    images = [np.random.default_rng(100 + i).normal(size=(1, 3, _SIZE, _SIZE)) for i in range(_N_CALIBRATION)]
    data = nncf.Dataset([image.astype(np.float32) for image in images])
    quantized = nncf.quantize(
        model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=_N_CALIBRATION,
        preset=nncf.QuantizationPreset.MIXED,
    )  # fmt: skip
    settings = {"INFERENCE_NUM_THREADS": n_threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    settings["INFERENCE_PRECISION_HINT"] = "f32"

    def side(graph: Any) -> Callable[[Array], Array]:
        request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
        return lambda pixels: np.array(request.infer({0: pixels[None]})[0][0])

    return {"OpenVINO f32": side(model), "OpenVINO int8": side(quantized)}


def smallest_cosine(a: Array, b: Array) -> float:
    """Of rows [n, n_embd]."""
    product = (a * b).sum(axis=1, dtype=np.float64)
    return float((product / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=_ISAS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    if options.isa:  # read by both libraries when they are first used
        os.environ.update(PALO_CPP_ISA=options.isa, ONEDNN_MAX_CPU_ISA=_ISAS[options.isa])
    print(describe_machine(), flush=True)
    path = synthetic_mmproj(model_sizes("7b"), "f16", report=lambda _: None)
    tensors = {each.name: np.array(each.data, np.float32) for each in gguf.GGUFReader(path).tensors}
    pixels = np.random.default_rng(0).normal(size=(3, _SIZE, _SIZE)).astype(np.float32)
    with (
        VisionEncoder(path, n_threads=options.threads, precision="float") as exact,
        VisionEncoder(path, n_threads=options.threads) as ours,
    ):
        sides = {"palo_cpp float": exact.encode, f"palo_cpp int8 ({ours.isa})": ours.encode}
        sides |= openvino_sides(tensors, options.threads)
        expected = exact.encode(pixels)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.runs):
            for name, encode in sides.items():
                begun = time.perf_counter()
                encode(pixels)
                times[name].append(1e3 * (time.perf_counter() - begun))
        print("                             median ms   least ms   smallest cosine")
        for name, encode in sides.items():
            cosine = smallest_cosine(encode(pixels), expected)
            print(f"{name:28} {median(times[name]):9.0f}  {min(times[name]):9.0f}   {cosine:.5f}")


if __name__ == "__main__":
    main()
