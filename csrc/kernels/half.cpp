#include "kernels/half.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace palo {

// 5 bits of exponent, 10 of fraction.
float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16, exponent = half >> 10 & 31u, fraction = half & 1023u;
  if (exponent == 0)
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(fraction) * 0x1p-24f));
  const uint32_t rebiased = exponent == 31 ? 255 : exponent + 127 - 15;
  return std::bit_cast<float>(sign | rebiased << 23 | fraction << 13);
}

float read_half(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof(half));
  return half_to_float(half);
}

uint16_t float_to_half(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const float size = std::abs(x);
  if (std::isnan(x))
    return static_cast<uint16_t>(sign | 0x7E00u | (bits >> 13 & 0x3FFu));  // as F16C: quiet, same payload
  if (size >= 65520.0f) return static_cast<uint16_t>(sign | 0x7C00u);
  // The last bit of the sum has the value of the half's last bit, so the addition rounds as the processor does, to
  // even.
  if (size < 0x1p-14f) {
    const float sum = size + 0.5f;  // last bit 2^-24, the step of subnormals
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - std::bit_cast<uint32_t>(0.5f)));
  }
  const uint32_t rounded = (bits & 0x7FFFFFFFu) + 0xFFFu + (bits >> 13 & 1u);
  return static_cast<uint16_t>(sign | ((rounded >> 13) - ((127u - 15u) << 10)));
}

}  // namespace palo
