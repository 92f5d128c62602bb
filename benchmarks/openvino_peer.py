"""Reading an image: our vision encoder beside OpenVINO's int8, on the same random weights of the true shapes.

    python benchmarks/openvino_peer.py [--isa avx2] [--threads 2] [--runs 7] [--int8]

OpenVINO and NNCF are no dependency: `pip install openvino nncf` in an environment that has palo_cpp. The graph is
ViT-L/14-336 with 23 layers and PALO-7B's MLP projector, quantized by NNCF as a transformer with its mixed preset. Both
sides read the image in turn. The smallest cosine of an image embedding is against our float path; the row `f32` shows
that both sides compute the same. `--isa` holds both sides to an instruction set. `--int8` measures int8 alone: its two
sides then follow each other at once, and each turn's ratio is that of one moment of the machine.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.fidelity import token_cosines
from palo_cpp.bench.noise import describe_machine
from palo_cpp.bench.sizes import model_sizes
from palo_cpp.bench.synthetic import synthetic_mmproj
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.vision.encoder import VisionEncoder

Array = NDArray[np.float32]
Side = Callable[[Array], Array]  # from pixels to image embeddings

# oneDNN's names of our instruction sets.
_ISAS = {"avx2": "AVX2", "avxvnni": "AVX2_VNNI", "avx512vnni": "AVX512_CORE_VNNI"}
_N_CALIBRATION = 4  # images
_PEER_INT8 = "OpenVINO int8"


class Graph:
    """The vision encoder as OpenVINO's operations.

    Args:
        sizes: of the mmproj file.
        tensors: its tensors by name.
    """

    def __init__(self, sizes: Mapping[str, Any], tensors: dict[str, Array]) -> None:
        from openvino import opset13

        self._op, self._w = opset13, tensors
        keys = ("image_size", "patch_size", "embedding_length", "attention.head_count", "block_count")
        self._size, self._patch, self._width, self._n_head, self._n_layer = (
            int(sizes[f"clip.vision.{key}"]) for key in keys
        )
        self._eps = float(sizes["clip.vision.attention.layer_norm_epsilon"])

    def model(self) -> Any:
        """The whole of it: pixels [1, 3, 336, 336] to image embeddings [1, 576, n_embd]."""
        import openvino

        op, w = self._op, self._w
        n_patches = (self._size // self._patch) ** 2
        pixels = op.parameter([1, 3, self._size, self._size], np.float32, name="pixels")
        stride, none, one = [self._patch, self._patch], [0, 0], [1, 1]
        patches = op.convolution(pixels, op.constant(w["v.patch_embd.weight"]), stride, none, none, one)
        rows = op.transpose(op.reshape(patches, [1, self._width, n_patches], special_zero=False), [0, 2, 1])
        x = op.concat([op.constant(w["v.class_embd"].reshape(1, 1, self._width)), rows], axis=1)
        x = op.add(x, op.constant(w["v.position_embd.weight"][None]))
        x = self._norm(x, "v.pre_ln")
        for layer in range(self._n_layer):
            x = self._layer(x, f"v.blk.{layer}")
        x = op.slice(x, [1], [n_patches + 1], [1], [1])
        x = self._linear(op.gelu(self._linear(x, "mm.0"), "erf"), "mm.2")
        return openvino.Model([op.result(x)], [pixels])

    def _linear(self, x: Any, name: str) -> Any:
        product = self._op.matmul(x, self._op.constant(self._w[f"{name}.weight"]), False, True)
        return self._op.add(product, self._op.constant(self._w[f"{name}.bias"][None, None]))

    def _norm(self, x: Any, name: str) -> Any:
        op = self._op
        normal = op.mvn(x, op.constant(np.array([-1])), True, self._eps, "inside_sqrt")
        scaled = op.multiply(normal, op.constant(self._w[f"{name}.weight"][None, None]))
        return op.add(scaled, op.constant(self._w[f"{name}.bias"][None, None]))

    def _layer(self, x: Any, name: str) -> Any:
        op = self._op
        normal = self._norm(x, f"{name}.ln1")
        q, k, v = (self._heads(self._linear(normal, f"{name}.attn_{part}")) for part in "qkv")
        attended = op.transpose(op.scaled_dot_product_attention(q, k, v, causal=False), [0, 2, 1, 3])
        x = op.add(x, self._linear(op.reshape(attended, [1, -1, self._width], special_zero=False), f"{name}.attn_out"))
        up = self._linear(self._norm(x, f"{name}.ln2"), f"{name}.ffn_up")
        active = op.multiply(up, op.sigmoid(op.multiply(up, op.constant(np.float32(1.702)))))
        return op.add(x, self._linear(active, f"{name}.ffn_down"))

    def _heads(self, x: Any) -> Any:
        op = self._op
        return op.transpose(
            op.reshape(x, [1, -1, self._n_head, self._width // self._n_head], special_zero=False), [0, 2, 1, 3]
        )


def openvino_sides(graph: Graph, shape: tuple[int, ...], n_threads: int, *, is_int8_alone: bool) -> dict[str, Side]:
    """OpenVINO's f32, unless int8 alone is wanted, and its int8, each for pixels of that shape."""
    import nncf
    import openvino

    model = graph.model()
    data = nncf.Dataset([noise(100 + i, shape)[None] for i in range(_N_CALIBRATION)])
    quantized = nncf.quantize(
        model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=_N_CALIBRATION,
        preset=nncf.QuantizationPreset.MIXED,
    )  # fmt: skip
    settings = {"INFERENCE_NUM_THREADS": n_threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    settings["INFERENCE_PRECISION_HINT"] = "f32"

    def side(compiled: Any) -> Side:
        request = openvino.Core().compile_model(compiled, "CPU", settings).create_infer_request()
        return lambda pixels: np.array(request.infer({0: pixels[None]})[0][0])

    return ({} if is_int8_alone else {"OpenVINO f32": side(model)}) | {_PEER_INT8: side(quantized)}


def noise(seed: int, shape: tuple[int, ...]) -> Array:
    """Pixels as normalized as a photo's."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=_ISAS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--int8", action="store_true", help="not in floats")
    options = parser.parse_args()
    if options.isa:  # read by both libraries when they are first used
        os.environ.update(PALO_CPP_ISA=options.isa, ONEDNN_MAX_CPU_ISA=_ISAS[options.isa])
    print(describe_machine(), flush=True)
    path = synthetic_mmproj(model_sizes("7b"), "f16", report=lambda _: None)
    tensors = {each.name: np.array(each.data, np.float32) for each in gguf.GGUFReader(path).tensors}
    with (
        VisionEncoder(path, n_threads=options.threads, precision="float") as exact,
        VisionEncoder(path, n_threads=options.threads) as ours,
    ):
        our_int8 = f"palo_cpp int8 ({ours.isa})"
        sides = ({} if options.int8 else {"palo_cpp float": exact.encode}) | {our_int8: ours.encode}
        shape = (3, ours.info.image_size, ours.info.image_size)
        pixels = noise(0, shape)
        graph = Graph(read_header(path).metadata, tensors)
        sides |= openvino_sides(graph, shape, options.threads, is_int8_alone=options.int8)
        expected = exact.encode(pixels)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.runs):
            for name, encode in sides.items():
                begun = time.perf_counter()
                encode(pixels)
                times[name].append(1e3 * (time.perf_counter() - begun))
        print("                             median ms   least ms   smallest cosine")
        for name, encode in sides.items():
            cosine = token_cosines(encode(pixels), expected).min()
            print(f"{name:28} {median(times[name]):9.0f}  {min(times[name]):9.0f}   {cosine:.5f}")
        ratios = [theirs / of_ours for of_ours, theirs in zip(times[our_int8], times[_PEER_INT8], strict=True)]
        print(f"int8, times as fast as OpenVINO: {median(ratios):.2f} in the median of {len(ratios)} turns")


if __name__ == "__main__":
    main()
