// IEEE 754 binary16 where the processor has no instruction for it.
#pragma once

#include <cstdint>

namespace palo {

// Exact; a subnormal is an ordinary float.
float half_to_float(uint16_t half);

// The same for the two bytes at p, which need not be aligned.
float read_half(const uint8_t* p);

// Nearest, ties to even; beyond 65520 infinite. NaN stays NaN.
uint16_t float_to_half(float x);

}  // namespace palo
