// Cache lines that are asked for while something else is multiplied: some with each group, until all are.
#pragma once

#include "kernels/kernel_table.h"

namespace palo::PALO_SIMD_ISA {
namespace {

enum class Cache { SECOND = 2, FIRST = 3 };  // as __builtin_prefetch numbers them

template <Cache CACHE>
struct LinesAhead {
  const uint8_t *at, *end;
  int64_t per_group;

  // n_groups: that there are to ask with.
  LinesAhead(Ahead ahead, int64_t n_groups)
      : at(ahead.at), end(ahead.at + ahead.n_bytes), per_group((ahead.n_bytes / 64 + n_groups - 1) / n_groups) {}
  PALO_INLINE void ask() {
    for (int64_t i = 0; i < per_group && at < end; ++i, at += 64) {
      __builtin_prefetch(at, 0, static_cast<int>(CACHE));
    }
  }
};

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
