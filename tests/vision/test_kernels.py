"""Each C++ kernel against its formula in numpy float64: sizes around vector widths, equal bits for any threads."""

from __future__ import annotations

import numpy as np
import pytest
from mmproj_files import depthwise, gelu_erf, gelu_quick, layer_norm, softmax

from palo_cpp import _core
from palo_cpp import _test_kernels as kernels

SIZES = (1, 2, 3, 7, 8, 9, 16, 17, 64, 65)
THREADS = (1, 2, 7)
EMPTY = np.zeros(0, np.float32)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def assert_threads_agree(run) -> np.ndarray:
    """Run with each number of threads; the results must be equal bit for bit."""
    results = [run(n) for n in THREADS]
    for result in results[1:]:
        np.testing.assert_array_equal(results[0], result)
    return results[0]


def largest_error(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("n_out", SIZES)
@pytest.mark.parametrize("n_rows", SIZES)
def test_linear(n_rows: int, n_out: int) -> None:
    for n_in in (1, 7, 64, 513):
        x, weight, bias = draw(n_rows, n_in), draw(n_out, n_in, seed=1), draw(n_out)
        got = assert_threads_agree(lambda n, x=x, w=weight, b=bias: kernels.linear(x, w, b, n_threads=n))
        expected = x.astype(np.float64) @ weight.T.astype(np.float64)
        assert largest_error(got, expected + bias) < 2e-6  # observed 8.5e-7
        assert largest_error(kernels.linear(x, weight, EMPTY), expected) < 2e-6


def test_linear_of_the_largest_layer() -> None:
    x, weight, bias = draw(577, 4096), draw(260, 4096, seed=1), draw(260)
    got = assert_threads_agree(lambda n: kernels.linear(x, weight, bias, n_threads=n))
    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    assert largest_error(got, expected) < 1e-6  # observed 4.1e-7


@pytest.mark.parametrize("n_cols", SIZES)
@pytest.mark.parametrize("n_rows", (1, 17))
def test_layer_norm(n_rows: int, n_cols: int) -> None:
    # A mean far from zero: sums in f32 would lose half the digits here.
    x, weight, bias = draw(n_rows, n_cols) + 100, draw(n_cols), draw(n_cols, seed=1)
    got = kernels.layer_norm(x, weight, bias, 1e-5)
    assert largest_error(got, layer_norm(x.astype(np.float64), weight, bias, 1e-5)) < 2e-7  # observed 9.0e-8


def quantized(x: np.ndarray) -> np.ndarray:
    """The values of a row in the int8 path: 64 of them share absmax / 127 as their step."""
    n_cols = x.shape[1]
    groups = np.pad(x, ((0, 0), (0, -n_cols % 64))).reshape(len(x), -1, 64)
    absmax = np.abs(groups).max(axis=-1, keepdims=True)
    inverse = np.divide(np.float32(127), absmax, out=np.zeros_like(absmax), where=absmax > 0)
    steps = np.rint(groups * inverse).astype(np.float64)
    return (steps * (absmax / np.float32(127))).reshape(len(x), -1)[:, :n_cols]


@pytest.mark.parametrize("n_out", SIZES)
@pytest.mark.parametrize("n_rows", SIZES)
def test_linear_int8(n_rows: int, n_out: int) -> None:
    for n_in in (1, 7, 64, 65, 513):
        x, weight, bias = draw(n_rows, n_in), draw(n_out, n_in, seed=1), draw(n_out)
        got = assert_threads_agree(
            lambda n, x=x, w=weight, b=bias: kernels.linear(x, w, b, n_threads=n, precision="int8")
        )
        assert largest_error(got, quantized(x) @ quantized(weight).T + bias) < 1e-6  # observed 3.1e-7


@pytest.mark.parametrize("n_cols", (7, 64, 65, 1024))
def test_layer_norm_linear_int8(n_cols: int) -> None:
    x, weight, bias = 3 * draw(9, n_cols) + 5, draw(n_cols) + 1, draw(n_cols, seed=1)
    w = draw(17, n_cols, seed=2)
    normed = kernels.layer_norm(x, weight, bias, 1e-5)
    expected = kernels.linear(normed, w, EMPTY, precision="int8")
    got = assert_threads_agree(
        lambda n: kernels.layer_norm_linear(x, weight, bias, 1e-5, w, EMPTY, n_threads=n, precision="int8")
    )
    np.testing.assert_array_equal(got, expected)
    exact = kernels.layer_norm_linear(x, weight, bias, 1e-5, w, EMPTY)
    np.testing.assert_array_equal(exact, kernels.linear(normed, w, EMPTY))


@pytest.mark.parametrize("n_cols", SIZES)
def test_softmax(n_cols: int) -> None:
    x = 50 * draw(9, n_cols)
    assert largest_error(kernels.softmax(x, 0.125), softmax(x.astype(np.float64) * 0.125)) < 3e-7  # observed 1.6e-7
    huge = np.full((1, n_cols), 3e38, np.float32)
    np.testing.assert_allclose(kernels.softmax(huge, 1.0), 1 / n_cols, rtol=1e-6)


@pytest.mark.parametrize("n_tokens", (1, 7, 8, 9, 33, 65))
@pytest.mark.parametrize(("n_head", "head_size"), ((1, 1), (2, 7), (3, 16), (2, 64), (1, 80)))
def test_attention(n_tokens: int, n_head: int, head_size: int) -> None:
    qkv = draw(n_tokens, 3 * n_head * head_size)
    q, k, v = qkv.astype(np.float64).reshape(n_tokens, 3, n_head, head_size).transpose(1, 2, 0, 3)
    mixed = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(head_size)) @ v
    expected = mixed.transpose(1, 0, 2).reshape(n_tokens, -1)
    # Observed 4.8e-7 and 0.014.
    for precision, tolerance in (("float", 1e-6), ("int8", 0.03)):
        got = assert_threads_agree(lambda n, p=precision: kernels.attention(qkv, n_head, n_threads=n, precision=p))
        assert largest_error(got, expected) < tolerance


