// One interface to the two precisions of a matrix product: the layout of rows of inputs and of panels of weights.
#pragma once

#include "kernels/kernel_table.h"

namespace palo {

// INT8_WIDE: int8 with Q8_WIDE_GROUP inputs per scale, which the loader chooses for weights that allow it.
enum class Precision { FLOAT, INT8, INT8_WIDE };

// Layout and kernels of one precision on one instruction set. Only it can interpret the bytes of its rows and panels.
class Format {
 public:
  Format(const KernelTable& kernels, Precision precision)
      : kernels_(kernels),
        q8_(precision == Precision::INT8        ? &kernels.q8
            : precision == Precision::INT8_WIDE ? &kernels.q8_wide
                                                : nullptr) {}

  // Rows are written in multiples of this many columns: a piece of a row starts at a multiple of it.
  int64_t group() const { return q8_ != nullptr ? q8_->group : 1; }
  int64_t row_bytes(int64_t n_in) const { return n_groups(n_in) * row_group_bytes(); }

  int64_t panel_width() const { return q8_ != nullptr ? q8_->panel_width : kernels_.panel_width; }
  // Bytes from one panel to the next.
  int64_t panel_bytes(int64_t n_in) const;
  int64_t panels_bytes(int64_t n_out, int64_t n_in) const;

  // Rows [n_rows, n_in] of f32, ld ldx, to rows of this format.
  void write_rows(uint8_t* rows, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) const;
  // The same for columns [col, col + n_cols) of rows that are n_in wide; col is a multiple of group(), and so is n_cols
  // unless the columns are the last.
  void write_columns(uint8_t* rows, int64_t n_in, int64_t col, const float* x, int64_t n_rows, int64_t n_cols,
                     int64_t ldx) const;
  // weights [n_rows, n_out] = softmax(scale * rows W^T); scratch: n_rows * (n_out + 32) floats.
  void attention_weights(uint8_t* weights, const uint8_t* rows, const uint8_t* panels, float* scratch, int64_t n_rows,
                         int64_t n_out, int64_t n_in, float scale) const;
  // rows = layer_norm(x), x [n_rows, n_cols] dense.
  void layer_norm_rows(uint8_t* rows, const float* x, const float* weight, const float* bias, int64_t n_rows,
                       int64_t n_cols, float eps) const;

  // Packs n_out rows of w, element (o, i) at w[o * stride_out + i * stride_in], one of the strides being 1.
  void pack_panels(uint8_t* panels, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out,
                   int64_t stride_in) const;

  // The same for inputs [input, input + n) of panels that are n_in wide; input is a multiple of group(), and so is n
  // unless the inputs are the last.
  void pack_inputs(uint8_t* panels, int64_t n_in, int64_t input, const float* w, int64_t n_out, int64_t n,
                   int64_t stride_out, int64_t stride_in) const;

  // out[r, o] = bias[o] + sum_i x[r, i] * w[o, i]; out ld ldo, bias or nullptr. In floats nothing is asked for ahead.
  void linear(float* out, const uint8_t* rows, const uint8_t* panels, const float* bias, int64_t n_rows, int64_t n_out,
              int64_t n_in, int64_t ldo, Ahead ahead = {}) const;

 private:
  int64_t n_groups(int64_t n_in) const { return (n_in + group() - 1) / group(); }
  int64_t row_group_bytes() const {
    return q8_ != nullptr ? q8_->row_group_bytes : static_cast<int64_t>(sizeof(float));
  }

  const KernelTable& kernels_;
  const Q8Kernels* q8_;  // nullptr: float
};

}  // namespace palo
