// IEEE 754 binary16 where the processor has no instruction for it.
#pragma once

#include <cstdint>

namespace palo {

// Exact; a subnormal is an ordinary float.
float half_to_float(uint16_t half);

// Nearest, ties to even; beyond 65520 infinite. NaN stays NaN.
uint16_t float_to_half(float x);

}  // namespace palo
