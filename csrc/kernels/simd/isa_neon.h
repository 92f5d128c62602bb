// 16 virtual lanes on 64-bit Arm: four 128-bit registers, and the dot product of signed bytes (sdot, Armv8.2 DotProd).
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t PARTS = 4;

struct Floats {
  float32x4_t part[PARTS];
};
struct Ints {
  int32x4_t part[PARTS];
};

template <typename Function>
PALO_INLINE Floats for_parts(Function function) {
  return {{function(0), function(1), function(2), function(3)}};
}

PALO_INLINE Floats set(float x) {
  return for_parts([&](int) { return vdupq_n_f32(x); });
}
PALO_INLINE Floats load(const float* p) {
  return for_parts([&](int i) { return vld1q_f32(p + 4 * i); });
}
// The first n lanes, 0 < n <= 16; zeros in the others. Reads nothing beyond p[n - 1].
PALO_INLINE Floats load_first(const float* p, int64_t n) {
  float lanes[LANES] = {};
  __builtin_memcpy(lanes, p, n * sizeof(float));
  return load(lanes);
}
PALO_INLINE void store(float* p, Floats x) {
  for (int i = 0; i < PARTS; ++i) vst1q_f32(p + 4 * i, x.part[i]);
}
PALO_INLINE void store_first(float* p, Floats x, int64_t n) {
  float lanes[LANES];
  store(lanes, x);
  __builtin_memcpy(p, lanes, n * sizeof(float));
}

