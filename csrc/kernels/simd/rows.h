// Kernels over one row of values (row_kernels.h).
#pragma once

#include "kernels/row_kernels.h"
#include "kernels/simd/elementwise.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// out[i] = function(a[i], b[i]): whole vectors, then the rest.
template <typename Function>
PALO_INLINE void for_each_pair(float* out, const float* a, const float* b, int64_t n, Function function) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(out + i, function(load(a + i), load(b + i)));
  if (i < n) store_first(out + i, function(load_first(a + i, n - i), load_first(b + i, n - i)), n - i);
}

PALO_INLINE float mean_of_squares(const float* x, int64_t n) {
  constexpr int64_t CHAINS = 4;
  Floats sums[CHAINS];
  for (int64_t v = 0; v < CHAINS; ++v) sums[v] = set(0.0f);
  int64_t i = 0;
  for (; i + CHAINS * LANES <= n; i += CHAINS * LANES) {
    for (int64_t v = 0; v < CHAINS; ++v) {
      const Floats value = load(x + i + v * LANES);
      sums[v] = fma(value, value, sums[v]);
    }
  }
  for (; i < n; i += LANES) {
    const Floats value = n - i >= LANES ? load(x + i) : load_first(x + i, n - i);
    sums[0] = fma(value, value, sums[0]);
  }
  return sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<float>(n);
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  const Floats scale = set(1.0f / square_root(mean_of_squares(x, n) + eps));
  if (weight == nullptr) {
    for_each_pair(out, x, x, n, [scale](Floats value, Floats) { return value * scale; });
  } else {
    for_each_pair(out, x, weight, n, [scale](Floats value, Floats w) { return value * scale * w; });
  }
}

void multiply(float* out, const float* a, const float* b, int64_t n) {
  for_each_pair(out, a, b, n, [](Floats x, Floats y) { return x * y; });
}

void swiglu(float* out, const float* gate, const float* up, int64_t n) {
  for_each_pair(out, gate, up, n, [](Floats g, Floats u) { return g / (set(1.0f) + exponential(set(0.0f) - g)) * u; });
}

// Left to the compiler, which finds the shuffles; without fma only one order of operations is possible.
void rotate_pairs(float* out, const float* x, const float* cosines, const float* sines, int64_t n_pairs) {
  for (int64_t i = 0; i < n_pairs; ++i) {
    const float first = x[2 * i], second = x[2 * i + 1];
    out[2 * i] = first * cosines[i] - second * sines[i];
    out[2 * i + 1] = first * sines[i] + second * cosines[i];
  }
}

void to_halves(uint8_t* out, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store_halves(out + 2 * i, load(x + i));
  if (i == n) return;
  uint8_t last[2 * LANES];
  store_halves(last, load_first(x + i, n - i));
  for (int64_t b = 0; b < 2 * (n - i); ++b) out[2 * i + b] = last[b];
}

// The n first lanes of 16 binary16 values; zeros in the others.
PALO_INLINE Floats load_first_halves(const uint8_t* p, int64_t n) {
  uint8_t halves[2 * LANES] = {};
  for (int64_t b = 0; b < 2 * n; ++b) halves[b] = p[b];
  return load_halves(halves);
}

void from_halves(float* out, const uint8_t* x, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(out + i, load_halves(x + 2 * i));
  if (i < n) store_first(out + i, load_first_halves(x + 2 * i, n - i), n - i);
}

constexpr RowKernels ROW_KERNELS = {
    .rms_norm = rms_norm,
    .multiply = multiply,
    .swiglu = swiglu,
    .rotate_pairs = rotate_pairs,
    .to_halves = to_halves,
    .from_halves = from_halves,
};

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
