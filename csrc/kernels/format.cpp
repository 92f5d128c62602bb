#include "kernels/format.h"

#include <algorithm>
#include <cstring>

namespace palo {
namespace {

float* floats(uint8_t* bytes) {
  return reinterpret_cast<float*>(bytes);
}

const float* floats(const uint8_t* bytes) {
  return reinterpret_cast<const float*>(bytes);
}

}  // namespace

int64_t Format::panel_bytes(int64_t n_in) const {
  const int64_t float_bytes = kernels_.panel_width * static_cast<int64_t>(sizeof(float));
  return n_groups(n_in) * (q8_ != nullptr ? q8_->panel_group_bytes : float_bytes);
}

int64_t Format::panels_bytes(int64_t n_out, int64_t n_in) const {
  return (n_out + panel_width() - 1) / panel_width() * panel_bytes(n_in);
}

void Format::write_rows(uint8_t* rows, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) const {
  if (q8_ != nullptr) return q8_->quantize_rows(rows, x, n_rows, n_in, ldx);
  for (int64_t r = 0; r < n_rows; ++r) std::copy_n(x + r * ldx, n_in, floats(rows) + r * n_in);
}

void Format::write_columns(uint8_t* rows, int64_t n_in, int64_t col, const float* x, int64_t n_rows, int64_t n_cols,
                           int64_t ldx) const {
  uint8_t* out = rows + row_bytes(col);
  for (int64_t r = 0; r < n_rows; ++r) write_rows(out + r * row_bytes(n_in), x + r * ldx, 1, n_cols, ldx);
}

void Format::attention_weights(uint8_t* weights, const uint8_t* rows, const uint8_t* panels, float* scratch,
                               int64_t n_rows, int64_t n_out, int64_t n_in, float scale) const {
  if (q8_ != nullptr) return q8_->attention_weights(weights, rows, panels, scratch, n_rows, n_out, n_in, scale);
  linear(floats(weights), rows, panels, nullptr, n_rows, n_out, n_in, n_out);
  kernels_.softmax(floats(weights), n_rows, n_out, n_out, scale);
}

void Format::layer_norm_rows(uint8_t* rows, const float* x, const float* weight, const float* bias, int64_t n_rows,
                             int64_t n_cols, float eps) const {
  if (q8_ != nullptr) return q8_->layer_norm(rows, x, weight, bias, n_rows, n_cols, eps);
  kernels_.layer_norm(floats(rows), x, weight, bias, n_rows, n_cols, eps);
}

void Format::pack_panels(uint8_t* panels, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out,
                         int64_t stride_in) const {
  pack_inputs(panels, n_in, 0, w, n_out, n_in, stride_out, stride_in);
}

void Format::pack_inputs(uint8_t* panels, int64_t n_in, int64_t input, const float* w, int64_t n_out, int64_t n,
                         int64_t stride_out, int64_t stride_in) const {
  for (int64_t o = 0; o < n_out; o += panel_width()) {
    uint8_t* part = panels + o / panel_width() * panel_bytes(n_in) + panel_bytes(input);
    const float* first = w + o * stride_out;
    const int64_t n_outputs = std::min(panel_width(), n_out - o);
    if (q8_ != nullptr) {
      q8_->pack_panel(part, first, n_outputs, n, stride_out, stride_in);
    } else {
      kernels_.pack_panel(floats(part), first, n_outputs, n, stride_out, stride_in);
    }
  }
}

void Format::linear(float* out, const uint8_t* rows, const uint8_t* panels, const float* bias, int64_t n_rows,
                    int64_t n_out, int64_t n_in, int64_t ldo, Ahead ahead) const {
  if (q8_ != nullptr) return q8_->linear(out, rows, panels, bias, n_rows, n_out, n_in, ldo, ahead);
  kernels_.linear(out, floats(rows), floats(panels), bias, n_rows, n_out, n_in, ldo, n_in);
}

}  // namespace palo
