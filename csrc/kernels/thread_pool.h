// One pool of threads and the one way to use it: parallel_for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace palo {

class ThreadPool {
 public:
  static constexpr int MAX_THREADS = 512;

  // n_threads in [1, MAX_THREADS]: the caller of parallel_for and n_threads - 1 threads, started here.
  // Throws std::invalid_argument for another number.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return n_threads_; }

  // Calls body(task, worker) once for each task in [0, n_tasks), worker in [0, n_threads), and returns when all are
  // done. Results must not depend on which worker runs a task: then they are equal for any number of threads. The first
  // exception that a body throws is rethrown here. Calls from several threads run one after the other. In a forked
  // child, where the threads of the pool do not exist, the caller does all the work.
  void parallel_for(int64_t n_tasks, const std::function<void(int64_t task, int worker)>& body);

 private:
  struct Workers;

  void run(int64_t n_tasks, const std::function<void(int64_t task, int worker)>& body);

  const int n_threads_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace palo
