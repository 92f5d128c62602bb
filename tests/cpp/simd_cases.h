// Shared by the tests of the SIMD kernels: the tables to test, difficult values, comparisons.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "kernels/kernel_table.h"

namespace palo::generic {
const KernelTable& kernel_table();
}
namespace palo::generic_wide {
const KernelTable& kernel_table();
}

namespace simd_cases {

using palo::KernelTable;

// Every table made from the SIMD source that this machine runs; plain loops first.
inline std::vector<const KernelTable*> simd_tables() {
  std::vector<const KernelTable*> tables = {&palo::generic::kernel_table(), &palo::generic_wide::kernel_table()};
  for (const std::string& isa : palo::available_isas()) {
    if (isa != "ref") tables.push_back(&palo::kernels_of(isa));
  }
  return tables;
}

// Exactly n bytes, aligned as panels need: a sanitizer finds any access beyond them.
class Bytes {
 public:
  explicit Bytes(int64_t n) : data_(static_cast<uint8_t*>(::operator new(n, std::align_val_t{64}))) {}
  ~Bytes() { ::operator delete(data_, std::align_val_t{64}); }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  uint8_t* data() { return data_; }

 private:
  uint8_t* data_;
};

enum class Values { NORMAL, ZEROS, OUTLIER, DENORMAL, TINY, EQUAL, NEGATIVE_PEAK, TIES, HUGE_ONES };
inline constexpr Values ALL_VALUES[] = {Values::NORMAL,        Values::ZEROS, Values::OUTLIER,
                                        Values::DENORMAL,      Values::TINY,  Values::EQUAL,
                                        Values::NEGATIVE_PEAK, Values::TIES,  Values::HUGE_ONES};

inline std::vector<float> draw(int64_t n, unsigned seed, Values kind = Values::NORMAL) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) {
    const float value = normal(random);
    const float sign = value < 0 ? -1.0f : 1.0f;
    switch (kind) {
      case Values::NORMAL:
        x[i] = value;
        break;
      case Values::ZEROS:
        x[i] = 0.0f * sign;
        break;
      case Values::OUTLIER:
        x[i] = i % 97 == 5 ? 50.0f * value : value;
        break;
      case Values::DENORMAL:
        x[i] = 1e-40f * value;
        break;
      case Values::TINY:
        x[i] = 7.5e-37f * value;
        break;  // on both sides of 2^-120
      case Values::EQUAL:
        x[i] = sign;
        break;  // every int8 is -127 or 127
      case Values::NEGATIVE_PEAK:
        x[i] = i % 64 == 3 ? -9.0f : 0.5f * value;
        break;
      case Values::TIES:
        x[i] = i % 64 == 0 ? 127.0f : static_cast<float>(i % 120) + 0.5f * sign;
        break;
      case Values::HUGE_ONES:
        x[i] = 1e15f * value;
        break;
    }
  }
  return x;
}

inline bool are_equal_bits(const float* a, const float* b, int64_t n) {
  return n == 0 || std::memcmp(a, b, n * sizeof(float)) == 0;
}

// Runs `run` on every table: equal bits, within tolerance * (1 + |expected|) of "ref"; no result may be NaN.
template <typename Run>
void check_on_every_isa(const Run& run, float tolerance) {
  const std::vector<float> expected = run(palo::ref::kernel_table()), first = run(*simd_tables().front());
  CHECK(first.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(std::abs(first[i] - expected[i]) <= tolerance * (1.0f + std::abs(expected[i])));
  }
  for (const KernelTable* kernels : simd_tables()) {
    const std::vector<float> got = run(*kernels);
    CHECK(got.size() == first.size() && are_equal_bits(got.data(), first.data(), first.size()));
  }
}

}  // namespace simd_cases
