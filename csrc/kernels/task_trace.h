// When each task ran, for benchmarks/pool_trace.py.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <mutex>
#include <vector>

namespace palo {

// Tasks of the phases of one library. Written when the process ends: a line "library,phase,worker,begin,end" for each,
// times in nanoseconds of the steady clock.
class TaskTrace {
 public:
  // Where PALO_CPP_TRACE names a file, lines are appended to it; otherwise nullptr, and nothing is recorded.
  static TaskTrace* in_use();
  ~TaskTrace();
  TaskTrace(const TaskTrace&) = delete;
  TaskTrace& operator=(const TaskTrace&) = delete;

  int64_t begin_phase();
  // Runs a task of a phase and records it.
  void run(int64_t phase, int worker, const std::function<void()>& task);

 private:
  struct Record {
    int64_t phase;
    int worker;
    int64_t begin_ns, end_ns;
  };

  explicit TaskTrace(std::FILE* file) : file_(file) {}

  std::FILE* const file_;
  std::mutex mutex_;
  int64_t n_phases_ = 0;
  std::vector<Record> records_;
};

}  // namespace palo
