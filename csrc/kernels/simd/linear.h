// Matrix product of floats (kernel_table.h: pack_panel, linear).
#pragma once

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t PANEL_WIDTH = PANEL_VECTORS * LANES;
// Each block of inputs is summed from zero and then added: shorter sums round less, and a panel's part, 16 KiB per 16
// outputs, stays in the first-level cache while all rows are multiplied.
constexpr int64_t DEPTH_BLOCK = 256;

// The panel [n_in, PANEL_WIDTH] is the transpose of w, copied in whole vectors where the outputs are contiguous.
void pack_panel(float* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out, int64_t stride_in) {
  if (stride_out == 1) {
    for (int64_t i = 0; i < n_in; ++i) {
      for (int64_t o = 0; o < PANEL_WIDTH; o += LANES) {
        const int64_t n = n_out - o;
        const float* at = w + i * stride_in + o;
        store(panel + i * PANEL_WIDTH + o, n >= LANES ? load(at) : n > 0 ? load_first(at, n) : set(0.0f));
      }
    }
    return;
  }
  for (int64_t i = 0; i < n_in; ++i) {
    for (int64_t o = 0; o < PANEL_WIDTH; ++o) {
      panel[i * PANEL_WIDTH + o] = o < n_out ? w[o * stride_out + i * stride_in] : 0.0f;
    }
  }
}

// out[r, o] (+)= sum of `depth` products, for ROWS rows and the n_cols first outputs of a panel; the first block of
// inputs starts from the bias (nullptr: zero), the others from the sums in `out`.
template <int64_t ROWS>
void multiply_tile(float* out, const float* x, const float* panel, const float* bias, bool is_first, int64_t n_cols,
                   int64_t depth, int64_t ldo, int64_t ldx) {
  Floats sums[ROWS][PANEL_VECTORS];
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) sums[r][v] = set(0.0f);
  }
  for (int64_t k = 0; k < depth; ++k) {
    Floats w[PANEL_VECTORS];
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) w[v] = load(panel + k * PANEL_WIDTH + v * LANES);
    for (int64_t r = 0; r < ROWS; ++r) {
      const Floats value = set(x[r * ldx + k]);
      for (int64_t v = 0; v < PANEL_VECTORS; ++v) sums[r][v] = fma(value, w[v], sums[r][v]);
    }
  }
  for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
    const int64_t n = n_cols - v * LANES;
    if (n <= 0) break;
    for (int64_t r = 0; r < ROWS; ++r) {
      float* at = out + r * ldo + v * LANES;
      const float* before = is_first ? bias + v * LANES : at;
      const bool is_zero = is_first && bias == nullptr;
      const Floats start = is_zero ? set(0.0f) : n >= LANES ? load(before) : load_first(before, n);
      n >= LANES ? store(at, start + sums[r][v]) : store_first(at, start + sums[r][v], n);
    }
  }
}

// Calls the instance of multiply_tile for n_rows, at most ROWS.
template <int64_t ROWS>
PALO_INLINE void multiply_rows(int64_t n_rows, float* out, const float* x, const float* panel, const float* bias,
                               bool is_first, int64_t n_cols, int64_t depth, int64_t ldo, int64_t ldx) {
  if constexpr (ROWS > 0) {
    if (n_rows >= ROWS) {
      multiply_tile<ROWS>(out, x, panel, bias, is_first, n_cols, depth, ldo, ldx);
    } else {
      multiply_rows<ROWS - 1>(n_rows, out, x, panel, bias, is_first, n_cols, depth, ldo, ldx);
    }
  }
}

void linear(float* out, const float* x, const float* panels, const float* bias, int64_t n_rows, int64_t n_out,
            int64_t n_in, int64_t ldo, int64_t ldx) {
  for (int64_t k = 0; k < n_in; k += DEPTH_BLOCK) {
    const int64_t depth = n_in - k < DEPTH_BLOCK ? n_in - k : DEPTH_BLOCK;
    for (int64_t o = 0; o < n_out; o += PANEL_WIDTH) {
      const float* panel = panels + o * n_in + k * PANEL_WIDTH;
      const float* panel_bias = bias == nullptr ? nullptr : bias + o;
      for (int64_t r = 0; r < n_rows; r += LINEAR_ROWS) {
        multiply_rows<LINEAR_ROWS>(n_rows - r, out + r * ldo + o, x + r * ldx + k, panel, panel_bias, k == 0, n_out - o,
                                   depth, ldo, ldx);
      }
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