PALO_INLINE Floats operator+(Floats a, Floats b) {
  return for_parts([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
}
PALO_INLINE Floats operator-(Floats a, Floats b) {
  return for_parts([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
}
PALO_INLINE Floats operator*(Floats a, Floats b) {
  return for_parts([&](int i) { return vmulq_f32(a.part[i], b.part[i]); });
}
PALO_INLINE Floats operator/(Floats a, Floats b) {
  return for_parts([&](int i) { return vdivq_f32(a.part[i], b.part[i]); });
}
// a * b + c, rounded once.
PALO_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return for_parts([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
}
// a > b ? a : b, so b where one is NaN: x86's rule, from which Arm's own maximum differs for NaN and -0.
PALO_INLINE float32x4_t larger(float32x4_t a, float32x4_t b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
PALO_INLINE Floats max(Floats a, Floats b) {
  return for_parts([&](int i) { return larger(a.part[i], b.part[i]); });
}
// a < b ? a : b, so b where one is NaN.
PALO_INLINE Floats min(Floats a, Floats b) {
  return for_parts([&](int i) { return vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
}
PALO_INLINE Floats absolute(Floats a) {
  return for_parts([&](int i) { return vabsq_f32(a.part[i]); });
}
// a < 0 ? x : y
PALO_INLINE Floats where_negative(Floats a, Floats x, Floats y) {
  return for_parts([&](int i) { return vbslq_f32(vcltzq_f32(a.part[i]), x.part[i], y.part[i]); });
}

// Lane i with i + 8, then i + 4, i + 2, i + 1: the same tree on every instruction set.
PALO_INLINE float sum_of_lanes(Floats x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.part[0], x.part[2]), vaddq_f32(x.part[1], x.part[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
PALO_INLINE float max_of_lanes(Floats x) {
  const float32x4_t four = larger(larger(x.part[0], x.part[2]), larger(x.part[1], x.part[3]));
  const float32x4_t two = larger(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(larger(two, vextq_f32(two, two, 1)), 0);
}
PALO_INLINE float square_root(float x) {
  return vgetq_lane_f32(vsqrtq_f32(vdupq_n_f32(x)), 0);
}

PALO_INLINE Ints set_ints(int32_t x) {
  return {{vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x)}};
}
PALO_INLINE Ints operator+(Ints a, Ints b) {
  for (int i = 0; i < PARTS; ++i) a.part[i] = vaddq_s32(a.part[i], b.part[i]);
  return a;
}
// Nearest integer, ties to even.
PALO_INLINE Ints round_to_ints(Floats x) {
  return {{vcvtnq_s32_f32(x.part[0]), vcvtnq_s32_f32(x.part[1]), vcvtnq_s32_f32(x.part[2]), vcvtnq_s32_f32(x.part[3])}};
}
PALO_INLINE Floats to_floats(Ints x) {
  return for_parts([&](int i) { return vcvtq_f32_s32(x.part[i]); });
}
// The floats whose bits the lanes are.
PALO_INLINE Floats as_floats(Ints x) {
  return for_parts([&](int i) { return vreinterpretq_f32_s32(x.part[i]); });
}
// 2^x for x in [-126, 127]: the exponent field of a float.
PALO_INLINE Floats power_of_two(Ints x) {
  const Ints biased = x + set_ints(127);
  return for_parts([&](int i) { return vreinterpretq_f32_s32(vshlq_n_s32(biased.part[i], 23)); });
}
// x * 2^n where neither is denormal.
PALO_INLINE Floats times_power_of_two(Floats x, Ints n) {
  return for_parts([&](int i) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x.part[i]), vshlq_n_s32(n.part[i], 23)));
  });
}
PALO_INLINE int32_t sum_of_lanes(Ints x) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(x.part[0], x.part[1]), vaddq_s32(x.part[2], x.part[3])));
}
// The lowest byte of each lane.
PALO_INLINE int8x16_t bytes_of(Ints x) {
  const int16x8_t low = vcombine_s16(vmovn_s32(x.part[0]), vmovn_s32(x.part[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(x.part[2]), vmovn_s32(x.part[3]));
  return vcombine_s8(vmovn_s16(low), vmovn_s16(high));
}
PALO_INLINE void store_bytes(uint8_t* p, Ints x) {
  vst1q_s8(reinterpret_cast<int8_t*>(p), bytes_of(x));
}

constexpr int64_t LINEAR_ROWS = 4;  // 4 x 4 sums, 4 weights and inputs: well within 32 registers
constexpr int64_t PANEL_VECTORS = 1;

constexpr int64_t DIRECT_ROWS = 4;
constexpr int64_t DIRECT_VECTORS = 1;
constexpr int64_t QUAD_PREFETCH_ROWS = 0;
constexpr int64_t UNPACKED_ROWS = 4;

constexpr int64_t Q8_ROWS = 4;
constexpr int64_t Q8_VECTORS = PANEL_VECTORS;
constexpr int64_t Q8_STEP = 4;  // inputs per dot product of a lane
constexpr int64_t Q8_INPUT_BYTES = 1;
constexpr int32_t Q8_WEIGHT_OFFSET = 0;
constexpr bool Q8_SUMS_IN_REGISTERS = false;

struct Q8Weights {
  int8x16_t part[PARTS];
};
using Q8Input = int8x8_t;

// p [16 outputs][4 inputs] int8
PALO_INLINE Q8Weights load_q8_weights(const uint8_t* p) {
  const int8_t* at = reinterpret_cast<const int8_t*>(p);
  return {{vld1q_s8(at), vld1q_s8(at + 16), vld1q_s8(at + 32), vld1q_s8(at + 48)}};
}
// The quad in the lowest lane: sdot reads it from there for all lanes, without a copy.
PALO_INLINE Q8Input load_q8_input(const uint8_t* p) {
  uint32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return vcreate_s8(quad);
}
PALO_INLINE void add_dot(Ints& sums, Q8Weights w, Q8Input x) {
  for (int i = 0; i < PARTS; ++i) sums.part[i] = vdotq_lane_s32(sums.part[i], w.part[i], x, 0);
}
PALO_INLINE void store_q8_inputs(uint8_t* p, Ints q) {
  store_bytes(p, q);
}
// 16 quads of the lowest bytes of four vectors.
PALO_INLINE void store_q8_weights(uint8_t* p, const Ints q[Q8_STEP]) {
  const int8x16x4_t quads = {{bytes_of(q[0]), bytes_of(q[1]), bytes_of(q[2]), bytes_of(q[3])}};
  vst4q_s8(reinterpret_cast<int8_t*>(p), quads);
}

// --- Quantized blocks: a lane holds four bytes. ---

template <typename Function>
PALO_INLINE Ints for_int_parts(Function function) {
  return {{function(0), function(1), function(2), function(3)}};
}

PALO_INLINE Ints load_ints(const uint8_t* p) {
  return for_int_parts([&](int i) { return vreinterpretq_s32_u8(vld1q_u8(p + 16 * i)); });
}
PALO_INLINE void store_ints(uint8_t* p, Ints x) {
  for (int i = 0; i < PARTS; ++i) vst1q_u8(p + 16 * i, vreinterpretq_u8_s32(x.part[i]));
}
PALO_INLINE Ints operator&(Ints a, Ints b) {
  return for_int_parts([&](int i) { return vandq_s32(a.part[i], b.part[i]); });
}
PALO_INLINE Ints operator|(Ints a, Ints b) {
  return for_int_parts([&](int i) { return vorrq_s32(a.part[i], b.part[i]); });
}
PALO_INLINE Ints shift_left(Ints x, int64_t n) {
  const int32x4_t count = vdupq_n_s32(static_cast<int32_t>(n));
  return for_int_parts([&](int i) { return vshlq_s32(x.part[i], count); });
}
// Zeros come in from above.
PALO_INLINE Ints shift_right(Ints x, int64_t n) {
  const int32x4_t count = vdupq_n_s32(static_cast<int32_t>(-n));
  return for_int_parts(
      [&](int i) { return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x.part[i]), count)); });
}
// Byte `i` of each lane as a signed number.
PALO_INLINE Ints signed_byte(Ints x, int64_t i) {
  const Ints moved = shift_left(x, 24 - 8 * i);
  return for_int_parts([&](int part) { return vshrq_n_s32(moved.part[part], 24); });
}
// 16 values of IEEE 754 binary16.
PALO_INLINE Floats load_halves(const uint8_t* p) {
  return for_parts([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + 8 * i))); });
}
// Rounds to nearest, ties to even.
PALO_INLINE void store_halves(uint8_t* p, Floats x) {
  for (int i = 0; i < PARTS; ++i) vst1_u8(p + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(x.part[i])));
}

