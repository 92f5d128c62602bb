// The 16 virtual lanes as plain loops, for any machine. The tests compare the other instruction sets with them bit for
// bit, which tests their instructions and not the arithmetic that all share.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/block_layout.h"

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
// A value outside the range of int32 becomes the smallest one, as on x86: defined, but no result depends on it.
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
// The floats whose bits the lanes are.
PALO_INLINE Floats as_floats(Ints x) {
  Floats out;
  __builtin_memcpy(&out, &x, sizeof(out));
  return out;
}
PALO_INLINE Floats power_of_two(Ints x) {
  Floats out;
  for (int64_t i = 0; i < LANES; ++i) {
    const uint32_t bits = (static_cast<uint32_t>(x.lane[i]) + 127) << 23;
    __builtin_memcpy(&out.lane[i], &bits, sizeof(bits));
  }
  return out;
}
// x * 2^n where neither is denormal.
PALO_INLINE Floats times_power_of_two(Floats x, Ints n) {
  return x * power_of_two(n);
}
PALO_INLINE int32_t sum_of_lanes(Ints x) {
  int32_t sum = 0;
  for (int64_t i = 0; i < LANES; ++i) sum += x.lane[i];
  return sum;
}
PALO_INLINE void store_bytes(uint8_t* p, Ints x) {
  for (int64_t i = 0; i < LANES; ++i) p[i] = static_cast<uint8_t>(x.lane[i]);
}

// --- Quantized blocks: a lane holds four bytes, the first in the lowest bits. ---

template <typename Function>
PALO_INLINE Ints for_int_lanes(Function function) {
  Ints out;
  for (int64_t i = 0; i < LANES; ++i) out.lane[i] = static_cast<int32_t>(function(i));
  return out;
}
PALO_INLINE uint32_t bits_of(Ints x, int64_t i) {
  return static_cast<uint32_t>(x.lane[i]);
}

PALO_INLINE Ints load_ints(const uint8_t* p) {
  Ints x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
PALO_INLINE void store_ints(uint8_t* p, Ints x) {
  __builtin_memcpy(p, &x, sizeof(x));
}
PALO_INLINE Ints operator&(Ints a, Ints b) {
  return for_int_lanes([&](int64_t i) { return a.lane[i] & b.lane[i]; });
}
PALO_INLINE Ints operator|(Ints a, Ints b) {
  return for_int_lanes([&](int64_t i) { return a.lane[i] | b.lane[i]; });
}
PALO_INLINE Ints shift_left(Ints x, int64_t n) {
  return for_int_lanes([&](int64_t i) { return bits_of(x, i) << n; });
}
// Zeros come in from above.
PALO_INLINE Ints shift_right(Ints x, int64_t n) {
  return for_int_lanes([&](int64_t i) { return bits_of(x, i) >> n; });
}
// Byte `i` of each lane as a signed number.
PALO_INLINE Ints signed_byte(Ints x, int64_t i) {
  return for_int_lanes([&](int64_t lane) { return static_cast<int8_t>(bits_of(x, lane) >> (8 * i)); });
}
// 16 values of IEEE 754 binary16.
PALO_INLINE Floats load_halves(const uint8_t* p) {
  uint16_t halves[LANES];
  __builtin_memcpy(halves, p, sizeof(halves));
  return for_lanes([&](int64_t i) { return half_to_float(halves[i]); });
}
// Rounds to nearest, ties to even.
PALO_INLINE void store_halves(uint8_t* p, Floats x) {
  for (int64_t i = 0; i < LANES; ++i) {
    const uint16_t half = float_to_half(x.lane[i]);
    __builtin_memcpy(p + 2 * i, &half, sizeof(half));
  }
}

// --- Pixels: a lane holds a byte, unsigned. ---

PALO_INLINE Ints operator*(Ints a, Ints b) {
  return for_int_lanes([&](int64_t i) { return a.lane[i] * b.lane[i]; });
}
PALO_INLINE Ints load_bytes(const uint8_t* p) {
  return for_int_lanes([&](int64_t i) { return p[i]; });
}
// p[i / 4] in lane i.
PALO_INLINE Ints load_spread(const int32_t* p) {
  return for_int_lanes([&](int64_t i) { return p[i / 4]; });
}
// Each lane's x >> RESAMPLING_BITS as a byte, 0 or 255 where it is beyond them.
PALO_INLINE void store_levels(uint8_t* p, Ints x) {
  for (int64_t i = 0; i < LANES; ++i) {
    const int32_t level = x.lane[i] >> RESAMPLING_BITS;
    p[i] = static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
  }
}

struct Quad {
  int8_t value[4];
};

PALO_INLINE Quad load_quad(const uint8_t* p) {
  Quad x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
// sums += four unsigned bytes of each lane times the quad of signed bytes.
PALO_INLINE void add_quad(Ints& sums, Ints w, Quad x) {
  for (int64_t i = 0; i < LANES; ++i) {
    for (int k = 0; k < 4; ++k) sums.lane[i] += static_cast<int32_t>(bits_of(w, i) >> (8 * k) & 0xFF) * x.value[k];
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