FORMULAS = {
    "gelu_quick": gelu_quick,
    "gelu_erf": gelu_erf,
    "relu": lambda x: np.maximum(x, 0),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_elementwise(name: str) -> None:
    for n in (*SIZES, 40_000):
        x = np.concatenate([4 * draw(n), np.float32([0, -0.0, 3, -3, 1e4, -1e4])])
        got = getattr(kernels, name)(x)
        errors = np.abs(got - FORMULAS[name](x.astype(np.float64))) / (1 + np.abs(x))
        assert errors.max() < 2e-7  # observed 9.3e-8
    assert np.isnan(getattr(kernels, name)(np.float32([np.nan]))[0])


def test_add() -> None:
    for n in (*SIZES, 40_000):
        a, b = draw(n), draw(n, seed=1)
        np.testing.assert_array_equal(kernels.add(a, b), a + b)


@pytest.mark.parametrize("stride", (1, 2))
@pytest.mark.parametrize(("height", "width"), ((1, 1), (2, 2), (5, 5), (9, 9), (4, 7), (24, 24)))
def test_depthwise_conv3x3(height: int, width: int, stride: int) -> None:
    for n_channels in (1, 7, 8, 9, 64):
        x, weight, bias = draw(height, width, n_channels), draw(9, n_channels), draw(n_channels)
        got = kernels.depthwise_conv3x3(x, weight, bias, stride)
        expected = depthwise(x.astype(np.float64), weight.T.reshape(n_channels, 1, 3, 3), stride)
        assert largest_error(got, expected + bias) < 4e-7  # observed 1.6e-7
        assert largest_error(kernels.depthwise_conv3x3(x, weight, EMPTY, stride), expected) < 4e-7


@pytest.mark.parametrize("side", (2, 5, 9, 24))
def test_average_pool2x2(side: int) -> None:
    x = draw(side, side, 9)
    half = side // 2
    expected = x[: 2 * half, : 2 * half].astype(np.float64).reshape(half, 2, half, 2, 9).mean(axis=(1, 3))
    got = kernels.average_pool2x2(x)
    assert largest_error(got, expected) < 2e-7  # observed 7.8e-8


@pytest.mark.parametrize("n_cols", SIZES)
def test_column_means_and_scale_columns(n_cols: int) -> None:
    x, scale = draw(577, n_cols), draw(n_cols)
    means = kernels.column_means(x)
    assert largest_error(means, x.astype(np.float64).mean(axis=0)) < 2e-8  # observed 4.1e-9
    scaled = kernels.scale_columns(x, scale)
    np.testing.assert_array_equal(scaled, x * scale)


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="columns of x: expected 3, got 2"):
        kernels.linear(draw(2, 2), draw(2, 3), EMPTY)
    with pytest.raises(ValueError, match="n_threads: expected 1 to 512, got 0"):
        kernels.linear(draw(2, 2), draw(2, 2), EMPTY, n_threads=0)
    with pytest.raises(ValueError, match="empty"):
        kernels.layer_norm(draw(0, 2), draw(2), draw(2), 1e-5)
    with pytest.raises(TypeError):
        kernels.add(np.zeros(2), np.zeros(2))  # float64


def test_isa_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _core.available_isas()[-1] == "ref"
    assert kernels.available_isas() == _core.available_isas()  # what is tested is what users run
    for isa in _core.available_isas():
        monkeypatch.setenv("PALO_CPP_ISA", isa)
        assert _core.isa() == isa
    monkeypatch.setenv("PALO_CPP_ISA", "abacus")
    with pytest.raises(ValueError, match=r'PALO_CPP_ISA: expected one of: .*ref; got "abacus"'):
        _core.isa()
