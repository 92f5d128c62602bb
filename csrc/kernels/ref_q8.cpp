// The int8 path of the portable instruction set: plain loops, in exactly the order that kernel_table.h prescribes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/ref.h"

namespace palo::ref {
namespace {

constexpr int64_t PANEL_OUTPUTS = 16;

// Group of a quantized row: its int8 values, then their scale.
template <int64_t GROUP>
struct RowGroup {
  int8_t values[GROUP];
  float scale;
};

// Group of a panel: [GROUP, PANEL_OUTPUTS] int8, then a scale per output; a multiple of 64 bytes.
template <int64_t GROUP>
struct PanelGroup {
  int8_t values[GROUP][PANEL_OUTPUTS];
  float scales[PANEL_OUTPUTS];
};

// For a smaller absmax 127 / absmax could overflow: such a group counts as zeros.
constexpr float SMALLEST_ABSMAX = 0x1p-120f;

template <int64_t GROUP>
int64_t n_groups_of(int64_t n_in) {
  return (n_in + GROUP - 1) / GROUP;
}

// Quantizes n (at most GROUP) values into values [GROUP]; returns the scale.
template <int64_t GROUP>
float quantize_group(int8_t* values, const float* x, int64_t n) {
  std::memset(values, 0, GROUP);
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

// Returns the end of the row.
template <int64_t GROUP>
RowGroup<GROUP>* quantize_row(RowGroup<GROUP>* out, const float* x, int64_t n_in) {
  for (int64_t i = 0; i < n_in; i += GROUP, ++out) {
    out->scale = quantize_group<GROUP>(out->values, x + i, std::min(GROUP, n_in - i));
  }
  return out;
}

template <int64_t GROUP>
void quantize_rows(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) {
  auto* group = reinterpret_cast<RowGroup<GROUP>*>(out);
  for (int64_t r = 0; r < n_rows; ++r) group = quantize_row(group, x + r * ldx, n_in);
}

template <int64_t GROUP>
void layer_norm_q8(uint8_t* out, const float* x, const float* weight, const float* bias, int64_t n_rows, int64_t n_cols,
                   float eps) {
  auto* group = reinterpret_cast<RowGroup<GROUP>*>(out);
  for (int64_t r = 0; r < n_rows; ++r) {
    const RowMoments moments = row_moments(x + r * n_cols, n_cols, eps);
    for (int64_t c = 0; c < n_cols; c += GROUP, ++group) {
      const int64_t n = std::min(GROUP, n_cols - c);
      float normed[GROUP];
      normalize(normed, x + r * n_cols + c, weight + c, bias + c, n, moments);
      group->scale = quantize_group<GROUP>(group->values, normed, n);
    }
  }
}

template <int64_t GROUP>
void pack_q8_panel(uint8_t* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out, int64_t stride_in) {
  auto* group = reinterpret_cast<PanelGroup<GROUP>*>(panel);
  for (int64_t i = 0; i < n_in; i += GROUP, ++group) {
    const int64_t n = std::min(GROUP, n_in - i);
    std::memset(group, 0, sizeof(*group));
    for (int64_t o = 0; o < n_out; ++o) {
      float weights[GROUP];
      int8_t values[GROUP];
      for (int64_t k = 0; k < n; ++k) weights[k] = w[o * stride_out + (i + k) * stride_in];
      group->scales[o] = quantize_group<GROUP>(values, weights, n);
      for (int64_t k = 0; k < GROUP; ++k) group->values[k][o] = values[k];
    }
  }
}

// Sums of a group for every output of a panel.
template <int64_t GROUP>
void sum_group(int32_t* sums, const RowGroup<GROUP>& x, const PanelGroup<GROUP>& w) {
  std::fill_n(sums, PANEL_OUTPUTS, 0);
  for (int64_t i = 0; i < GROUP; ++i) {
    for (int64_t o = 0; o < PANEL_OUTPUTS; ++o) sums[o] += int32_t{x.values[i]} * w.values[i][o];
  }
}

template <int64_t GROUP>
void multiply_row(float* out, const RowGroup<GROUP>* x, const PanelGroup<GROUP>* panel, const float* bias,
                  int64_t n_out, int64_t n_groups) {
  float acc[PANEL_OUTPUTS] = {};
  for (int64_t g = 0; g < n_groups; ++g) {
    int32_t sums[PANEL_OUTPUTS];
    sum_group(sums, x[g], panel[g]);
    for (int64_t o = 0; o < PANEL_OUTPUTS; ++o) {
      acc[o] = std::fma(static_cast<float>(sums[o]), x[g].scale * panel[g].scales[o], acc[o]);
    }
  }
  for (int64_t o = 0; o < n_out; ++o) out[o] = bias == nullptr ? acc[o] : acc[o] + bias[o];
}

template <int64_t GROUP>
void linear_q8(float* out, const uint8_t* x, const uint8_t* panels, const float* bias, int64_t n_rows, int64_t n_out,
               int64_t n_in, int64_t ldo, Ahead) {
  const int64_t n_groups = n_groups_of<GROUP>(n_in);
  for (int64_t o = 0; o < n_out; o += PANEL_OUTPUTS) {
    const auto* panel = reinterpret_cast<const PanelGroup<GROUP>*>(panels) + o / PANEL_OUTPUTS * n_groups;
    for (int64_t r = 0; r < n_rows; ++r) {
      multiply_row(out + r * ldo + o, reinterpret_cast<const RowGroup<GROUP>*>(x) + r * n_groups, panel,
                   bias == nullptr ? nullptr : bias + o, std::min(PANEL_OUTPUTS, n_out - o), n_groups);
    }
  }
}

// Softmax of scale * x [n_rows, n_cols], quantized.
template <int64_t GROUP>
void softmax_q8(RowGroup<GROUP>* group, const float* x, int64_t n_rows, int64_t n_cols, float scale) {
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* row = x + r * n_cols;
    const float max = scale * *std::max_element(row, row + n_cols);
    double sum = 0.0;
    auto* first = group;
    for (int64_t c = 0; c < n_cols; c += GROUP, ++group) {
      const int64_t n = std::min(GROUP, n_cols - c);
      float values[GROUP];
      for (int64_t i = 0; i < n; ++i) sum += values[i] = std::exp(scale * row[c + i] - max);
      group->scale = quantize_group<GROUP>(group->values, values, n);
    }
    for (; first < group; ++first) first->scale *= static_cast<float>(1.0 / sum);
  }
}

template <int64_t GROUP>
void attention_weights_q8(uint8_t* out, const uint8_t* x, const uint8_t* panels, float* scratch, int64_t n_rows,
                          int64_t n_out, int64_t n_in, float scale) {
  linear_q8<GROUP>(scratch, x, panels, nullptr, n_rows, n_out, n_in, n_out, {});
  softmax_q8(reinterpret_cast<RowGroup<GROUP>*>(out), scratch, n_rows, n_out, scale);
}

}  // namespace

template <int64_t GROUP>
Q8Kernels q8_kernels() {
  static_assert(sizeof(PanelGroup<GROUP>) % 64 == 0);
  return {
      .group = GROUP,
      .panel_width = PANEL_OUTPUTS,
      .panel_group_bytes = sizeof(PanelGroup<GROUP>),
      .row_group_bytes = sizeof(RowGroup<GROUP>),
      .pack_panel = pack_q8_panel<GROUP>,
      .quantize_rows = quantize_rows<GROUP>,
      .layer_norm = layer_norm_q8<GROUP>,
      .attention_weights = attention_weights_q8<GROUP>,
      .linear = linear_q8<GROUP>,
  };
}

template Q8Kernels q8_kernels<Q8_GROUP>();
template Q8Kernels q8_kernels<Q8_WIDE_GROUP>();

}  // namespace palo::ref
