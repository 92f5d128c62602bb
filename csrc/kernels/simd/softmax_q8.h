// Softmax to int8 (kernel_table.h: Q8Kernels).
#pragma once

#include "kernels/simd/elementwise.h"
#include "kernels/simd/quantize.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// 2^f for |f| <= 1/2, relative error below 7.6e-5.
constexpr float EXP2_COEFFICIENTS[] = {0.99992806f, 0.69326097f, 0.24261113f, 0.055171669f};

// 2^x for x <= 0 as exact as int8 needs it: relative error below 1e-4 for x >= -126; NaN stays NaN.
PALO_INLINE Floats coarse_power_of_two(Floats x) {
  const Floats t = max(set(-126.0f), x);
  const Ints n = round_to_ints(t);
  return polynomial(t - to_floats(n), EXP2_COEFFICIENTS) * power_of_two(n);
}

// e[v] = 2^((x - largest) * factor) of up to GROUP values from x on, zeros after the first n.
template <int64_t GROUP>
PALO_INLINE void exponential_group(Floats e[GROUP / LANES], const float* x, int64_t n, Floats largest, Floats factor) {
  load_group<GROUP>(e, x, n);
  for (int64_t v = 0; v < GROUP / LANES; ++v) e[v] = coarse_power_of_two((e[v] - largest) * factor);
  if (n >= GROUP) return;
  float values[GROUP];
  for (int64_t v = 0; v < GROUP / LANES; ++v) store(values + v * LANES, e[v]);
  load_group<GROUP>(e, values, n);
}

template <int64_t GROUP>
void softmax_q8(uint8_t* out, const float* x, int64_t n_rows, int64_t n_cols, int64_t ldx, float scale) {
  using Layout = Q8Layout<GROUP>;
  constexpr float LOG2_E = 1.44269504f;
  const Floats factor = set(scale * LOG2_E);
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* row = x + r * ldx;
    const Floats largest = set(max_of_row(row, n_cols));
    Floats sums = set(0.0f);
    uint8_t* group = out;
    for (int64_t c = 0; c < n_cols; c += GROUP, group += Layout::ROW_GROUP_BYTES) {
      Floats e[GROUP / LANES];
      exponential_group<GROUP>(e, row + c, n_cols - c, largest, factor);
      for (int64_t v = 0; v < GROUP / LANES; ++v) sums = sums + e[v];
      quantize_group<GROUP>(group, e, largest_of<GROUP>(e));
    }
    const float inverse = 1.0f / sum_of_lanes(sums);
    for (; out < group; out += Layout::ROW_GROUP_BYTES) {
      const float divided = read_float(out + Layout::SCALE_AT) * inverse;
      __builtin_memcpy(out + Layout::SCALE_AT, &divided, sizeof(divided));
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
