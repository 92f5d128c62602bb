#include "ggml_backend/parallel.h"

#include <atomic>
#include <memory>

#ifdef PALO_USE_OPENMP
#include <omp.h>
#else
#include <algorithm>
#include <mutex>
#include <thread>

#include "kernels/thread_pool.h"
#endif

namespace palo::backend {
namespace {

void run_serially(const Phase& phase) {
  for (int64_t task = 0; task < phase.n_tasks; ++task) phase.body(task);
}

}  // namespace

#ifdef PALO_USE_OPENMP

namespace {

// One parallel region for all phases: entering one costs more than a barrier.
void run_together(const Phase* phases, size_t n_phases, int n_threads) {
  const auto next_task = std::make_unique<std::atomic<int64_t>[]>(n_phases);  // zeros
#pragma omp parallel num_threads(n_threads)
  for (size_t i = 0; i < n_phases; ++i) {
    while (true) {
      const int64_t task = next_task[i].fetch_add(1, std::memory_order_relaxed);
      if (task >= phases[i].n_tasks) break;
      phases[i].body(task);
    }
    if (i + 1 < n_phases) {
#pragma omp barrier
    }
  }
}

}  // namespace

void run_phases(const std::vector<Phase>& phases, int n_threads) {
  size_t first = 0;
  // What one thread does anyway is done before the others are woken.
  while (first < phases.size() && (n_threads == 1 || phases[first].n_tasks <= 1)) run_serially(phases[first++]);
  if (first < phases.size()) run_together(phases.data() + first, phases.size() - first, n_threads);
}

int default_n_threads() {
  return omp_get_num_procs();
}

#else

namespace {

// The pool of the last number of threads asked for; backends of several contexts share it.
std::shared_ptr<ThreadPool> pool_of(int n_threads) {
  static std::mutex mutex;
  static std::shared_ptr<ThreadPool> pool;
  const std::lock_guard lock(mutex);
  if (pool == nullptr || pool->n_threads() != n_threads) pool = std::make_shared<ThreadPool>(n_threads);
  return pool;
}

}  // namespace

void run_phases(const std::vector<Phase>& phases, int n_threads) {
  const std::shared_ptr<ThreadPool> pool = n_threads > 1 ? pool_of(n_threads) : nullptr;
  for (const Phase& phase : phases) {
    if (pool == nullptr || phase.n_tasks <= 1) {
      run_serially(phase);
    } else {
      pool->parallel_for(phase.n_tasks, [&phase](int64_t task, int) { phase.body(task); });
    }
  }
}

int default_n_threads() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, ThreadPool::MAX_THREADS);
}

#endif

}  // namespace palo::backend
