#include "peaks.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace palo {

double clock_hz() {
  constexpr int64_t N = 20'000'000;
  const double seconds = best_s([] {
    uint64_t x = 1, step = 3;
    asm volatile("" : "+r"(step));  // Golden Cove adds constants while it renames registers, in no time
    for (int64_t i = 0; i < N; i += 8) {
      for (int k = 0; k < 8; ++k) {
        x += step;
        asm volatile("" : "+r"(x));
      }
    }
  });
  return static_cast<double>(N) / seconds;
}

double copy_speed(int64_t n_bytes) {
  const auto half = static_cast<size_t>(n_bytes / 2);
  std::vector<char> from(half, 1), to(half);
  const int64_t n_repeats = std::max<int64_t>(1, (8 << 20) / n_bytes);  // a clock tick is a microsecond
  const double seconds = best_s([&] {
    for (int64_t i = 0; i < n_repeats; ++i) {
      std::memcpy(to.data(), from.data(), half);
      asm volatile("" : : "r"(to.data()) : "memory");
    }
  });
  return static_cast<double>(n_repeats * n_bytes) / seconds;
}

double read_speed(int64_t n_bytes) {
  // Four sums of 16 bytes: plain x86-64 and plain AArch64 have such registers.
  using Words = uint64_t __attribute__((vector_size(16)));
  const std::vector<Words> words(static_cast<size_t>(n_bytes) / sizeof(Words), Words{1, 1});
  const int64_t n_repeats = std::max<int64_t>(1, (8 << 20) / n_bytes);
  const double seconds = best_s([&] {
    Words sums[4] = {};
    for (int64_t n = 0; n < n_repeats; ++n) {
      for (size_t i = 0; i + 4 <= words.size(); i += 4) {
        for (size_t k = 0; k < 4; ++k) sums[k] += words[i + k];
      }
      asm volatile("" : : "r"(sums) : "memory");
    }
  });
  return static_cast<double>(n_repeats * n_bytes) / seconds;
}

}  // namespace palo
