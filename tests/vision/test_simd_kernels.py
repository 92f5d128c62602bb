"""Every instruction set that PALO_CPP_ISA can choose here: the SIMD ones give equal bits, close to the reference.

tests/cpp/test_simd_*.cpp test sizes, tails and values; here everything is called from Python, on several threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from palo_cpp import _test_kernels as kernels

THREADS = (1, 2, 7)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def linear(precision: str, n_threads: int) -> np.ndarray:
    x, weight = draw(101, 1100), draw(300, 1100, seed=1)
    return kernels.linear(x, weight, draw(300), n_threads=n_threads, precision=precision)


def layer_norm_linear(precision: str, n_threads: int) -> np.ndarray:
    x, weight = draw(101, 200), draw(70, 200, seed=1)
    ln_weight, ln_bias = draw(200), draw(200, seed=2)
    return kernels.layer_norm_linear(
        x, ln_weight, ln_bias, 1e-5, weight, draw(70), n_threads=n_threads, precision=precision
    )


def attention(precision: str, n_threads: int) -> np.ndarray:
    return kernels.attention(draw(101, 3 * 128), 2, n_threads=n_threads, precision=precision)


def projector(_precision: str, _n_threads: int) -> np.ndarray:
    x = kernels.depthwise_conv3x3(draw(9, 7, 70), draw(9, 70), draw(70), 2).reshape(-1, 70)
    x = kernels.hardswish(kernels.layer_norm(x, draw(70), draw(70, seed=1), 1e-5).ravel()).reshape(-1, 70)
    return kernels.gelu_erf(kernels.scale_columns(x, kernels.column_means(x)).ravel())


@pytest.mark.parametrize("precision", ["float", "int8"])
@pytest.mark.parametrize("run", [linear, layer_norm_linear, attention, projector])
def test_instruction_sets_agree(
    run: Callable[[str, int], np.ndarray], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {}
    for isa in kernels.available_isas():
        monkeypatch.setenv("PALO_CPP_ISA", isa)
        results[isa] = run(precision, 1)
        for n_threads in THREADS[1:]:
            np.testing.assert_array_equal(run(precision, n_threads), results[isa])
    reference = results.pop("ref")
    for result in results.values():
        np.testing.assert_array_equal(result, next(iter(results.values())))
        error = np.abs(result - reference).max() / np.abs(reference).max()
        # int8: a last bit of a LayerNorm or of a softmax can move an input by one of 127 steps.
        assert error < (1e-6 if precision == "float" else 5e-3)  # observed 2.8e-7, 2.4e-7
