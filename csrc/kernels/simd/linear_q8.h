// Matrix product of int8 (kernel_table.h: Q8Kernels).
#pragma once

#include "kernels/simd/lines_ahead.h"
#include "kernels/simd/quantize.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// Inputs that are multiplied before the next tile of rows: the panel's part, 17 KiB per 16 outputs, stays in cache
// while all rows are multiplied. Sums are kept in `out` meanwhile, which is exact, so no result depends on this number.
constexpr int64_t Q8_BLOCK = 1024;

// Steps of the unrolled loop. The last group of a row runs only as many as it has inputs.
constexpr int64_t Q8_UNROLLED = 4;
constexpr bool Q8_TOTALS_IN_MEMORY = !Q8_SUMS_IN_REGISTERS || Q8_VECTORS > PANEL_VECTORS;

// What all tiles of one call share.
struct Q8Product {
  int64_t n_in, row_bytes, ldo;
  LinesAhead<Cache::SECOND>& ahead;
};

PALO_INLINE int32_t read_int(const uint8_t* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}

// sums[r][v] = integer dot products of a group of ROWS rows, row_bytes apart, with a panel's group of weights, the
// first n_in inputs of each.
template <int64_t GROUP, int64_t ROWS, int64_t VECTORS>
PALO_INLINE void multiply_group(Ints sums[ROWS][VECTORS], const uint8_t* x, const uint8_t* weights, int64_t n_in,
                                int64_t row_bytes) {
  for (int64_t r = 0; r < ROWS; ++r) {
    const Ints start = set_ints(HAS_OFFSET ? read_int(x + r * row_bytes + Q8Layout<GROUP>::START_AT) : 0);
    for (int64_t v = 0; v < VECTORS; ++v) sums[r][v] = start;
  }
  for (int64_t k = 0; k < n_in; k += Q8_UNROLLED * Q8_STEP) {
    PALO_UNROLL
    for (int64_t step = 0; step < Q8_UNROLLED; ++step) {
      const int64_t i = k + step * Q8_STEP;
      Q8Weights w[VECTORS];
      for (int64_t v = 0; v < VECTORS; ++v) w[v] = load_q8_weights(weights + (i * Q8_VECTORS + v * Q8_STEP) * LANES);
      for (int64_t r = 0; r < ROWS; ++r) {
        const Q8Input input = load_q8_input(x + r * row_bytes + i * Q8_INPUT_BYTES);
        for (int64_t v = 0; v < VECTORS; ++v) add_dot(sums[r][v], w[v], input);
      }
    }
  }
}

// totals[r][v] = fma(float(sums), scale of the row's group * scales of the panel's group, totals)
template <int64_t GROUP, int64_t ROWS, int64_t VECTORS>
PALO_INLINE void add_group(Floats totals[ROWS][VECTORS], const Ints sums[ROWS][VECTORS], const uint8_t* x,
                           const uint8_t* scales, int64_t row_bytes) {
  for (int64_t r = 0; r < ROWS; ++r) {
    const Floats scale = set(read_float(x + r * row_bytes + Q8Layout<GROUP>::SCALE_AT));
    for (int64_t v = 0; v < VECTORS; ++v) {
      const Floats scale_w = load(reinterpret_cast<const float*>(scales) + v * LANES);
      totals[r][v] = fma(to_floats(sums[r][v]), scale * scale_w, totals[r][v]);
    }
  }
}

