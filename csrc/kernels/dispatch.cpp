// Chooses the instruction set at startup: one that was compiled in, that the processor has, and whose registers the
// operating system saves.
#include <cstdlib>
#include <stdexcept>

#include "kernels/kernel_table.h"

#if defined(__x86_64__) && !defined(_MSC_VER)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace palo {

// simd/kernels.cpp, compiled once for each.
namespace avx512vnni {
const KernelTable& kernel_table();
}
namespace avxvnni {
const KernelTable& kernel_table();
}
namespace avx2 {
const KernelTable& kernel_table();
}
namespace neon {
const KernelTable& kernel_table();
}

namespace {

struct Isa {
  const char* name;
  const KernelTable& (*table)();
};

#if defined(__x86_64__) && !defined(_MSC_VER)
// CPUID leaves and bits: Intel's manual, volume 2, "CPUID"; XCR0's: volume 1, 13.3.
class X86 {
 public:
  X86() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid(1, &a, &b, &leaf1_c_, &d);
    __get_cpuid_count(7, 0, &a, &leaf7_b_, &leaf7_c_, &d);
    __get_cpuid_count(7, 1, &leaf7_1_a_, &b, &c, &d);
    constexpr unsigned OSXSAVE = 1u << 27;
    if (leaf1_c_ & OSXSAVE) {
      asm volatile("xgetbv" : "=a"(saved_), "=d"(d) : "c"(0));
    }
  }
  bool has_avx2() const {
    constexpr unsigned FMA = 1u << 12, F16C = 1u << 29, AVX2 = 1u << 5, YMM = 0x6;
    return (leaf1_c_ & FMA) && (leaf1_c_ & F16C) && (leaf7_b_ & AVX2) && (saved_ & YMM) == YMM;
  }
  bool has_avxvnni() const {
    constexpr unsigned AVX_VNNI = 1u << 4;
    return has_avx2() && (leaf7_1_a_ & AVX_VNNI);
  }
  bool has_avx512vnni() const {
    constexpr unsigned F_DQ_BW_VL = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, VNNI = 1u << 11, ZMM = 0xE6;
    return has_avx2() && (leaf7_b_ & F_DQ_BW_VL) == F_DQ_BW_VL && (leaf7_c_ & VNNI) && (saved_ & ZMM) == ZMM;
  }

 private:
  unsigned leaf1_c_ = 0, leaf7_b_ = 0, leaf7_c_ = 0, leaf7_1_a_ = 0, saved_ = 0;
};
#endif

[[maybe_unused]] bool has_dot_product() {
#if defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long ASIMDDP = 1ul << 20;  // asm/hwcap.h: HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & ASIMDDP) != 0;
#elif defined(__aarch64__) && defined(__APPLE__)
  int has = 0;
  size_t size = sizeof(has);
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}

std::vector<Isa> find_isas() {
  std::vector<Isa> isas;
#if defined(__x86_64__) && !defined(_MSC_VER)
  [[maybe_unused]] const X86 x86;
#endif
#ifdef PALO_HAS_avx512vnni
  if (x86.has_avx512vnni()) isas.push_back({"avx512vnni", avx512vnni::kernel_table});
#endif
#ifdef PALO_HAS_avxvnni
  if (x86.has_avxvnni()) isas.push_back({"avxvnni", avxvnni::kernel_table});
#endif
#ifdef PALO_HAS_avx2
  if (x86.has_avx2()) isas.push_back({"avx2", avx2::kernel_table});
#endif
#ifdef PALO_HAS_neon
  if (has_dot_product()) isas.push_back({"neon", neon::kernel_table});
#endif
  isas.push_back({"ref", ref::kernel_table});
  return isas;
}

const std::vector<Isa>& isas() {
  static const std::vector<Isa> found = find_isas();
  return found;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas()) names.push_back(isa.name);
  return names;
}

const KernelTable& kernels_of(const std::string& name) {
  std::string known;
  for (const Isa& isa : isas()) {
    if (isa.name == name) return isa.table();
    known += (known.empty() ? "" : ", ") + std::string(isa.name);
  }
  throw std::invalid_argument("PALO_CPP_ISA: expected one of: " + known + "; got \"" + name +
                              "\"; unset it to use the best one");
}

const KernelTable& kernels() {
  const char* forced = std::getenv("PALO_CPP_ISA");
  if (forced != nullptr && *forced != '\0') return kernels_of(forced);
  return isas().front().table();
}

}  // namespace palo
