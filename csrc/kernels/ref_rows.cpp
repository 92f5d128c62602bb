// The row kernels of the portable instruction set (row_kernels.h): plain loops, sums in double.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/half.h"
#include "kernels/ref.h"
#include "kernels/row_kernels.h"

namespace palo::ref {
namespace {

float read_half(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof(half));
  return half_to_float(half);
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(x[i] * scale) * (weight == nullptr ? 1.0f : weight[i]);
}

void multiply(float* out, const float* a, const float* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] * b[i];
}

void swiglu(float* out, const float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

void rotate_pairs(float* out, const float* x, const float* cosines, const float* sines, int64_t n_pairs) {
  for (int64_t i = 0; i < n_pairs; ++i) {
    const float first = x[2 * i], second = x[2 * i + 1];
    out[2 * i] = first * cosines[i] - second * sines[i];
    out[2 * i + 1] = first * sines[i] + second * cosines[i];
  }
}

void to_halves(uint8_t* out, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t half = float_to_half(x[i]);
    std::memcpy(out + 2 * i, &half, sizeof(half));
  }
}

double score(const float* query, const uint8_t* key, int64_t head_size) {
  double sum = 0.0;
  for (int64_t d = 0; d < head_size; ++d) sum += static_cast<double>(query[d]) * read_half(key + 2 * d);
  return sum;
}

void from_halves(float* out, const uint8_t* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = read_half(x + 2 * i);
}

void masked_softmax(float* scores, const uint8_t* mask, int64_t n, float scale) {
  constexpr float HIDDEN = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < n; ++j) {
    const float bias = mask == nullptr ? 0.0f : read_half(mask + 2 * j);
    scores[j] = bias == HIDDEN ? HIDDEN : scale * scores[j] + bias;
  }
  const float largest = *std::max_element(scores, scores + n);
  if (largest == HIDDEN) {
    std::fill_n(scores, n, 0.0f);
    return;
  }
  double sum = 0.0;
  for (int64_t j = 0; j < n; ++j) {
    scores[j] = std::exp(scores[j] - largest);
    sum += scores[j];
  }
  for (int64_t j = 0; j < n; ++j) scores[j] = static_cast<float>(scores[j] / sum);
}

void attend(float* out, float* weights, const float* query, const CacheRows& keys, const CacheRows& values,
            const uint8_t* mask, int64_t n_cells, int64_t head_size, float scale) {
  for (int64_t j = 0; j < n_cells; ++j) {
    weights[j] = static_cast<float>(score(query, keys.data + j * keys.stride, head_size));
  }
  masked_softmax(weights, mask, n_cells, scale);
  for (int64_t d = 0; d < head_size; ++d) {
    double total = 0.0;
    for (int64_t j = 0; j < n_cells; ++j) {
      if (weights[j] != 0.0f) total += weights[j] * read_half(values.data + j * values.stride + 2 * d);
    }
    out[d] = static_cast<float>(total);
  }
}

}  // namespace

const RowKernels& row_kernels() {
  static constexpr RowKernels KERNELS = {
      .rms_norm = rms_norm,
      .multiply = multiply,
      .swiglu = swiglu,
      .rotate_pairs = rotate_pairs,
      .to_halves = to_halves,
      .from_halves = from_halves,
      .masked_softmax = masked_softmax,
      .attend = attend,
  };
  return KERNELS;
}

}  // namespace palo::ref
