// The peak speed of one core, its clock and plain passes over memory, for comparison in kernels.cpp.
#pragma once

#include <cstdint>

#include "peaks/multiply_peaks.h"

namespace palo {

// Cycles per second, from a chain of additions that take one cycle each.
double clock_hz();

// Bytes per second, read and written, of memcpy that moves n_bytes in all: from 2 * cache on, through memory.
double copy_speed(int64_t n_bytes);

// Bytes per second of a sum over n_bytes.
double read_speed(int64_t n_bytes);

}  // namespace palo
