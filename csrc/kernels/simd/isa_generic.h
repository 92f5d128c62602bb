// The 16 virtual lanes as plain loops, for any machine: what the tests hold the other instruction sets against, bit for
// bit, where the instructions of those are to be tried and not the arithmetic that all share.
#pragma once

#include <cmath>
#include <cstdint>

namespace palo::PALO_SIMD_ISA {
namespace {

struct Floats {
  float lane[LANES];
};
struct Ints {
  int32_t lane[LANES];
};

template <typename Function>
PALO_INLINE Floats for_lanes(Function function) {
  Floats out;
  for (int64_t i = 0; i < LANES; ++i) out.lane[i] = function(i);
  return out;
}

PALO_INLINE Floats load_first(const float* p, int64_t n) {
  return for_lanes([&](int64_t i) { return i < n ? p[i] : 0.0f; });
}
PALO_INLINE void store_first(float* p, Floats x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = x.lane[i];
}
PALO_INLINE Floats load(const float* p) {
  return load_first(p, LANES);
}
PALO_INLINE void store(float* p, Floats x) {
  store_first(p, x, LANES);
}
PALO_INLINE Floats set(float x) {
  return for_lanes([&](int64_t) { return x; });
}
PALO_INLINE Floats operator+(Floats a, Floats b) {
  return for_lanes([&](int64_t i) { return a.lane[i] + b.lane[i]; });
}
PALO_INLINE Floats operator-(Floats a, Floats b) {
  return for_lanes([&](int64_t i) { return a.lane[i] - b.lane[i]; });
}
PALO_INLINE Floats operator*(Floats a, Floats b) {
  return for_lanes([&](int64_t i) { return a.lane[i] * b.lane[i]; });
}
PALO_INLINE Floats operator/(Floats a, Floats b) {
  return for_lanes([&](int64_t i) { return a.lane[i] / b.lane[i]; });
}
PALO_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return for_lanes([&](int64_t i) { return fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
PALO_INLINE Floats max(Floats a, Floats b) {
  return for_lanes([&](int64_t i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
PALO_INLINE Floats min(Floats a, Floats b) {
  return for_lanes([&](int64_t i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
PALO_INLINE Floats absolute(Floats a) {
  return for_lanes([&](int64_t i) { return fabsf(a.lane[i]); });
}
PALO_INLINE Floats where_negative(Floats a, Floats x, Floats y) {
  return for_lanes([&](int64_t i) { return a.lane[i] < 0.0f ? x.lane[i] : y.lane[i]; });
}
PALO_INLINE float sum_of_lanes(Floats x) {
  for (int64_t half = LANES / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) x.lane[i] = x.lane[i] + x.lane[i + half];
  }
  return x.lane[0];
}
PALO_INLINE float max_of_lanes(Floats x) {
  for (int64_t half = LANES / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) x.lane[i] = x.lane[i] > x.lane[i + half] ? x.lane[i] : x.lane[i + half];
  }
  return x.lane[0];
}
PALO_INLINE float square_root(float x) {
  return sqrtf(x);
}

PALO_INLINE Ints set_ints(int32_t x) {
  Ints out;
  for (int64_t i = 0; i < LANES; ++i) out.lane[i] = x;
  return out;
}
PALO_INLINE Ints operator+(Ints a, Ints b) {
  for (int64_t i = 0; i < LANES; ++i) a.lane[i] += b.lane[i];
  return a;
}
// What is no int32 becomes the smallest one, as on x86: defined, and nobody's result.
PALO_INLINE Ints round_to_ints(Floats x) {
  Ints out;
  for (int64_t i = 0; i < LANES; ++i) {
    const bool fits = x.lane[i] >= -2147483648.0f && x.lane[i] < 2147483648.0f;
    out.lane[i] = fits ? static_cast<int32_t>(nearbyintf(x.lane[i])) : INT32_MIN;
  }
  return out;
}
PALO_INLINE Floats to_floats(Ints x) {
  return for_lanes([&](int64_t i) { return static_cast<float>(x.lane[i]); });
}
PALO_INLINE Floats power_of_two(Ints x) {
  Floats out;
  for (int64_t i = 0; i < LANES; ++i) {
    const uint32_t bits = (static_cast<uint32_t>(x.lane[i]) + 127) << 23;
    __builtin_memcpy(&out.lane[i], &bits, sizeof(bits));
  }
  return out;
}
PALO_INLINE int32_t sum_of_lanes(Ints x) {
  int32_t sum = 0;
  for (int64_t i = 0; i < LANES; ++i) sum += x.lane[i];
  return sum;
}
PALO_INLINE void store_bytes(uint8_t* p, Ints x) {
  for (int64_t i = 0; i < LANES; ++i) p[i] = static_cast<uint8_t>(x.lane[i]);
}

constexpr int64_t LINEAR_ROWS = 4;
constexpr int64_t PANEL_VECTORS = 1;

constexpr int64_t Q8_ROWS = 4;
constexpr int64_t Q8_STEP = 4;
constexpr int64_t Q8_INPUT_BYTES = 1;
constexpr int32_t Q8_WEIGHT_OFFSET = 0;
constexpr bool Q8_SUMS_IN_REGISTERS = true;

struct Q8Weights {
  int8_t lane[LANES][Q8_STEP];
};
struct Q8Input {
  int8_t value[Q8_STEP];
};

PALO_INLINE Q8Weights load_q8_weights(const uint8_t* p) {
  Q8Weights w;
  __builtin_memcpy(&w, p, sizeof(w));
  return w;
}
PALO_INLINE Q8Input load_q8_input(const uint8_t* p) {
  Q8Input x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
PALO_INLINE void add_dot(Ints& sums, const Q8Weights& w, Q8Input x) {
  for (int64_t i = 0; i < LANES; ++i) {
    for (int64_t k = 0; k < Q8_STEP; ++k) sums.lane[i] += w.lane[i][k] * x.value[k];
  }
}
PALO_INLINE void store_q8_inputs(uint8_t* p, Ints q) {
  store_bytes(p, q);
}
PALO_INLINE void store_q8_weights(uint8_t* p, const Ints q[Q8_STEP]) {
  for (int64_t i = 0; i < LANES; ++i) {
    for (int64_t k = 0; k < Q8_STEP; ++k) p[i * Q8_STEP + k] = static_cast<uint8_t>(q[k].lane[i]);
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
