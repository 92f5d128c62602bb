// Matrix product of int8 (kernel_table.h: linear_q8).
#pragma once

#include "kernels/simd/quantize.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// Number of groups that are multiplied before the next tile of rows: the panel's part, 17 KiB per 16 outputs, stays in
// the first-level cache while all rows are multiplied. Sums are kept in `out` meanwhile, which is exact, so no result
// depends on this number.
constexpr int64_t Q8_BLOCK_GROUPS = 16;

// What all tiles of one call share.
struct Q8Product {
  int64_t n_groups, ldo;
  int64_t row_bytes() const { return n_groups * Q8_ROW_GROUP_BYTES; }
};

PALO_INLINE float read_float(const uint8_t* p) {
  float x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
PALO_INLINE int32_t read_int(const uint8_t* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}

// sums[r][v] = integer dot products of a group of ROWS rows, row_bytes apart, with a panel's group of weights.
template <int64_t ROWS>
PALO_INLINE void multiply_group(Ints sums[ROWS][PANEL_VECTORS], const uint8_t* x, const uint8_t* weights,
                                int64_t row_bytes) {
  for (int64_t r = 0; r < ROWS; ++r) {
    const Ints start = set_ints(HAS_OFFSET ? read_int(x + r * row_bytes + Q8_START_AT) : 0);
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) sums[r][v] = start;
  }
  for (int64_t k = 0; k < Q8_GROUP; k += Q8_STEP) {
    Q8Weights w[PANEL_VECTORS];
    for (int64_t v = 0; v < PANEL_VECTORS; ++v)
      w[v] = load_q8_weights(weights + (k * PANEL_VECTORS + v * Q8_STEP) * LANES);
    for (int64_t r = 0; r < ROWS; ++r) {
      const Q8Input input = load_q8_input(x + r * row_bytes + k * Q8_INPUT_BYTES);
      for (int64_t v = 0; v < PANEL_VECTORS; ++v) add_dot(sums[r][v], w[v], input);
    }
  }
}

// totals[r][v] = fma(float(sums), scale of the row's group * scales of the panel's group, totals)
template <int64_t ROWS>
PALO_INLINE void add_group(Floats totals[ROWS][PANEL_VECTORS], const Ints sums[ROWS][PANEL_VECTORS], const uint8_t* x,
                           const uint8_t* scales, int64_t row_bytes) {
  for (int64_t r = 0; r < ROWS; ++r) {
    const Floats scale = set(read_float(x + r * row_bytes + Q8_SCALE_AT));
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
      const Floats scale_w = load(reinterpret_cast<const float*>(scales) + v * LANES);
      totals[r][v] = fma(to_floats(sums[r][v]), scale * scale_w, totals[r][v]);
    }
  }
}

// Groups [g_begin, g_end) of ROWS rows x one panel, n_cols of whose outputs exist; out continues where g_begin > 0.
template <int64_t ROWS>
void multiply_q8_tile(float* out, const uint8_t* x, const uint8_t* panel, const float* bias, int64_t n_cols,
                      int64_t g_begin, int64_t g_end, const Q8Product& product) {
  Floats totals[ROWS][PANEL_VECTORS];
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
      const int64_t n = n_cols - v * LANES;
      const float* at = out + r * product.ldo + v * LANES;
      totals[r][v] = g_begin == 0 || n <= 0 ? set(0.0f) : n >= LANES ? load(at) : load_first(at, n);
    }
  }
  for (int64_t g = g_begin; g < g_end; ++g) {
    Ints sums[ROWS][PANEL_VECTORS];
    const uint8_t* weights = panel + g * Q8_PANEL_GROUP_BYTES;
    const uint8_t* group = x + g * Q8_ROW_GROUP_BYTES;
    if constexpr (!Q8_SUMS_IN_REGISTERS) PALO_KEEP_IN_MEMORY(totals);
    multiply_group<ROWS>(sums, group, weights, product.row_bytes());
    add_group<ROWS>(totals, sums, group, weights + Q8_WEIGHT_BYTES, product.row_bytes());
  }
  for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
    const int64_t n = n_cols - v * LANES;
    if (n <= 0) break;
    const bool has_bias = bias != nullptr && g_end == product.n_groups;
    const Floats b = !has_bias ? set(0.0f) : n >= LANES ? load(bias + v * LANES) : load_first(bias + v * LANES, n);
    for (int64_t r = 0; r < ROWS; ++r) {
      float* at = out + r * product.ldo + v * LANES;
      const Floats total = has_bias ? totals[r][v] + b : totals[r][v];
      n >= LANES ? store(at, total) : store_first(at, total, n);
    }
  }
}

// Tiles of fewer rows than Q8_ROWS, for the last rows: calls the instance for n_rows.
template <int64_t ROWS>
void multiply_last_rows(int64_t n_rows, float* out, const uint8_t* x, const uint8_t* panel, const float* bias,
                        int64_t n_cols, int64_t g_begin, int64_t g_end, const Q8Product& product) {
  if constexpr (ROWS > 0) {
    if (n_rows == ROWS) {
      multiply_q8_tile<ROWS>(out, x, panel, bias, n_cols, g_begin, g_end, product);
    } else {
      multiply_last_rows<ROWS - 1>(n_rows, out, x, panel, bias, n_cols, g_begin, g_end, product);
    }
  }
}

void linear_q8(float* out, const uint8_t* x, const uint8_t* panels, const float* bias, int64_t n_rows, int64_t n_out,
               int64_t n_in, int64_t ldo) {
  const Q8Product product{q8_groups(n_in), ldo};
  for (int64_t o = 0; o < n_out; o += Q8_WIDTH) {
    const uint8_t* panel = panels + o / Q8_WIDTH * product.n_groups * Q8_PANEL_GROUP_BYTES;
    const float* panel_bias = bias == nullptr ? nullptr : bias + o;
    for (int64_t g = 0; g < product.n_groups; g += Q8_BLOCK_GROUPS) {
      const int64_t end = g + Q8_BLOCK_GROUPS < product.n_groups ? g + Q8_BLOCK_GROUPS : product.n_groups;
      for (int64_t r = 0; r < n_rows; r += Q8_ROWS) {
        multiply_last_rows<Q8_ROWS>(n_rows - r < Q8_ROWS ? n_rows - r : Q8_ROWS, out + r * ldo + o,
                                    x + r * product.row_bytes(), panel, panel_bias, n_out - o, g, end, product);
      }
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
