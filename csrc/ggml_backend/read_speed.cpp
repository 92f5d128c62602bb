#include "ggml_backend/read_speed.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "ggml_backend/parallel.h"
#include "ggml_backend/weight_memory.h"

namespace palo::backend {
namespace {

constexpr size_t MEMORY_MAX = 1u << 30;   // far beyond any cache
constexpr size_t TASK_BYTES = 256 << 10;  // as in a product: one thread reads neighbouring weights

constexpr size_t LINE_BYTES = 64, PREFETCH_BYTES = 8 << 10;  // as far ahead as the products prefetch

// A sum, so that every byte must be fetched; eight at a time, so that no addition waits for another.
uint64_t sum(const uint8_t* data, size_t size) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + sizeof(sums) <= size; i += sizeof(sums)) {
    static_assert(sizeof(sums) == LINE_BYTES);
#ifndef _MSC_VER
    __builtin_prefetch(data + i + PREFETCH_BYTES);
#endif
    uint64_t values[8];
    std::memcpy(values, data + i, sizeof(values));
    for (int lane = 0; lane < 8; ++lane) sums[lane] += values[lane];
  }
  uint64_t total = 0;
  for (const uint64_t lane : sums) total += lane;
  return total;
}

}  // namespace
}  // namespace palo::backend

double palo_read_speed(size_t n_bytes, int n_threads) {
  using namespace palo::backend;
  const size_t size = std::clamp(n_bytes, TASK_BYTES, MEMORY_MAX) / TASK_BYTES * TASK_BYTES;
  const WeightMemory memory(size);
  if (memory.data() == nullptr) return 0;
  std::memset(memory.data(), 1, size);
  std::atomic<uint64_t> total{0};
  const Phase read = {static_cast<int64_t>(size / TASK_BYTES), [&](int64_t task) {
                        total += sum(memory.data() + static_cast<size_t>(task) * TASK_BYTES, TASK_BYTES);
                      }};
  size_t n_read = 0;
  const auto start = std::chrono::steady_clock::now();
  for (; n_read < n_bytes; n_read += size) run_phases({read}, std::max(1, n_threads));
  const double elapsed_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return total != 0 ? static_cast<double>(n_read) / elapsed_s : 0;
}
