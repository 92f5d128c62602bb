// Kernels over one row of values: norm, products, rotation, conversion to IEEE 754 binary16 and back.
#pragma once

#include <cstdint>

namespace palo {

// Contract as in kernel_table.h: one thread, no allocation, equal bits on every instruction set but "ref".
struct RowKernels {
  // out[c] = x[c] / sqrt(mean(x^2) + eps) * weight[c]; out, x [n]; weight [n] or nullptr (ones); out may be x.
  void (*rms_norm)(float* out, const float* x, const float* weight, int64_t n, float eps);

  // out[i] = a[i] * b[i]; out may be a or b.
  void (*multiply)(float* out, const float* a, const float* b, int64_t n);

  // out[i] = gate[i] * sigmoid(gate[i]) * up[i]; out may be gate or up.
  void (*swiglu)(float* out, const float* gate, const float* up, int64_t n);

  // Rotary position embedding of neighbouring pairs: (out[2i], out[2i + 1]) = (x[2i], x[2i + 1]) rotated by the angle
  // whose cosine and sine are cosines[i] and sines[i], i in [0, n_pairs). out may be x.
  void (*rotate_pairs)(float* out, const float* x, const float* cosines, const float* sines, int64_t n_pairs);

  // out[i] = x[i] as binary16, rounded to nearest, ties to even; out [n] of 2 bytes each.
  void (*to_halves)(uint8_t* out, const float* x, int64_t n);

  // The inverse, exact: out [n] from n values of 2 bytes each.
  void (*from_halves)(float* out, const uint8_t* x, int64_t n);
};

}  // namespace palo
