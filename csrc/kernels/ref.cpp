// The kernels of the portable instruction set, except the matrix products (ref_linear.cpp, ref_q8.cpp, ref_blocks.cpp),
// the kernels of rows, pixels and attention: plain loops.
#include "kernels/ref.h"

#include <algorithm>
#include <cmath>

namespace palo::ref {

RowMoments row_moments(const float* x, int64_t n_cols, float eps) {
  double sum = 0.0;
  for (int64_t c = 0; c < n_cols; ++c) sum += x[c];
  const double mean = sum / static_cast<double>(n_cols);
  double sum_of_squares = 0.0;
  for (int64_t c = 0; c < n_cols; ++c) sum_of_squares += (x[c] - mean) * (x[c] - mean);
  return {mean, 1.0 / std::sqrt(sum_of_squares / static_cast<double>(n_cols) + eps)};
}

void normalize(float* out, const float* x, const float* weight, const float* bias, int64_t n,
               const RowMoments& moments) {
  for (int64_t c = 0; c < n; ++c) {
    out[c] = static_cast<float>((x[c] - moments.mean) * moments.scale) * weight[c] + bias[c];
  }
}

namespace {

void layer_norm(float* out, const float* x, const float* weight, const float* bias, int64_t n_rows, int64_t n_cols,
                float eps) {
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* row = x + r * n_cols;
    normalize(out + r * n_cols, row, weight, bias, n_cols, row_moments(row, n_cols, eps));
  }
}

void softmax_row(float* x, int64_t n_cols, float scale) {
  const float max = scale * *std::max_element(x, x + n_cols);
  double sum = 0.0;
  for (int64_t c = 0; c < n_cols; ++c) {
    x[c] = std::exp(scale * x[c] - max);
    sum += x[c];
  }
  const float inverse = static_cast<float>(1.0 / sum);
  for (int64_t c = 0; c < n_cols; ++c) x[c] *= inverse;
}

void softmax(float* x, int64_t n_rows, int64_t n_cols, int64_t ldx, float scale) {
  for (int64_t r = 0; r < n_rows; ++r) softmax_row(x + r * ldx, n_cols, scale);
}

void gelu_quick(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] / (1.0f + std::exp(-1.702f * x[i]));
}

void gelu_erf(float* x, int64_t n) {
  constexpr float INVERSE_SQRT2 = 0.70710678f;
  for (int64_t i = 0; i < n; ++i) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * INVERSE_SQRT2));
}

void relu(float* x, int64_t n) {
  // std::max(0, NaN) would hide a NaN; this order keeps it.
  for (int64_t i = 0; i < n; ++i) x[i] = std::max(x[i], 0.0f);
}

void hardswish(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] * std::clamp(x[i] + 3.0f, 0.0f, 6.0f) / 6.0f;
}

void hardsigmoid(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::clamp(x[i] + 3.0f, 0.0f, 6.0f) / 6.0f;
}

void add(float* out, const float* a, const float* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

// One tap of the 3x3 window: out[c] += in[c] * weight[c].
void multiply_add(float* out, const float* in, const float* weight, int64_t n) {
  for (int64_t c = 0; c < n; ++c) out[c] += in[c] * weight[c];
}

// All taps for the output pixel whose window is centred at (y, x) of the input; taps in the padding are skipped.
void convolve_pixel(float* out, const float* in, const float* weight, int64_t y, int64_t x, int64_t height,
                    int64_t width, int64_t n_channels) {
  for (int64_t u = 0; u < 3; ++u) {
    const int64_t row = y + u - 1;
    if (row < 0 || row >= height) continue;
    for (int64_t v = 0; v < 3; ++v) {
      const int64_t col = x + v - 1;
      if (col < 0 || col >= width) continue;
      multiply_add(out, in + (row * width + col) * n_channels, weight + (3 * u + v) * n_channels, n_channels);
    }
  }
}

void depthwise_conv3x3(float* out, const float* in, const float* weight, const float* bias, int64_t y_begin,
                       int64_t y_end, int64_t height, int64_t width, int64_t n_channels, int64_t stride) {
  const int64_t out_width = (width + stride - 1) / stride;
  for (int64_t y = y_begin; y < y_end; ++y) {
    for (int64_t x = 0; x < out_width; ++x) {
      float* pixel = out + (y * out_width + x) * n_channels;
      for (int64_t c = 0; c < n_channels; ++c) pixel[c] = bias == nullptr ? 0.0f : bias[c];
      convolve_pixel(pixel, in, weight, y * stride, x * stride, height, width, n_channels);
    }
  }
}

void average_pool2x2(float* out, const float* in, int64_t y_begin, int64_t y_end, int64_t width, int64_t n_channels) {
  const int64_t out_width = width / 2;
  for (int64_t y = y_begin; y < y_end; ++y) {
    for (int64_t x = 0; x < out_width; ++x) {
      const float* top = in + (2 * y * width + 2 * x) * n_channels;
      const float* bottom = top + width * n_channels;
      float* pixel = out + (y * out_width + x) * n_channels;
      for (int64_t c = 0; c < n_channels; ++c) {
        pixel[c] = 0.25f * (top[c] + top[c + n_channels] + bottom[c] + bottom[c + n_channels]);
      }
    }
  }
}

void column_means(float* out, const float* x, int64_t c_begin, int64_t c_end, int64_t n_rows, int64_t n_cols) {
  for (int64_t c = c_begin; c < c_end; ++c) {
    double sum = 0.0;
    for (int64_t r = 0; r < n_rows; ++r) sum += x[r * n_cols + c];
    out[c] = static_cast<float>(sum / static_cast<double>(n_rows));
  }
}

void scale_columns(float* x, const float* scale, int64_t n_rows, int64_t n_cols) {
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t c = 0; c < n_cols; ++c) x[r * n_cols + c] *= scale[c];
  }
}

void patch_row(float* out, const float* pixels, int64_t py, int64_t grid, int64_t patch_size) {
  const int64_t size = grid * patch_size;
  for (int64_t px = 0; px < grid; ++px) {
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t v = 0; v < patch_size; ++v) {
        const float* line = pixels + (c * size + py * patch_size + v) * size + px * patch_size;
        out = std::copy_n(line, patch_size, out);
      }
    }
  }
}

}  // namespace

const KernelTable& kernel_table() {
  static const KernelTable table = {
      .isa = "ref",
      .panel_width = PANEL_WIDTH,
      .pack_panel = pack_panel,
      .linear = linear,
      .layer_norm = layer_norm,
      .softmax = softmax,
      .gelu_quick = gelu_quick,
      .gelu_erf = gelu_erf,
      .relu = relu,
      .hardswish = hardswish,
      .hardsigmoid = hardsigmoid,
      .add = add,
      .depthwise_conv3x3 = depthwise_conv3x3,
      .average_pool2x2 = average_pool2x2,
      .column_means = column_means,
      .scale_columns = scale_columns,
      .patch_row = patch_row,
      .q8 = q8_kernels<Q8_GROUP>(),
      .q8_wide = q8_kernels<Q8_WIDE_GROUP>(),
      .blocks = block_kernels(),
      .rows = &row_kernels(),
      .pixels = &pixel_kernels(),
      .cache_attention = &cache_attention(),
  };
  return table;
}

}  // namespace palo::ref
