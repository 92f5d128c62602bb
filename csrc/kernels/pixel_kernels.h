// Resampling of 8-bit pixels with Pillow's integers (Pillow, src/libImaging/Resample.c): equal to its results, and
// equal on every instruction set, for sums of integers do not depend on their order.
#pragma once

#include <cstdint>

namespace palo {

// Red, green, blue and a byte that means nothing, as Pillow stores pixels.
constexpr int64_t PIXEL_BYTES = 4;
// Fraction bits of coefficients: 32, less 8 of a pixel and 2 for sums that go beyond 0..255.
constexpr int RESAMPLING_BITS = 32 - 8 - 2;

// How one direction of an image is resampled: output o is the n_taps pixels from starts[o] on, weighted.
struct Resampling {
  const int32_t* starts;        // [n_out], starts[o] + n_taps at most the number of pixels there are
  const int32_t* coefficients;  // [n_out, n_taps]
  const int32_t* base;          // [n_out, PIXEL_BYTES]: half a step, plus what pixels outside the image contribute
  int64_t n_out, n_taps;
};

// Contract as in kernel_table.h: one thread, no allocation. No sum leaves int32, in whatever order it is built.
struct PixelKernels {
  // Within each row: out[y, o, c] = clamp((base[o, c] + sum_t coefficients[o, t] * in[y, starts[o] + t, c]) >>
  // RESAMPLING_BITS, 0, 255). out [n_rows, n_out, PIXEL_BYTES]; in [n_rows, n_in, PIXEL_BYTES].
  void (*resample_along)(uint8_t* out, const uint8_t* in, const Resampling& resampling, int64_t n_rows, int64_t n_in);

  // Across rows: out[o, x, c] = the same of in[starts[o] + t, x, c]. out [n_out, n_columns, PIXEL_BYTES];
  // in [rows, n_columns, PIXEL_BYTES].
  void (*resample_across)(uint8_t* out, const uint8_t* in, const Resampling& resampling, int64_t n_columns);
};

}  // namespace palo
