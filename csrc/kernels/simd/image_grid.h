// Kernels over grids of pixels or patches, channels last (kernel_table.h).
#pragma once

namespace palo::PALO_SIMD_ISA {
namespace {

// A depthwise convolution of `in` [height, width, n_channels].
struct Convolution {
  const float* in;
  const float* weight;
  const float* bias;
  int64_t height, width, n_channels, stride;
};

// N output pixels from column x on in row y, for the n first of the channels from c on; taps in rows [u_begin, u_end)
// and columns [v_begin, v_end) of the window lie inside the image for all of them. A tap's weight is loaded once for
// the N pixels.
template <int64_t N>
PALO_INLINE void convolve_lanes(float* out, const Convolution& conv, int64_t y, int64_t x, int64_t c, int64_t n,
                                int64_t v_begin, int64_t v_end) {
  const auto load_some = [n](const float* p) PALO_INLINE_LAMBDA { return n == LANES ? load(p) : load_first(p, n); };
  const int64_t top = y * conv.stride - 1, left = x * conv.stride - 1;
  const int64_t u_begin = top < 0 ? 1 : 0, u_end = conv.height - top < 3 ? conv.height - top : 3;
  Floats sums[N];
  for (int64_t i = 0; i < N; ++i) sums[i] = conv.bias == nullptr ? set(0.0f) : load_some(conv.bias + c);
  for (int64_t u = u_begin; u < u_end; ++u) {
    const float* row = conv.in + ((top + u) * conv.width + left) * conv.n_channels + c;
    for (int64_t v = v_begin; v < v_end; ++v) {
      const Floats weight = load_some(conv.weight + (3 * u + v) * conv.n_channels + c);
      for (int64_t i = 0; i < N; ++i) {
        sums[i] = fma(load_some(row + (v + i * conv.stride) * conv.n_channels), weight, sums[i]);
      }
    }
  }
  for (int64_t i = 0; i < N; ++i) {
    float* at = out + i * conv.n_channels + c;
    n == LANES ? store(at, sums[i]) : store_first(at, sums[i], n);
  }
}

template <int64_t N>
void convolve_pixels(float* out, const Convolution& conv, int64_t y, int64_t x) {
  const int64_t left = x * conv.stride - 1, n_right = conv.width - left;
  const int64_t v_begin = left < 0 ? 1 : 0, v_end = N > 1 || n_right > 3 ? 3 : n_right;
  int64_t c = 0;
  for (; c + LANES <= conv.n_channels; c += LANES) convolve_lanes<N>(out, conv, y, x, c, LANES, v_begin, v_end);
  if (c < conv.n_channels) convolve_lanes<N>(out, conv, y, x, c, conv.n_channels - c, v_begin, v_end);
}

// Four pixels at a time where all their windows lie inside the columns, single ones at the edges.
void depthwise_conv3x3(float* out, const float* in, const float* weight, const float* bias, int64_t y_begin,
                       int64_t y_end, int64_t height, int64_t width, int64_t n_channels, int64_t stride) {
  constexpr int64_t N = 4;
  const Convolution conv{in, weight, bias, height, width, n_channels, stride};
  const int64_t out_width = (width + stride - 1) / stride;
  for (int64_t y = y_begin; y < y_end; ++y) {
    int64_t x = 0;
    while (x < out_width) {
      float* pixel = out + (y * out_width + x) * n_channels;
      const bool is_inside = x > 0 && x + N <= out_width && (x + N - 1) * stride + 2 <= width;
      if (is_inside) {
        convolve_pixels<N>(pixel, conv, y, x);
        x += N;
      } else {
        convolve_pixels<1>(pixel, conv, y, x);
        x += 1;
      }
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
      for (int64_t c = 0; c < n_channels; c += LANES) {
        const int64_t n = n_channels - c < LANES ? n_channels - c : LANES;
        const auto load_some = [n](const float* p)
                                   PALO_INLINE_LAMBDA { return n == LANES ? load(p) : load_first(p, n); };
        const Floats upper = load_some(top + c) + load_some(top + c + n_channels);
        const Floats mean = set(0.25f) * (upper + load_some(bottom + c) + load_some(bottom + c + n_channels));
        n == LANES ? store(pixel + c, mean) : store_first(pixel + c, mean, n);
      }
    }
  }
}

// Sums of 16 columns with the rounding error of each addition carried along (Kahan): as exact as sums in double.
PALO_INLINE Floats mean_of_columns(const float* x, int64_t n, int64_t n_rows, int64_t n_cols) {
  Floats sum = set(0.0f), lost = set(0.0f);
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* p = x + r * n_cols;
    const Floats value = (n == LANES ? load(p) : load_first(p, n)) - lost;
    const Floats next = sum + value;
    lost = (next - sum) - value;
    sum = next;
  }
  return sum / set(static_cast<float>(n_rows));
}

void column_means(float* out, const float* x, int64_t c_begin, int64_t c_end, int64_t n_rows, int64_t n_cols) {
  int64_t c = c_begin;
  for (; c + LANES <= c_end; c += LANES) store(out + c, mean_of_columns(x + c, LANES, n_rows, n_cols));
  if (c < c_end) store_first(out + c, mean_of_columns(x + c, c_end - c, n_rows, n_cols), c_end - c);
}

void patch_row(float* out, const float* pixels, int64_t py, int64_t grid, int64_t patch_size) {
  const int64_t size = grid * patch_size;
  for (int64_t px = 0; px < grid; ++px) {
    for (int64_t line = 0; line < 3 * patch_size; ++line) {
      const int64_t channel = line / patch_size, row = py * patch_size + line % patch_size;
      const float* from = pixels + (channel * size + row) * size + px * patch_size;
      for (int64_t u = 0; u < patch_size; u += LANES) {
        const int64_t n = patch_size - u < LANES ? patch_size - u : LANES;
        store_first(out + u, load_first(from + u, n), n);
      }
      out += patch_size;
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
