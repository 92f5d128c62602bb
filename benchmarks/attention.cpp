// Speed of attention over a cache: single queries, each with cells of its own, as a step of that many answers has them.
//   cmake -S . -B build/benchmark -DPALO_CPP_TESTS=ON -DPALO_CPP_KERNELS_ONLY=ON && cmake --build build/benchmark
//   build/benchmark/palo_cpp_attention_benchmark [THREADS [QUERIES [CELLS [HEADS OF A TASK]]]]
// The sizes are those of a 1.4B model: 24 layers of 16 heads of 128. GB/s counts the keys and values that are seen.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "kernels/cache_attention.h"
#include "kernels/half.h"
#include "kernels/kernel_table.h"

namespace {

constexpr int64_t N_LAYERS = 24, N_HEADS = 16, HEAD_SIZE = 128, STRIDE = 2 * N_HEADS * HEAD_SIZE;
constexpr uint16_t HIDDEN = 0xFC00;  // minus infinity

struct Step {
  int64_t n_queries, n_seen, n_task_heads;
  int64_t n_cells = n_queries * n_seen;
  std::vector<uint16_t> keys, values, mask;
  std::vector<float> queries, out, weights;

  Step(int64_t queries_at_once, int64_t cells_of_each, int64_t task_heads)
      : n_queries(queries_at_once),
        n_seen(cells_of_each),
        n_task_heads(task_heads),
        keys(N_LAYERS * n_cells * STRIDE / 2),
        values(keys.size()),
        mask(n_queries * n_cells, HIDDEN),
        queries(n_queries * N_HEADS * HEAD_SIZE, 0.01f),
        out(queries.size()),
        weights(n_queries * N_HEADS * palo::attention_weights_stride(n_cells)) {
    std::mt19937 random(0);
    for (auto* cells : {&keys, &values}) {
      for (uint16_t& half : *cells) half = palo::float_to_half(static_cast<float>(random() % 1000) / 1000.0f - 0.5f);
    }
    for (int64_t i = 0; i < n_queries; ++i) std::fill_n(mask.begin() + i * n_cells + i * n_seen, n_seen, uint16_t{0});
  }

  int64_t n_tasks() const { return n_queries * N_HEADS / n_task_heads; }

  void attend(int64_t layer, int64_t task) {
    const int64_t head = task * n_task_heads % N_HEADS, query = task * n_task_heads / N_HEADS;
    const int64_t row = (query * N_HEADS + head) * HEAD_SIZE;
    const auto rows = [&](const std::vector<uint16_t>& cells) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(cells.data());
      return palo::CacheRows{bytes + layer * n_cells * STRIDE + 2 * head * HEAD_SIZE, STRIDE, 2 * HEAD_SIZE};
    };
    palo::kernels().cache_attention->attend(
        &out[row], &weights[task * n_task_heads * palo::attention_weights_stride(n_cells)], &queries[row], rows(keys),
        rows(values), reinterpret_cast<const uint8_t*>(&mask[query * n_cells]), n_cells,
        {n_task_heads, 1, HEAD_SIZE, HEAD_SIZE}, 0.1f);
  }

  // Each thread takes neighbouring tasks.
  void run(int64_t n_threads) {
    std::vector<std::thread> threads;
    for (int64_t t = 0; t < n_threads; ++t) {
      threads.emplace_back([this, t, n_threads] {
        for (int64_t layer = 0; layer < N_LAYERS; ++layer) {
          for (int64_t i = t * n_tasks() / n_threads; i < (t + 1) * n_tasks() / n_threads; ++i) attend(layer, i);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

// The least of 20 runs; by the clock, for several threads work.
double best_s(Step& step, int64_t n_threads) {
  double best = 1e9;
  for (int i = 0; i < 20; ++i) {
    const auto begun = std::chrono::steady_clock::now();
    step.run(n_threads);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, int64_t otherwise) { return argc > i ? std::atoll(argv[i]) : otherwise; };
  const int64_t n_threads = argument(1, 2), n_queries = argument(2, 8), n_seen = argument(3, 200),
                n_task_heads = argument(4, N_HEADS);
  if (n_threads < 1 || n_queries < 1 || n_seen < 1 || n_task_heads < 1 || N_HEADS % n_task_heads != 0) {
    std::fprintf(stderr, "expected whole numbers from 1 up, the last one a divisor of %d\n", int{N_HEADS});
    return 1;
  }
  Step step(n_queries, n_seen, n_task_heads);
  const double seconds = best_s(step, n_threads);
  const double n_bytes = static_cast<double>(N_LAYERS * n_queries * n_seen * STRIDE * 2);
  std::printf("%s, %lld threads: %.1f ms, %.1f GB/s\n", palo::kernels().isa, static_cast<long long>(n_threads),
              1e3 * seconds, n_bytes / seconds / 1e9);
}
