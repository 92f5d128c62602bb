// The peak speed of one core, measured in registers and in plain passes over memory, for comparison in kernels.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace palo {

// Seconds of the best of many runs, of time this process has computed: other processes' share of the core does not
// count.
double best_s(const std::function<void()>& run);

// Cycles per second, from a chain of additions that take one cycle each.
double clock_hz();

// Operations per second (a multiply-add is two) of independent multiply-adds whose operands stay in registers, with the
// instructions that the kernels of `isa` use: f32 fma, and the int8 product (avx512vnni, avxvnni: vpdpbusd; avx2:
// vpmaddwd and vpaddd). 0 for instruction sets that are not listed in peaks.cpp.
double peak_f32(const std::string& isa);
double peak_int8(const std::string& isa);

// Bytes per second, read and written, of memcpy that moves n_bytes in all: from 2 * cache on, through memory.
double copy_speed(int64_t n_bytes);

// Bytes per second of a sum over n_bytes.
double read_speed(int64_t n_bytes);

}  // namespace palo
