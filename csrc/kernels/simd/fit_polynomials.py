"""Coefficients of the polynomials in math.h and attention_q8.h: weighted minimax fits (Lawson's iteration) in float64.

Run: python csrc/kernels/simd/fit_polynomials.py
"""

from __future__ import annotations

import math

import numpy as np

N_POINTS = 3000
N_ITERATIONS = 600


def fit(x: np.ndarray, f: np.ndarray, weight: np.ndarray, degree: int) -> tuple[np.ndarray, float]:
    """Polynomial p that makes the largest weight * |p - f| small, and that error.

    Lawson 1961: least squares, each point reweighted by its remaining error.
    """
    scale = np.abs(x).max()
    powers = np.vander(x / scale, degree + 1, increasing=True)
    lawson = np.ones_like(x)
    best, least = np.zeros(degree + 1), math.inf
    for _ in range(N_ITERATIONS):
        factor = np.sqrt(lawson) * weight
        coefficients = np.linalg.lstsq(powers * factor[:, None], f * factor, rcond=None)[0]
        error = weight * np.abs(powers @ coefficients - f)
        if error.max() < least:
            best, least = coefficients / scale ** np.arange(degree + 1), error.max()
        lawson = lawson * (error / error.max() + 1e-12)
        lawson /= lawson.sum()
    return best, least


def chebyshev_points(low: float, high: float) -> np.ndarray:
    """N_POINTS in [low, high], closer together at the ends, where minimax errors peak."""
    return (low + high) / 2 - (high - low) / 2 * np.cos(np.linspace(0, np.pi, N_POINTS))


def main() -> None:
    """Print the sets of coefficients with their errors."""
    r = chebyshev_points(-math.log(2) / 2, math.log(2) / 2)
    r = r[np.abs(r) > 1e-3]  # the fitted function is 0/0 at 0
    c, error = fit(r, (np.exp(r) - 1 - r) / r**2, r**2 / np.exp(r), 4)
    print("EXP_COEFFICIENTS", [float(np.float32(v)) for v in c], f"relative error of exp {error:.1e}")
    f = chebyshev_points(-0.5, 0.5)
    f = f[np.abs(f) > 1e-3]
    c, error = fit(f, (2**f - 1) / f, np.abs(f) * 2**-f, 3)
    print("EXP2_COEFFICIENTS", [1.0, *(float(np.float32(v)) for v in c)], f"relative error {error:.1e}")
    a = chebyshev_points(0, 5.5)
    tail = np.array([math.erfc(v / math.sqrt(2)) / 2 for v in a])
    c, error = fit(a, -np.log(tail), tail, 8)
    print("NORMAL_COEFFICIENTS", [float(np.float32(v)) for v in c], f"absolute error of P {error:.1e}")


if __name__ == "__main__":
    main()
