// One pool of threads and the one way to use it: parallel_for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

namespace palo {

class ThreadPool {
 public:
  static constexpr int MAX_THREADS = 512;

  // n_threads in [1, MAX_THREADS]: the caller of parallel_for and n_threads - 1 threads of the pool.
  // Throws std::invalid_argument for another number.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return n_threads_; }

  // Calls body(task, worker) once for each task in [0, n_tasks), worker in [0, n_threads), and returns when all are
  // done. Results must not depend on which worker runs a task: then they are equal for any number of threads.
  // The first exception of a body is thrown again here. Calls from several threads run one after the other.
  // In a forked child, where the pool's threads do not exist, the caller does all the work.
  void parallel_for(int64_t n_tasks, const std::function<void(int64_t task, int worker)>& body);

 private:
  struct Threads;

  void start();
  void work(int worker);
  void run_tasks(int worker);
  void keep_first_exception();
  bool is_forked_child() const;

  const int n_threads_;
  std::unique_ptr<Threads> threads_;  // empty until the first parallel_for
  std::mutex call_mutex_;             // one parallel_for at a time

  std::mutex mutex_;  // guards what follows up to failure_
  std::condition_variable wake_;
  std::condition_variable done_;
  int64_t generation_ = 0;  // counts calls of parallel_for
  int n_working_ = 0;
  bool is_stopping_ = false;
  std::exception_ptr failure_;

  const std::function<void(int64_t, int)>* body_ = nullptr;
  int64_t n_tasks_ = 0;
  std::atomic<int64_t> next_task_{0};
};

}  // namespace palo
