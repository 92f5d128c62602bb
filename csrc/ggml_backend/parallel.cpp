#include "ggml_backend/parallel.h"

#include <atomic>
#include <memory>

#ifdef PALO_USE_OPENMP
#include <omp.h>

#include "kernels/spin_wait.h"
#include "kernels/task_trace.h"
#else
#include <algorithm>
#include <mutex>
#include <thread>

#include "kernels/thread_pool.h"
#endif

namespace palo::backend {
namespace {

thread_local int worker_of_thread = 0;

}  // namespace

int worker() {
  return worker_of_thread;
}

#ifdef PALO_USE_OPENMP

namespace {

void run_serially(const Phase& phase) {
  worker_of_thread = 0;
  for (int64_t task = 0; task < phase.n_tasks; ++task) phase.body(task);
}

// The tasks of one phase, split into one run of neighbours per thread: neighbouring tasks read neighbouring weights,
// and memory is fastest when it is read in order. A thread that has finished its run helps the others.
class Tasks {
 public:
  void cut(int64_t n_tasks, int n_runs) {
    runs_ = std::vector<Run>(static_cast<size_t>(n_runs));
    for (int i = 0; i < n_runs; ++i) {
      runs_[i].next = n_tasks * i / n_runs;
      runs_[i].end = n_tasks * (i + 1) / n_runs;
    }
    n_left_ = static_cast<int>(n_tasks);
  }

  void work(const Phase& phase, int worker) {
    int n_done = 0;
    for (size_t i = 0; i < runs_.size(); ++i) {
      Run& run = runs_[(static_cast<size_t>(worker) + i) % runs_.size()];
      int64_t task = 0;
      for (; (task = run.next.fetch_add(1, std::memory_order_relaxed)) < run.end; ++n_done) phase.body(task);
    }
    if (n_done > 0 && n_left_.fetch_sub(n_done) == n_done) n_left_.notify_all();
  }

  // Returns when all tasks are done, whoever did them: a thread that the system has stopped between two tasks delays
  // nothing. One that it has stopped within a task may run on this core as soon as this thread sleeps.
  void wait(int n_spins) const {
    if (spin_until(n_spins, [this] { return n_left_ == 0; })) return;
    for (int n = n_left_; n != 0; n = n_left_) n_left_.wait(n);
  }

 private:
  struct alignas(64) Run {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  std::vector<Run> runs_;
  alignas(64) std::atomic<int> n_left_{0};
};

// One parallel region for all phases: entering one costs more than a wait. OpenMP may start fewer threads than
// requested; the others then do the runs of the missing ones.
void run_together(const Phase* phases, size_t n_phases, int n_threads) {
  const auto tasks = std::make_unique<Tasks[]>(n_phases);
  for (size_t i = 0; i < n_phases; ++i) tasks[i].cut(phases[i].n_tasks, n_threads);
  const int n_spins = n_pauses(n_threads);
#pragma omp parallel num_threads(n_threads)
  {
    worker_of_thread = omp_get_thread_num();
    for (size_t i = 0; i < n_phases; ++i) {
      tasks[i].work(phases[i], worker_of_thread);
      tasks[i].wait(n_spins);
    }
  }
}

void run(const std::vector<Phase>& phases, int n_threads) {
  size_t first = 0;
  // Phases that only one thread works on run before the others are woken.
  while (first < phases.size() && (n_threads == 1 || phases[first].n_tasks <= 1)) run_serially(phases[first++]);
  if (first < phases.size()) run_together(phases.data() + first, phases.size() - first, n_threads);
}

std::vector<Phase> traced(const std::vector<Phase>& phases, TaskTrace* trace) {
  std::vector<Phase> all;
  for (const Phase& phase : phases) {
    all.push_back({phase.n_tasks, [&phase, trace, number = trace->begin_phase()](int64_t task) {
                     trace->run(number, worker(), [&] { phase.body(task); });
                   }});
  }
  return all;
}

}  // namespace

void run_phases(const std::vector<Phase>& phases, int n_threads) {
  TaskTrace* trace = TaskTrace::in_use();
  run(trace == nullptr ? phases : traced(phases, trace), n_threads);
}

int default_n_threads() {
  return omp_get_num_procs();
}

#else

namespace {

// The pool for the last requested number of threads; backends of several contexts share it. Without further threads
// there is one of its own.
std::shared_ptr<ThreadPool> pool_of(int n_threads) {
  static std::mutex mutex;
  static std::shared_ptr<ThreadPool> pool;
  static const auto alone = std::make_shared<ThreadPool>(1);
  if (n_threads == 1) return alone;
  const std::lock_guard lock(mutex);
  if (pool == nullptr || pool->n_threads() != n_threads) pool = std::make_shared<ThreadPool>(n_threads);
  return pool;
}

}  // namespace

void run_phases(const std::vector<Phase>& phases, int n_threads) {
  const std::shared_ptr<ThreadPool> pool = pool_of(n_threads);
  for (const Phase& phase : phases) {
    pool->parallel_for(phase.n_tasks, [&phase](int64_t task, int worker) {
      worker_of_thread = worker;
      phase.body(task);
    });
  }
}

int default_n_threads() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, ThreadPool::MAX_THREADS);
}

#endif

}  // namespace palo::backend
