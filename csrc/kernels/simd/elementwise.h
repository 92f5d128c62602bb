// Elementwise kernels, and softmax (kernel_table.h).
#pragma once

#include "kernels/simd/math.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// out[i] = function(i-th of x): whole vectors, then the rest through the same function.
template <typename Function>
PALO_INLINE void for_each(float* x, int64_t n, Function function) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(x + i, function(load(x + i)));
  if (i < n) store_first(x + i, function(load_first(x + i, n - i)), n - i);
}

// x sigmoid(1.702 x); the factor x keeps NaN, and lets the sigmoid's smallest value, 1e-38, count as zero.
PALO_INLINE Floats gelu_quick_of(Floats x) {
  return x / (set(1.0f) + exponential(x * set(-1.702f)));
}
void gelu_quick(float* x, int64_t n) {
  for_each(x, n, [](Floats v) { return gelu_quick_of(v); });
}
void gelu_erf(float* x, int64_t n) {
  for_each(x, n, [](Floats v) { return times_normal(v); });
}
// Not max(x, 0): NaN and -0 stay on every instruction set.
void relu(float* x, int64_t n) {
  for_each(x, n, [](Floats v) { return where_negative(v, set(0.0f), v); });
}
// clamp(x + 3, 0, 6) / 6; NaN stays, since min and max return their second argument for it.
PALO_INLINE Floats hardsigmoid_of(Floats x) {
  return min(set(6.0f), max(set(0.0f), x + set(3.0f))) * set(1.0f / 6.0f);
}
void hardsigmoid(float* x, int64_t n) {
  for_each(x, n, [](Floats v) { return hardsigmoid_of(v); });
}
void hardswish(float* x, int64_t n) {
  for_each(x, n, [](Floats v) { return v * hardsigmoid_of(v); });
}

void add(float* out, const float* a, const float* b, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(out + i, load(a + i) + load(b + i));
  if (i < n) store_first(out + i, load_first(a + i, n - i) + load_first(b + i, n - i), n - i);
}

void scale_columns(float* x, const float* scale, int64_t n_rows, int64_t n_cols) {
  for (int64_t r = 0; r < n_rows; ++r) {
    float* row = x + r * n_cols;
    int64_t c = 0;
    for (; c + LANES <= n_cols; c += LANES) store(row + c, load(row + c) * load(scale + c));
    if (c < n_cols) {
      const int64_t n = n_cols - c;
      store_first(row + c, load_first(row + c, n) * load_first(scale + c, n), n);
    }
  }
}

// The largest of x [n].
PALO_INLINE float max_of_row(const float* x, int64_t n) {
  if (n < LANES) {
    float largest = x[0];
    for (int64_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    return largest;
  }
  Floats largest = load(x + n - LANES);  // overlaps the vectors before it
  for (int64_t i = 0; i + LANES <= n; i += LANES) largest = max(load(x + i), largest);
  return max_of_lanes(largest);
}

void softmax_row(float* x, int64_t n, float scale) {
  const Floats largest = set(max_of_row(x, n)), factor = set(scale);
  Floats sums = set(0.0f);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    // (x - max) * scale, not scale * x - max: no product of large numbers is rounded before they cancel.
    const Floats e = exponential((load(x + i) - largest) * factor);
    store(x + i, e);
    sums = sums + e;
  }
  if (i < n) {
    store_first(x + i, exponential((load_first(x + i, n - i) - largest) * factor), n - i);
    sums = sums + load_first(x + i, n - i);
  }
  const Floats inverse = set(1.0f / sum_of_lanes(sums));
  for_each(x, n, [inverse](Floats v) { return v * inverse; });
}

void softmax(float* x, int64_t n_rows, int64_t n_cols, int64_t ldx, float scale) {
  for (int64_t r = 0; r < n_rows; ++r) softmax_row(x + r * ldx, n_cols, scale);
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
