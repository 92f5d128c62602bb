// Products with f16 weights (block_kernels.h: "F16"): f32 arithmetic, activations unchanged.
#pragma once

#include "kernels/simd/block_product.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t F16_INPUT_BYTES = 2 * BLOCK_PANEL_WIDTH;  // of a panel, per input

int64_t f16_row_bytes(int64_t n_in) {
  return (n_in * int64_t{sizeof(float)} + 63) / 64 * 64;
}

void copy_rows(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) {
  const int64_t n_used = n_in * int64_t{sizeof(float)}, row_bytes = f16_row_bytes(n_in);
  for (int64_t r = 0; r < n_rows; ++r) {
    __builtin_memcpy(out + r * row_bytes, x + r * ldx, n_used);
    __builtin_memset(out + r * row_bytes + n_used, 0, row_bytes - n_used);
  }
}

struct F16Product {
  int64_t n_in, ldx, ldo;
};

// The weights of input i: f16 in the panel, or f32 in a piece of F16_SUM inputs.
struct F16Panel {
  const uint8_t* at;
  PALO_INLINE Floats weights(int64_t i, int64_t v) const {
    return load_halves(at + i * F16_INPUT_BYTES + v * LANES * 2);
  }
  PALO_INLINE void prefetch(int64_t i) const { __builtin_prefetch(at + PREFETCH_BYTES + i * F16_INPUT_BYTES); }
};
struct F32Piece {
  const float* at;
  PALO_INLINE Floats weights(int64_t i, int64_t v) const { return load(at + i * BLOCK_PANEL_WIDTH + v * LANES); }
  PALO_INLINE void prefetch(int64_t) const {}
};

// n (at most F16_SUM) inputs of ROWS rows x PANEL_VECTORS vectors; `out` continues unless is_first.
template <int64_t ROWS, typename Weights>
void multiply_f16_tile(float* out, const float* x, Weights weights, int64_t v_begin, int64_t n_cols, int64_t n,
                       bool is_first, const F16Product& product) {
  Floats sums[ROWS][PANEL_VECTORS];
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) sums[r][v] = set(0.0f);
  }
  for (int64_t i = 0; i < n; ++i) {
    weights.prefetch(i);
    Floats w[PANEL_VECTORS];
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) w[v] = weights.weights(i, v_begin + v);
    for (int64_t r = 0; r < ROWS; ++r) {
      const Floats input = set(x[r * product.ldx + i]);
      for (int64_t v = 0; v < PANEL_VECTORS; ++v) sums[r][v] = fma(input, w[v], sums[r][v]);
    }
  }
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
      float* at = out + r * product.ldo + v * LANES;
      const Floats before = is_first ? set(0.0f) : load_outputs(at, n_cols - v * LANES);
      store_outputs(at, before + sums[r][v], n_cols - v * LANES);
    }
  }
}

template <int64_t ROWS, typename Weights>
void multiply_f16_rows(int64_t n_rows, float* out, const float* x, Weights weights, int64_t v_begin, int64_t n_cols,
                       int64_t n, bool is_first, const F16Product& product) {
  if constexpr (ROWS > 0) {
    if (n_rows == ROWS) {
      multiply_f16_tile<ROWS>(out, x, weights, v_begin, n_cols, n, is_first, product);
    } else {
      multiply_f16_rows<ROWS - 1>(n_rows, out, x, weights, v_begin, n_cols, n, is_first, product);
    }
  }
}

// Inputs [begin, begin + n) of n_rows rows x one panel.
template <typename Weights>
void multiply_f16_panel(float* out, const float* x, Weights weights, int64_t n_rows, int64_t n_cols, int64_t n,
                        bool is_first, const F16Product& product) {
  for (int64_t v = 0; v < BLOCK_VECTORS && v * LANES < n_cols; v += PANEL_VECTORS) {
    for (int64_t r = 0; r < n_rows; r += LINEAR_ROWS) {
      multiply_f16_rows<LINEAR_ROWS>(n_rows - r < LINEAR_ROWS ? n_rows - r : LINEAR_ROWS,
                                     out + r * product.ldo + v * LANES, x + r * product.ldx, weights, v,
                                     n_cols - v * LANES, n, is_first, product);
    }
  }
}

void multiply_f16_piece(float* out, const float* x, const uint8_t* panel, int64_t n_rows, int64_t n_cols, int64_t n,
                        bool is_first, const F16Product& product) {
  if (n_rows <= LINEAR_ROWS) {
    multiply_f16_panel(out, x, F16Panel{panel}, n_rows, n_cols, n, is_first, product);
    return;
  }
  alignas(64) float piece[F16_SUM * BLOCK_PANEL_WIDTH];
  for (int64_t i = 0; i < n; ++i) {
    F16Panel{panel}.prefetch(i);
    for (int64_t v = 0; v < BLOCK_VECTORS; ++v) {
      store(piece + i * BLOCK_PANEL_WIDTH + v * LANES, F16Panel{panel}.weights(i, v));
    }
  }
  multiply_f16_panel(out, x, F32Piece{piece}, n_rows, n_cols, n, is_first, product);
}

void multiply_f16(float* out, const uint8_t* x, const uint8_t* panels, int64_t n_rows, int64_t n_out, int64_t n_in,
                  int64_t ldo) {
  const F16Product product{n_in, f16_row_bytes(n_in) / int64_t{sizeof(float)}, ldo};
  for (int64_t o = 0; o < n_out; o += BLOCK_PANEL_WIDTH) {
    const uint8_t* panel = panels + o / BLOCK_PANEL_WIDTH * n_in * F16_INPUT_BYTES;
    for (int64_t i = 0; i < n_in; i += F16_SUM) {
      multiply_f16_piece(out + o, reinterpret_cast<const float*>(x) + i, panel + i * F16_INPUT_BYTES, n_rows, n_out - o,
                         n_in - i < F16_SUM ? n_in - i : F16_SUM, i == 0, product);
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
