// Kernels of the portable instruction set "ref"; kernel_table.h documents each of them.
#pragma once

#include "kernels/kernel_table.h"

namespace palo::ref {

inline constexpr int64_t PANEL_WIDTH = 8;

void pack_panel(float* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out, int64_t stride_in);
void linear(float* out, const float* x, const float* panels, const float* bias, int64_t n_rows, int64_t n_out,
            int64_t n_in, int64_t ldo, int64_t ldx);

template <int64_t GROUP>  // Q8_GROUP or Q8_WIDE_GROUP
Q8Kernels q8_kernels();
const BlockKernels* block_kernels();  // [N_BLOCK_TYPES]
const RowKernels& row_kernels();
const PixelKernels& pixel_kernels();
const CacheAttention& cache_attention();

// LayerNorm's statistics of one row.
struct RowMoments {
  double mean;
  double scale;  // 1 / sqrt(variance + eps)
};
RowMoments row_moments(const float* x, int64_t n_cols, float eps);

// out[c] = (x[c] - mean) * scale * weight[c] + bias[c] for c in [0, n).
void normalize(float* out, const float* x, const float* weight, const float* bias, int64_t n,
               const RowMoments& moments);

}  // namespace palo::ref
