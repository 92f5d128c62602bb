#include "kernels/outliers.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace palo {
namespace {

// A channel this many times larger than the mean of all is an outlier. A smaller one costs its group less than the f32
// product costs.
constexpr float OUTLIER_FACTOR = 5.0f;
constexpr int64_t COLUMNS_OF_TASK = 256;

std::vector<float> column_maxima(const float* x, int64_t n_rows, int64_t n_cols) {
  std::vector<float> maxima(static_cast<size_t>(n_cols), 0.0f);
  float* out = maxima.data();
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t c = 0; c < n_cols; ++c) out[c] = std::max(out[c], std::abs(x[r * n_cols + c]));
  }
  return maxima;
}

}  // namespace

Outliers find_outliers(const float* sample, int64_t n_rows, int64_t n_cols) {
  const std::vector<float> maxima = column_maxima(sample, n_rows, n_cols);
  const float mean = std::reduce(maxima.begin(), maxima.end()) / static_cast<float>(n_cols);
  Outliers result;
  for (int64_t c = 0; c < n_cols && result.n < MAX_OUTLIERS; ++c) {
    if (maxima[static_cast<size_t>(c)] > OUTLIER_FACTOR * mean) result.channels[static_cast<size_t>(result.n++)] = c;
  }
  return result;
}

void take_outliers(float* values, float* x, int64_t n_rows, int64_t n_cols, const Outliers& outliers) {
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t i = 0; i < outliers.n; ++i) {
      float& value = x[r * n_cols + outliers.channels[static_cast<size_t>(i)]];
      values[r * MAX_OUTLIERS + i] = value;
      value = 0.0f;
    }
  }
}

// Multiplies rows that hold a single 1 with the int8 panels, so that nothing outside the kernels depends on their
// layout.
void unpack_outlier_weights(const Compute& compute, Buffer& panels, const Format& q8, const uint8_t* q8_panels,
                            int64_t n_out, int64_t n_in, const Outliers& outliers) {
  const KernelTable& kernels = compute.kernels;
  const Format f32(kernels, Precision::FLOAT);
  std::vector<float> ones(static_cast<size_t>(outliers.n * n_in), 0.0f);
  for (int64_t i = 0; i < outliers.n; ++i) {
    ones[static_cast<size_t>(i * n_in + outliers.channels[static_cast<size_t>(i)])] = 1.0f;
  }
  ByteBuffer rows(outliers.n * q8.row_bytes(n_in));
  q8.write_rows(rows.data(), ones.data(), outliers.n, n_in, n_in);
  float* out = panels.at_least(f32.panels_bytes(n_out, outliers.n) / static_cast<int64_t>(sizeof(float)));

  const int64_t step = std::lcm(std::lcm(q8.panel_width(), f32.panel_width()), COLUMNS_OF_TASK);
  compute.pool.parallel_for((n_out + step - 1) / step, [&](int64_t task, int worker) {
    const int64_t col = task * step, n_cols = std::min(step, n_out - col);
    float* weights = compute.scratch.floats(worker, 0, outliers.n * n_cols);
    q8.linear(weights, rows.data(), q8_panels + col / q8.panel_width() * q8.panel_bytes(n_in), nullptr, outliers.n,
              n_cols, n_in, n_cols);
    f32.pack_panels(reinterpret_cast<uint8_t*>(out + col * outliers.n), weights, n_cols, outliers.n, 1, n_cols);
  });
}

}  // namespace palo
