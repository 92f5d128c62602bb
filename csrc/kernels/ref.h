// Kernels of the portable instruction set "ref"; kernel_table.h documents each of them.
#pragma once

#include "kernels/kernel_table.h"

namespace palo::ref {

inline constexpr int64_t PANEL_WIDTH = 8;

void pack_panel(float* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out, int64_t stride_in);
void linear(float* out, const float* x, const float* panels, const float* bias, int64_t n_rows, int64_t n_out,
            int64_t n_in, int64_t ldo, int64_t ldx);

}  // namespace palo::ref