// Inputs [begin, end) of ROWS rows x the first VECTORS vectors of one panel, n_cols of whose outputs exist; out
// continues where begin > 0.
template <int64_t GROUP, int64_t ROWS, int64_t VECTORS>
void multiply_q8_tile(float* out, const uint8_t* x, const uint8_t* panel, const float* bias, int64_t n_cols,
                      int64_t begin, int64_t end, const Q8Product& product) {
  using Layout = Q8Layout<GROUP>;
  Floats totals[ROWS][VECTORS];
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < VECTORS; ++v) {
      const int64_t n = n_cols - v * LANES;
      const float* at = out + r * product.ldo + v * LANES;
      totals[r][v] = begin == 0 || n <= 0 ? set(0.0f) : n >= LANES ? load(at) : load_first(at, n);
    }
  }
  for (int64_t i = begin; i < end; i += GROUP) {
    Ints sums[ROWS][VECTORS];
    const uint8_t* weights = panel + i / GROUP * Layout::PANEL_GROUP_BYTES;
    const uint8_t* group = x + i / GROUP * Layout::ROW_GROUP_BYTES;
    product.ahead.ask();
    if constexpr (Q8_TOTALS_IN_MEMORY) PALO_KEEP_IN_MEMORY(totals);
    multiply_group<GROUP, ROWS>(sums, group, weights, end - i < GROUP ? end - i : GROUP, product.row_bytes);
    add_group<GROUP, ROWS>(totals, sums, group, weights + Layout::WEIGHT_BYTES, product.row_bytes);
  }
  for (int64_t v = 0; v < VECTORS; ++v) {
    const int64_t n = n_cols - v * LANES;
    if (n <= 0) break;
    const bool has_bias = bias != nullptr && end == product.n_in;
    const Floats b = !has_bias ? set(0.0f) : n >= LANES ? load(bias + v * LANES) : load_first(bias + v * LANES, n);
    for (int64_t r = 0; r < ROWS; ++r) {
      float* at = out + r * product.ldo + v * LANES;
      const Floats total = has_bias ? totals[r][v] + b : totals[r][v];
      n >= LANES ? store(at, total) : store_first(at, total, n);
    }
  }
}

// Calls the instance for n_rows, which are fewer than Q8_ROWS in the last tile.
template <int64_t GROUP, int64_t VECTORS, int64_t ROWS = Q8_ROWS>
void multiply_q8_rows(int64_t n_rows, float* out, const uint8_t* x, const uint8_t* panel, const float* bias,
                      int64_t n_cols, int64_t begin, int64_t end, const Q8Product& product) {
  if constexpr (ROWS > 0) {
    if (n_rows == ROWS) {
      multiply_q8_tile<GROUP, ROWS, VECTORS>(out, x, panel, bias, n_cols, begin, end, product);
    } else {
      multiply_q8_rows<GROUP, VECTORS, ROWS - 1>(n_rows, out, x, panel, bias, n_cols, begin, end, product);
    }
  }
}

template <int64_t GROUP>
void linear_q8(float* out, const uint8_t* x, const uint8_t* panels, const float* bias, int64_t n_rows, int64_t n_out,
               int64_t n_in, int64_t ldo, Ahead ahead) {
  using Layout = Q8Layout<GROUP>;
  const int64_t n_groups = Layout::n_groups(n_in);
  const int64_t n_tiles = (n_rows + Q8_ROWS - 1) / Q8_ROWS * ((n_out + Q8_WIDTH - 1) / Q8_WIDTH);
  LinesAhead<Cache::SECOND> lines(ahead, n_tiles * n_groups);
  const Q8Product product{n_in, n_groups * Layout::ROW_GROUP_BYTES, ldo, lines};
  for (int64_t o = 0; o < n_out; o += Q8_WIDTH) {
    const uint8_t* panel = panels + o / Q8_WIDTH * n_groups * Layout::PANEL_GROUP_BYTES;
    const float* panel_bias = bias == nullptr ? nullptr : bias + o;
    // A last panel of few outputs: 577 keys leave one.
    const auto multiply = n_out - o > LANES ? multiply_q8_rows<GROUP, Q8_VECTORS> : multiply_q8_rows<GROUP, 1>;
    for (int64_t i = 0; i < n_in; i += Q8_BLOCK) {
      const int64_t end = i + Q8_BLOCK < n_in ? i + Q8_BLOCK : n_in;
      for (int64_t r = 0; r < n_rows; r += Q8_ROWS) {
        multiply(n_rows - r < Q8_ROWS ? n_rows - r : Q8_ROWS, out + r * ldo + o, x + r * product.row_bytes, panel,
                 panel_bias, n_out - o, i, end, product);
      }
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
