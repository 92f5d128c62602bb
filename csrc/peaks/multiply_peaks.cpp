#include "peaks/multiply_peaks.h"

#include <algorithm>
#include <ctime>

// Instructions by their names: GCC and clang, on x86.
#if defined(__x86_64__) && defined(__GNUC__)
#define PALO_HAS_PEAKS
#include <immintrin.h>
#endif

namespace palo {
namespace {

double now_s() {
#ifdef CLOCK_THREAD_CPUTIME_ID
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
#else
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
#endif
}

#ifdef PALO_HAS_PEAKS

// Each adds in N_CHAINS independent sums, enough to hide a latency of 5 cycles on two units; `asm` keeps the compiler
// from folding or dropping them. N_STEPS of them: 10 to 40 ms.
constexpr int64_t N_CHAINS = 12, N_STEPS = 4'000'000;

#define PALO_PEAK_LOOP(type, zero, step)              \
  type sums[N_CHAINS];                                \
  _Pragma("GCC unroll 16") for (type& sum : sums) {   \
    sum = zero;                                       \
    asm volatile("" : "+v"(sum));                     \
  }                                                   \
  for (int64_t n = 0; n < N_STEPS; ++n) {             \
    _Pragma("GCC unroll 16") for (type& sum : sums) { \
      step;                                           \
      asm volatile("" : "+v"(sum));                   \
    }                                                 \
  }

__attribute__((target("avx2,fma"))) void fma_256() {
  const __m256 x = _mm256_set1_ps(0.5f);
  PALO_PEAK_LOOP(__m256, _mm256_setzero_ps(), sum = _mm256_fmadd_ps(sum, x, x))
}
#ifdef PALO_HAS_avx512vnni
__attribute__((target("avx512f"))) void fma_512() {
  const __m512 x = _mm512_set1_ps(0.5f);
  PALO_PEAK_LOOP(__m512, _mm512_setzero_ps(), sum = _mm512_fmadd_ps(sum, x, x))
}
__attribute__((target("avx512f,avx512vnni"))) void dot_512() {
  const __m512i x = _mm512_set1_epi32(0x01010101);
  PALO_PEAK_LOOP(__m512i, _mm512_setzero_si512(), sum = _mm512_dpbusd_epi32(sum, x, x))
}
#endif
#ifdef PALO_HAS_avxvnni
__attribute__((target("avx2,avxvnni"))) void dot_256() {
  const __m256i x = _mm256_set1_epi32(0x01010101);
  PALO_PEAK_LOOP(__m256i, _mm256_setzero_si256(), sum = _mm256_dpbusd_avx_epi32(sum, x, x))
}
#endif
// The product of a loop's own sum, so that it is computed again in each step.
__attribute__((target("avx2"))) void multiply_add_256() {
  const __m256i x = _mm256_set1_epi32(0x00010001);
  __m256i y = x;
  PALO_PEAK_LOOP(__m256i, _mm256_setzero_si256(), asm volatile("" : "+v"(y));
                 sum = _mm256_add_epi32(sum, _mm256_madd_epi16(y, x)))
}

struct Peak {
  const char* isa;
  void (*f32)();
  double f32_per_step;
  void (*int8)();
  double int8_per_step;
};
constexpr Peak PEAKS[] = {
#ifdef PALO_HAS_avx512vnni
    {"avx512vnni", fma_512, 32, dot_512, 128},
#endif
#ifdef PALO_HAS_avxvnni
    {"avxvnni", fma_256, 16, dot_256, 64},
#endif
    {"avx2", fma_256, 16, multiply_add_256, 32}};

double steps_per_s(void (*run)()) {
  return static_cast<double>(N_CHAINS * N_STEPS) / best_s(run);
}

const Peak* peak_of(const std::string& isa) {
  const auto* found = std::find_if(std::begin(PEAKS), std::end(PEAKS), [&](const Peak& p) { return isa == p.isa; });
  return found == std::end(PEAKS) ? nullptr : found;
}

#endif

}  // namespace

double best_s(const std::function<void()>& run) {
  double best = 1e9;
  const double end = now_s() + 0.4;
  for (int i = 0; i < 3 || now_s() < end; ++i) {
    const double start = now_s();
    run();
    best = std::min(best, now_s() - start);
  }
  return best;
}

#ifdef PALO_HAS_PEAKS
double peak_f32(const std::string& isa) {
  const Peak* peak = peak_of(isa);
  return peak == nullptr ? 0 : peak->f32_per_step * steps_per_s(peak->f32);
}
double peak_int8(const std::string& isa) {
  const Peak* peak = peak_of(isa);
  return peak == nullptr ? 0 : peak->int8_per_step * steps_per_s(peak->int8);
}
#else
double peak_f32(const std::string&) {
  return 0;
}
double peak_int8(const std::string&) {
  return 0;
}
#endif

}  // namespace palo
