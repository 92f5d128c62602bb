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

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
