#include "kernels/task_trace.h"

#include <chrono>
#include <cinttypes>
#include <cstdlib>
#include <memory>

namespace palo {
namespace {

int64_t now_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

TaskTrace* TaskTrace::in_use() {
  static const std::unique_ptr<TaskTrace> trace = [] {
    const char* path = std::getenv("PALO_CPP_TRACE");
    std::FILE* file = path == nullptr ? nullptr : std::fopen(path, "a");
    return std::unique_ptr<TaskTrace>(file == nullptr ? nullptr : new TaskTrace(file));
  }();
  return trace.get();
}

TaskTrace::~TaskTrace() {
  const void* library = this;  // the core and the backend have a trace each
  for (const Record& r : records_) {
    std::fprintf(file_, "%p,%" PRId64 ",%d,%" PRId64 ",%" PRId64 "\n", library, r.phase, r.worker, r.begin_ns,
                 r.end_ns);
  }
  std::fclose(file_);
}

int64_t TaskTrace::begin_phase() {
  const std::lock_guard lock(mutex_);
  return n_phases_++;
}

void TaskTrace::run(int64_t phase, int worker, const std::function<void()>& task) {
  const int64_t begin = now_ns();
  task();
  const int64_t end = now_ns();
  const std::lock_guard lock(mutex_);
  records_.push_back({phase, worker, begin, end});
}

}  // namespace palo