// --- Pixels: a lane holds a byte, unsigned. ---

PALO_INLINE Ints operator*(Ints a, Ints b) {
  return for_int_parts([&](int i) { return vmulq_s32(a.part[i], b.part[i]); });
}
PALO_INLINE Ints load_bytes(const uint8_t* p) {
  const uint8x16_t bytes = vld1q_u8(p);
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
  return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_high_u16(low)),
           vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), vreinterpretq_s32_u32(vmovl_high_u16(high))}};
}
// p[i / 4] in lane i.
PALO_INLINE Ints load_spread(const int32_t* p) {
  return for_int_parts([&](int i) { return vdupq_n_s32(p[i]); });
}
// Each lane's x >> RESAMPLING_BITS as a byte, 0 or 255 where it is beyond them.
PALO_INLINE void store_levels(uint8_t* p, Ints x) {
  const auto narrow = [&](int i) { return vqmovn_s32(vshrq_n_s32(x.part[i], RESAMPLING_BITS)); };
  const int16x8_t low = vcombine_s16(narrow(0), narrow(1)), high = vcombine_s16(narrow(2), narrow(3));
  vst1q_u8(p, vcombine_u8(vqmovun_s16(low), vqmovun_s16(high)));
}

constexpr int32_t SIGNED_OFFSET = 0;
PALO_INLINE Ints move_signed(Ints w) {
  return w;
}

using Quad = Q8Input;

PALO_INLINE Quad load_quad(const uint8_t* p) {
  return load_q8_input(p);
}
// sums += four bytes of each lane times the quad; weights up to 127 are the same signed and unsigned.
PALO_INLINE void add_quad(Ints& sums, Ints w, Quad x) {
  for (int i = 0; i < PARTS; ++i) {
    sums.part[i] = vdotq_lane_s32(sums.part[i], vreinterpretq_s8_s32(w.part[i]), x, 0);
  }
}
PALO_INLINE void add_signed_quad(Ints& sums, Ints w, Quad x) {
  add_quad(sums, w, x);
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
