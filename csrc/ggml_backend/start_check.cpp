#include "ggml_backend/start_check.h"

#include <cmath>
#include <cstdio>
#include <vector>

#include "ggml_backend/amx.h"
#include "ggml_backend/ggml_product.h"
#include "ggml_backend/packed_matrix.h"
#include "kernels/buffer.h"

namespace palo::backend {
namespace {

// Small enough for the second-level cache, so that arithmetic is compared and not the current memory traffic; wide
// enough that a product takes much longer than the call of ggml's CPU backend around it.
constexpr int64_t N_IN = 1024, N_OUT = 512;
constexpr int64_t N_ROWS[] = {1, 32};
// On a real matrix one row is bound by memory, and arithmetic a little slower than ggml's costs nothing.
constexpr double LEAST_GAIN[] = {0.7, 1.0};
// Of the root mean square: both sides round their inputs to int8, ggml more coarsely under the K types. Observed 0.036
// at most; kernels that do not match the layout of the data are off by 1.
constexpr double TOLERANCE = 0.1;

TimedProduct multiply_by_us(const BlockKernels& kernels, const std::vector<uint8_t>& weights,
                            const std::vector<float>& x, int64_t n_rows) {
  const auto row_size = static_cast<int64_t>(weights.size()) / N_OUT;
  const PackedMatrix w{&kernels,
                       N_IN,
                       N_OUT,
                       row_size,
                       (N_OUT + kernels.panel_width - 1) / kernels.panel_width,
                       kernels.panel_bytes(N_IN)};
  ByteBuffer panels(w.n_bytes()), quantized(n_rows * kernels.row_bytes(N_IN));
  write_range(panels.data(), w, weights.data(), 0, static_cast<int64_t>(weights.size()), 1);
  std::vector<float> out(static_cast<size_t>(n_rows * N_OUT));
  const double elapsed_s = quickest([&] {
    kernels.quantize_rows(quantized.data(), x.data(), n_rows, N_IN, N_IN);
    kernels.multiply(out.data(), quantized.data(), panels.data(), n_rows, N_OUT, N_IN, N_OUT);
  });
  return {out, elapsed_s};
}

// Largest difference, in units of the root mean square of b.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0, square = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - b[i]);
    largest = d > largest || std::isnan(d) ? d : largest;
    square += static_cast<double>(b[i]) * b[i];
  }
  return largest / std::sqrt(square / static_cast<double>(b.size()));
}

std::string in_words(const double* gains) {
  char text[96];
  std::snprintf(text, sizeof(text), "%.2f times ggml's speed on %d row, %.2f times on %d rows", gains[0],
                static_cast<int>(N_ROWS[0]), gains[1], static_cast<int>(N_ROWS[1]));
  return text;
}

}  // namespace

Verdict check_type(ggml_type type) {
  const BlockKernels& kernels = block_kernels(kernels_in_use(), *block_type(type));
  const std::vector<uint8_t> weights = draw_weights(type, N_IN, N_OUT);
  double gains[2];
  for (int i = 0; i < 2; ++i) {
    const std::vector<float> x = draw(N_ROWS[i] * N_IN);
    const TimedProduct theirs = multiply_by_ggml(type, weights, x, N_IN, settle_amx() != Amx::BROKEN);
    if (theirs.out.empty()) return {false, "ggml's CPU backend could not be timed"};
    const TimedProduct ours = multiply_by_us(kernels, weights, x, N_ROWS[i]);
    if (!(difference(ours.out, theirs.out) <= TOLERANCE)) return {false, "results differ from ggml's"};
    gains[i] = theirs.elapsed_s / ours.elapsed_s;
  }
  return {gains[0] >= LEAST_GAIN[0] && gains[1] >= LEAST_GAIN[1], in_words(gains)};
}

}  // namespace palo::backend
