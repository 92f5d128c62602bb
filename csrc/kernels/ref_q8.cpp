// The int8 path of the portable instruction set: plain loops, in exactly the order that kernel_table.h prescribes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/ref.h"

namespace palo::ref {
namespace {

// Group of a quantized row: Q8_GROUP int8, then their scale.
struct RowGroup {
  int8_t values[Q8_GROUP];
  float scale;
};

// Group of a panel: [Q8_GROUP, Q8_PANEL_WIDTH] int8, then a scale per output; 17 times 64 bytes.
struct PanelGroup {
  int8_t values[Q8_GROUP][Q8_PANEL_WIDTH];
  float scales[Q8_PANEL_WIDTH];
};

static_assert(sizeof(RowGroup) == Q8_ROW_GROUP_BYTES && sizeof(PanelGroup) == Q8_PANEL_GROUP_BYTES);

int64_t n_groups_of(int64_t n_in) {
  return (n_in + Q8_GROUP - 1) / Q8_GROUP;
}

// For a smaller absmax 127 / absmax could overflow: such a group counts as zeros.
constexpr float SMALLEST_ABSMAX = 0x1p-120f;

// Quantizes n (at most Q8_GROUP) values into values [Q8_GROUP]; returns the scale.
float quantize_group(int8_t* values, const float* x, int64_t n) {
  std::memset(values, 0, Q8_GROUP);
  float absmax = 0.0f;
  for (int64_t i = 0; i < n; ++i) absmax = std::max(absmax, std::abs(x[i]));
  if (absmax < SMALLEST_ABSMAX) return 0.0f;
  const float inverse = 127.0f / absmax;
  for (int64_t i = 0; i < n; ++i) {
    // fmin and fmax turn a NaN into a number, which static_cast needs.
    values[i] = static_cast<int8_t>(std::fmax(std::fmin(std::nearbyint(x[i] * inverse), 127.0f), -127.0f));
  }
  return absmax / 127.0f;
}

void quantize_row(RowGroup* out, const float* x, int64_t n_in) {
  for (int64_t i = 0; i < n_in; i += Q8_GROUP, ++out) {
    out->scale = quantize_group(out->values, x + i, std::min(Q8_GROUP, n_in - i));
  }
}

// Sums of a group for every output of a panel.
void sum_group(int32_t* sums, const RowGroup& x, const PanelGroup& w) {
  std::fill_n(sums, Q8_PANEL_WIDTH, 0);
  for (int64_t i = 0; i < Q8_GROUP; ++i) {
    for (int64_t o = 0; o < Q8_PANEL_WIDTH; ++o) sums[o] += int32_t{x.values[i]} * w.values[i][o];
  }
}

void multiply_row(float* out, const RowGroup* x, const PanelGroup* panel, const float* bias, int64_t n_out,
                  int64_t n_groups) {
  float acc[Q8_PANEL_WIDTH] = {};
  for (int64_t g = 0; g < n_groups; ++g) {
    int32_t sums[Q8_PANEL_WIDTH];
    sum_group(sums, x[g], panel[g]);
    for (int64_t o = 0; o < Q8_PANEL_WIDTH; ++o) {
      acc[o] = std::fma(static_cast<float>(sums[o]), x[g].scale * panel[g].scales[o], acc[o]);
    }
  }
  for (int64_t o = 0; o < n_out; ++o) out[o] = bias == nullptr ? acc[o] : acc[o] + bias[o];
}

}  // namespace

void pack_q8_panel(uint8_t* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out, int64_t stride_in) {
  auto* group = reinterpret_cast<PanelGroup*>(panel);
  for (int64_t i = 0; i < n_in; i += Q8_GROUP, ++group) {
    const int64_t n = std::min(Q8_GROUP, n_in - i);
    std::memset(group, 0, sizeof(*group));
    for (int64_t o = 0; o < n_out; ++o) {
      float weights[Q8_GROUP];
      int8_t values[Q8_GROUP];
      for (int64_t k = 0; k < n; ++k) weights[k] = w[o * stride_out + (i + k) * stride_in];
      group->scales[o] = quantize_group(values, weights, n);
      for (int64_t k = 0; k < Q8_GROUP; ++k) group->values[k][o] = values[k];
    }
  }
}

void quantize_rows(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) {
  for (int64_t r = 0; r < n_rows; ++r) {
    quantize_row(reinterpret_cast<RowGroup*>(out) + r * n_groups_of(n_in), x + r * ldx, n_in);
  }
}

void layer_norm_q8(uint8_t* out, const float* x, const float* weight, const float* bias, int64_t n_rows, int64_t n_cols,
                   float eps) {
  auto* group = reinterpret_cast<RowGroup*>(out);
  for (int64_t r = 0; r < n_rows; ++r) {
    const RowMoments moments = row_moments(x + r * n_cols, n_cols, eps);
    for (int64_t c = 0; c < n_cols; c += Q8_GROUP, ++group) {
      const int64_t n = std::min(Q8_GROUP, n_cols - c);
      float normed[Q8_GROUP];
      normalize(normed, x + r * n_cols + c, weight + c, bias + c, n, moments);
      group->scale = quantize_group(group->values, normed, n);
    }
  }
}

void linear_q8(float* out, const uint8_t* x, const uint8_t* panels, const float* bias, int64_t n_rows, int64_t n_out,
               int64_t n_in, int64_t ldo) {
  const int64_t n_groups = n_groups_of(n_in);
  for (int64_t o = 0; o < n_out; o += Q8_PANEL_WIDTH) {
    const auto* panel =
        reinterpret_cast<const PanelGroup*>(panels + o * n_groups * Q8_PANEL_GROUP_BYTES / Q8_PANEL_WIDTH);
    for (int64_t r = 0; r < n_rows; ++r) {
      multiply_row(out + r * ldo + o, reinterpret_cast<const RowGroup*>(x) + r * n_groups, panel,
                   bias == nullptr ? nullptr : bias + o, std::min(Q8_PANEL_WIDTH, n_out - o), n_groups);
    }
  }
}

}  // namespace palo::ref
