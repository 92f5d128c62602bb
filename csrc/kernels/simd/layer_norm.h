// Layer normalization, to floats and to int8 (kernel_table.h: layer_norm, Q8Kernels).
//
// Sums are f32 in 16 lanes. The variance is computed around a first mean, which is then corrected by the remainder:
// with d = x - m (exact but for d's last bit), mean = m + mean(d) and variance = mean(d^2) - mean(d)^2. So no digits
// are lost to a large mean, as they would be in a plain f32 sum.
#pragma once

#include "kernels/simd/quantize.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// (x - mean) / sqrt(variance + eps) = ((x - shift) - rest) * scale, the same in all lanes.
struct Norm {
  Floats shift, rest, scale;
};

// d = x - shift of up to 64 values from p on, zeros after the first n.
PALO_INLINE void load_deviations(Floats d[CHUNK_VECTORS], const float* p, int64_t n, Floats shift) {
  load_chunk(d, p, n);
  for (int64_t v = 0; v < CHUNK_VECTORS; ++v) d[v] = d[v] - shift;
  if (n >= CHUNK) return;
  float values[CHUNK];
  for (int64_t v = 0; v < CHUNK_VECTORS; ++v) store(values + v * LANES, d[v]);
  load_chunk(d, values, n);
}

PALO_INLINE float sum_of(const Floats sums[CHUNK_VECTORS]) {
  static_assert(CHUNK_VECTORS == 4);
  return sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

PALO_INLINE Norm norm_of_row(const float* x, int64_t n_cols, float eps) {
  const float n = static_cast<float>(n_cols);
  Floats values[CHUNK_VECTORS];
  Floats sums[CHUNK_VECTORS], rests[CHUNK_VECTORS], squares[CHUNK_VECTORS];
  for (int64_t v = 0; v < CHUNK_VECTORS; ++v) sums[v] = rests[v] = squares[v] = set(0.0f);
  for (int64_t c = 0; c < n_cols; c += CHUNK) {
    load_chunk(values, x + c, n_cols - c);
    for (int64_t v = 0; v < CHUNK_VECTORS; ++v) sums[v] = sums[v] + values[v];
  }
  const Floats shift = set(sum_of(sums) / n);
  for (int64_t c = 0; c < n_cols; c += CHUNK) {
    load_deviations(values, x + c, n_cols - c, shift);
    for (int64_t v = 0; v < CHUNK_VECTORS; ++v) {
      rests[v] = rests[v] + values[v];
      squares[v] = fma(values[v], values[v], squares[v]);
    }
  }
  const float rest = sum_of(rests) / n;
  const float variance = sum_of(squares) / n - rest * rest;
  // A constant row can leave a variance just below zero; NaN stays NaN.
  return {shift, set(rest), set(1.0f / square_root((variance < 0.0f ? 0.0f : variance) + eps))};
}

// y = the normalized columns [c, c + 64) of row x, zeros after the last column.
PALO_INLINE void normalize_chunk(Floats y[CHUNK_VECTORS], const Norm& norm, const float* x, const float* weight,
                                 const float* bias, int64_t c, int64_t n_cols) {
  Floats w[CHUNK_VECTORS], b[CHUNK_VECTORS];
  load_deviations(y, x + c, n_cols - c, norm.shift);
  load_chunk(w, weight + c, n_cols - c);
  load_chunk(b, bias + c, n_cols - c);
  for (int64_t v = 0; v < CHUNK_VECTORS; ++v) y[v] = fma((y[v] - norm.rest) * norm.scale, w[v], b[v]);
}

void layer_norm(float* out, const float* x, const float* weight, const float* bias, int64_t n_rows, int64_t n_cols,
                float eps) {
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* row = x + r * n_cols;
    const Norm norm = norm_of_row(row, n_cols, eps);
    for (int64_t c = 0; c < n_cols; c += CHUNK) {
      Floats y[CHUNK_VECTORS];
      normalize_chunk(y, norm, row, weight, bias, c, n_cols);
      store_chunk(out + r * n_cols + c, y, n_cols - c);
    }
  }
}

template <int64_t GROUP>
void layer_norm_q8(uint8_t* out, const float* x, const float* weight, const float* bias, int64_t n_rows, int64_t n_cols,
                   float eps) {
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* row = x + r * n_cols;
    const Norm norm = norm_of_row(row, n_cols, eps);
    for (int64_t begin = 0; begin < n_cols; begin += GROUP, out += Q8Layout<GROUP>::ROW_GROUP_BYTES) {
      Floats y[GROUP / LANES];
      for (int64_t c = 0; c < GROUP; c += CHUNK) {
        normalize_chunk(y + c / LANES, norm, row, weight, bias, begin + c, n_cols);
      }
      quantize_group<GROUP>(out, y);
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
