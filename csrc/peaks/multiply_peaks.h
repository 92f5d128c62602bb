// How fast one core multiplies and adds, measured in registers: what speeds of products are compared with.
#pragma once

#include <functional>
#include <string>

namespace palo {

// Seconds of the best of many runs, of time this thread has computed: what others take of the core does not count.
double best_s(const std::function<void()>& run);

// Operations per second (a multiply-add is two) of independent multiply-adds whose operands stay in registers, with the
// instructions that the kernels of `isa` use: f32 fma, and the int8 product (avx512vnni, avxvnni: vpdpbusd; avx2:
// vpmaddwd and vpaddd). 0 for instruction sets that are not listed in multiply_peaks.cpp.
double peak_f32(const std::string& isa);
double peak_int8(const std::string& isa);

}  // namespace palo
