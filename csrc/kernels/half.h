// Conversion of IEEE 754 binary16 for processors without an instruction for it.
#pragma once

#include <cstdint>

namespace palo {

// Exact; a subnormal binary16 becomes a normal float.
float half_to_float(uint16_t half);

// The same for the two bytes at p, which need not be aligned.
float read_half(const uint8_t* p);

// Rounds to nearest, ties to even; from 65520 on the result is infinite. NaN stays NaN.
uint16_t float_to_half(float x);

}  // namespace palo
