"""Pillow's bicubic resampling of one direction of an image, as the integers that the C++ core adds.

Pillow weights pixels with Keys' cubic (1981, a = -0.5), widened where the image shrinks, normalizes the weights of each
output, and rounds them to 22 bits after the point (Resample.c: precompute_coeffs, normalize_coeffs_8bpc). An output is
(half a step + the sum of weights times pixels) >> 22, limited to 0..255: integers, so equal in whatever order. What
pixels outside the stored image contribute, all of one colour, is therefore a constant where the sum begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palo_cpp import _core

_FRACTION_BITS = 32 - 8 - 2  # as csrc/kernels/pixel_kernels.h: what 8 bits of a pixel and 2 for larger sums leave
_SUPPORT = 2.0  # Keys' cubic is zero beyond
# Weights in double precision at once, 2 MiB: a line of a hundred million pixels has four times as many.
_WEIGHTS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Axis:
    """One direction of a resize.

    Attributes:
        n_stored: Pixels of the image.
        n_out: Pixels that the whole becomes, image and padding.
        n_whole: Pixels of image and padding; without padding `n_stored`.
        n_before: Pixels of padding before the image.
        first_out: The first output that is kept.
        n_kept: Outputs that are kept.
    """

    n_stored: int
    n_out: int
    n_whole: int
    n_before: int
    first_out: int
    n_kept: int


@dataclass(frozen=True)
class Resampling:
    """What becomes of the stored pixels of one direction.

    Attributes:
        begin: The first stored pixel that is needed.
        end: The one after the last.
        starts: The first pixel of each output, counted from `begin`, int32 [n_kept].
        coefficients: Weights of the pixels from there on, int32 [n_kept, n_taps], 2^22 is 1.
        base: Where the sums begin, int32 [n_kept, 4], of red, green, blue and an unused byte.
    """

    begin: int
    end: int
    starts: NDArray[np.int32]
    coefficients: NDArray[np.int32]
    base: NDArray[np.int32]

    def apply(self, pixels: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
        """Resample rows or columns, on this thread; other threads of Python run meanwhile.

        Args:
            pixels: From `begin` to `end` along `axis`, uint8 [rows, columns, 4].
            axis: 0 for the rows to become fewer or more, 1 for the columns.

        Returns:
            uint8 [n_kept, columns, 4] or [rows, n_kept, 4].
        """
        return _core.resample(pixels, axis, self.starts, self.coefficients, self.base)


def bicubic(axis: Axis, *, colour: tuple[int, int, int] = (0, 0, 0), is_flipped: bool = False) -> Resampling:
    """The resampling of one direction.

    Args:
        axis: Its sizes.
        colour: Of the padding: red, green, blue, 0..255.
        is_flipped: Whether the pixels are stored last first. Outputs are in the image's order all the same.
    """
    begins, ends = _windows(axis)
    first = np.clip(begins, axis.n_before, axis.n_before + axis.n_stored) - axis.n_before
    last = np.clip(ends, axis.n_before, axis.n_before + axis.n_stored) - axis.n_before
    n_taps = max(1, int((last - first).max()))
    starts = np.minimum(first, axis.n_stored - n_taps)
    coefficients = np.empty((axis.n_kept, n_taps), np.int32)
    outside = np.empty(axis.n_kept, np.int64)
    n_at_once = max(1, _WEIGHTS_AT_ONCE // int((ends - begins).max()))
    for i in range(0, axis.n_kept, n_at_once):
        part = slice(i, i + n_at_once)
        weights = _weights(axis, begins[part], ends[part], axis.first_out + i)
        taken = starts[part, np.newaxis] + axis.n_before + np.arange(n_taps) - begins[part, np.newaxis]
        is_inside = (taken >= 0) & (taken < weights.shape[1])
        coefficients[part] = np.take_along_axis(weights, np.where(is_inside, taken, 0), axis=1) * is_inside
        outside[part] = weights.sum(axis=1) - coefficients[part].sum(axis=1)
    if is_flipped:
        starts, coefficients = axis.n_stored - n_taps - starts, np.ascontiguousarray(coefficients[:, ::-1])
    begin, end = int(starts.min()), int(starts.max()) + n_taps
    base = (1 << (_FRACTION_BITS - 1)) + outside[:, np.newaxis] * np.array([*colour, 0])
    return Resampling(begin, end, (starts - begin).astype(np.int32), coefficients, base.astype(np.int32))


def _windows(axis: Axis) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel of the whole that each kept output looks at, and the one after the last."""
    centres, stretch = _centres(axis, axis.first_out, axis.n_kept)
    begins = (centres - _SUPPORT * stretch + 0.5).astype(np.int64)
    ends = (centres + _SUPPORT * stretch + 0.5).astype(np.int64)
    return np.maximum(begins, 0), np.minimum(ends, axis.n_whole)


def _centres(axis: Axis, first_out: int, n: int) -> tuple[NDArray[np.float64], float]:
    """Where outputs lie among the pixels of the whole, and how much wider than a pixel the cubic is."""
    scale = axis.n_whole / axis.n_out
    return (np.arange(first_out, first_out + n, dtype=np.float64) + 0.5) * scale, max(scale, 1.0)


def _weights(axis: Axis, begins: NDArray[np.int64], ends: NDArray[np.int64], first_out: int) -> NDArray[np.int64]:
    """Rounded weights of the pixels from begins on [n, longest window], zeros from ends on."""
    centres, stretch = _centres(axis, first_out, len(begins))
    pixels = begins[:, np.newaxis] + np.arange((ends - begins).max())
    weights = _keys_cubic((pixels - centres[:, np.newaxis] + 0.5) * (1 / stretch))
    weights[pixels >= ends[:, np.newaxis]] = 0
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]  # one after the other, as Pillow adds: sum() would pair them
    return np.trunc(weights * (1 << _FRACTION_BITS) + np.copysign(0.5, weights)).astype(np.int64)


def _keys_cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys, Cubic convolution interpolation for digital image processing (1981), equation 15: a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < _SUPPORT, far, 0))
