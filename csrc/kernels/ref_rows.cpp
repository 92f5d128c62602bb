// The row kernels of the portable instruction set (row_kernels.h): plain loops, sums in double.
#include <cmath>
#include <cstring>

#include "kernels/half.h"
#include "kernels/ref.h"
#include "kernels/row_kernels.h"

namespace palo::ref {
namespace {

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

void from_halves(float* out, const uint8_t* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = read_half(x + 2 * i);
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
  };
  return KERNELS;
}

}  // namespace palo::ref
