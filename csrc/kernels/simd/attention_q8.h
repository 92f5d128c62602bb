// Attention's weights as int8: the softmax of a product (kernel_table.h: Q8Kernels).
//
// Scores never become a matrix: a tile of them, as wide as a group, goes from the product to int8. Exponentials are
// relative to the group's largest score, so that a group's largest weight is 127. The groups' scales make them weights
// of the row, when all of its groups are known.
#pragma once

#include "kernels/simd/elementwise.h"
#include "kernels/simd/linear_q8.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// 127 * 2^f for |f| <= 1/2, relative error below 3e-6; exactly 127 for f = 0.
constexpr float EXP2_COEFFICIENTS[] = {127.0f, 127 * 0.69312418f, 127 * 0.24024099f, 127 * 0.055906426f,
                                       127 * 0.009582853f};

// Behind the last score.
constexpr float NO_SCORE = -3e38f;

// 127 * 2^x for x <= 0, relative error below 4e-6 for x >= -126; NaN stays NaN.
PALO_INLINE Floats int8_power_of_two(Floats x) {
  const Floats t = max(set(-126.0f), x);
  const Ints n = round_to_ints(t);
  return times_power_of_two(polynomial(t - to_floats(n), EXP2_COEFFICIENTS), n);
}

// Scales of a row's groups: exp(scale * (largest - row's largest)) / row's sum. largest [n_groups] is overwritten; sums
// [n_groups][LANES].
template <int64_t GROUP>
PALO_INLINE void scale_groups(uint8_t* row, float* largest, const float* sums, int64_t n_groups, float scale) {
  const Floats of_row = set(max_of_row(largest, n_groups));
  for_each(largest, n_groups, [&](Floats of_group) {
    const Floats e = exponential((of_group - of_row) * set(scale));
    // What is that small counts as zero: products with it would be denormal, which takes processors long.
    return where_negative(e - set(Q8_SMALLEST), set(0.0f), e);
  });
  Floats total = set(0.0f);
  for (int64_t g = 0; g < n_groups; ++g) total = fma(set(largest[g]), load(sums + g * LANES), total);
  const float inverse = 1.0f / sum_of_lanes(total);
  for (int64_t g = 0; g < n_groups; ++g) {
    const float of_group = largest[g] * inverse;
    __builtin_memcpy(row + g * Q8Layout<GROUP>::ROW_GROUP_BYTES + Q8Layout<GROUP>::SCALE_AT, &of_group, 4);
  }
}

// Scores [n_rows, GROUP] of one group of outputs, the n that there are and NO_SCORE behind them.
template <int64_t GROUP>
PALO_INLINE void multiply_scores(float* scores, const uint8_t* x, const uint8_t* panels, int64_t n_rows, int64_t n,
                                 const Q8Product& product) {
  if (n < GROUP) {
    for (int64_t i = 0; i < n_rows * GROUP; i += LANES) store(scores + i, set(NO_SCORE));
  }
  const int64_t panel_bytes = Q8Layout<GROUP>::n_groups(product.n_in) * Q8Layout<GROUP>::PANEL_GROUP_BYTES;
  for (int64_t o = 0; o < GROUP && o < n; o += Q8_WIDTH, panels += panel_bytes) {
    const auto multiply = n - o > LANES ? multiply_q8_rows<GROUP, Q8_VECTORS> : multiply_q8_rows<GROUP, 1>;
    multiply(n_rows, scores + o, x, panels, nullptr, n - o, 0, product.n_in, product);
  }
}

// One group of each of n_rows rows, the first VECTORS vectors of whose scores exist: writes 127 * exp(scale * (score -
// the group's largest)), zeros after them; `largest` and `sums` are of this group. The steps take one row after the
// other, so that none of them waits for a reduction.
template <int64_t GROUP, int64_t VECTORS>
void weigh_column(uint8_t* out, float* largest, float* sums, const float* scores, int64_t n_rows, int64_t n_groups,
                  Floats factor) {
  const int64_t row_bytes = n_groups * Q8Layout<GROUP>::ROW_GROUP_BYTES;
  for (int64_t r = 0; r < n_rows; ++r) {
    Floats x[VECTORS];
    for (int64_t v = 0; v < VECTORS; ++v) x[v] = load(scores + r * GROUP + v * LANES);
    largest[r * n_groups] = max_of_lanes(largest_of<VECTORS>(x));
  }
  Ints of_rows[Q8_ROWS];
  for (int64_t r = 0; r < n_rows; ++r) {
    Floats sum = set(0.0f);
    Ints q[GROUP / LANES];
    for (int64_t v = 0; v < GROUP / LANES; ++v) {
      if (v >= VECTORS) {
        q[v] = set_ints(0);
        continue;
      }
      const Floats e = int8_power_of_two((load(scores + r * GROUP + v * LANES) - set(largest[r * n_groups])) * factor);
      sum = sum + e;
      q[v] = round_to_ints(e);
    }
    of_rows[r] = store_q8_inputs_of<GROUP>(out + r * row_bytes, q);
    store(sums + r * n_groups * LANES, sum);
  }
  for (int64_t r = 0; r < n_rows; ++r) store_start<GROUP>(out + r * row_bytes, of_rows[r]);
}

// One tile of rows. Scratch: [n_rows][n_groups] largest scores, [n_rows][n_groups][LANES] sums.
template <int64_t GROUP>
void weigh_tile(uint8_t* out, const uint8_t* x, const uint8_t* panels, float* scratch, int64_t n_rows, int64_t n_out,
                float scale, const Q8Product& product) {
  using Layout = Q8Layout<GROUP>;
  const int64_t n_groups = Layout::n_groups(n_out);
  const int64_t group_bytes = Layout::n_groups(product.n_in) * Layout::PANEL_GROUP_BYTES * GROUP / Q8_WIDTH;
  const Floats factor = set(scale * 1.44269504f);
  float *largest = scratch, *sums = scratch + n_rows * n_groups;
  float scores[Q8_ROWS * GROUP];
  for (int64_t g = 0; g < n_groups; ++g) {
    const int64_t n = n_out - g * GROUP;
    multiply_scores<GROUP>(scores, x, panels + g * group_bytes, n_rows, n, product);
    const auto weigh = n > LANES ? weigh_column<GROUP, GROUP / LANES> : weigh_column<GROUP, 1>;
    weigh(out + g * Layout::ROW_GROUP_BYTES, largest + g, sums + g * LANES, scores, n_rows, n_groups, factor);
  }
  for (int64_t r = 0; r < n_rows; ++r) {
    const int64_t i = r * n_groups;
    scale_groups<GROUP>(out + i * Layout::ROW_GROUP_BYTES, largest + i, sums + i * LANES, n_groups, scale);
  }
}

template <int64_t GROUP>
void attention_weights_q8(uint8_t* out, const uint8_t* x, const uint8_t* panels, float* scratch, int64_t n_rows,
                          int64_t n_out, int64_t n_in, float scale) {
  using Layout = Q8Layout<GROUP>;
  LinesAhead<Cache::SECOND> none({}, 1);
  const Q8Product product{n_in, Layout::n_groups(n_in) * Layout::ROW_GROUP_BYTES, GROUP, none};
  const int64_t out_bytes = Layout::n_groups(n_out) * Layout::ROW_GROUP_BYTES;
  for (int64_t r = 0; r < n_rows; r += Q8_ROWS) {
    const int64_t n = n_rows - r < Q8_ROWS ? n_rows - r : Q8_ROWS;
    weigh_tile<GROUP>(out + r * out_bytes, x + r * product.row_bytes, panels, scratch, n, n_out, scale, product);
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
