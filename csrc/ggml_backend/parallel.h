// Threads of the backend.
//
// Built with OpenMP it uses the same team of threads as ggml's CPU backend: the two alternate many times per token, and
// a pool of our own would compete with OpenMP's waiting threads for the cores. Without OpenMP it uses ThreadPool.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace palo::backend {

// Independent tasks; body(task) is called once for each task in [0, n_tasks) and must not throw.
struct Phase {
  int64_t n_tasks;
  std::function<void(int64_t task)> body;
};

// Runs phases one after the other, the tasks of each on n_threads threads (1 to 512): every task of a phase is done
// before the next phase begins. Which thread runs a task is left open, so results must not depend on it.
void run_phases(const std::vector<Phase>& phases, int n_threads);

// The thread of run_phases, in [0, n_threads), that runs the calling task: an index for memory of its own.
int worker();

// Number of threads if none was set: the processors that this process may run on.
int default_n_threads();

}  // namespace palo::backend
