#include "kernels/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace palo {
namespace {

using Body = std::function<void(int64_t task, int worker)>;

int64_t process_id() {
#ifdef _WIN32
  return 0;  // Windows cannot fork
#else
  return getpid();
#endif
}

}  // namespace

// The threads and all they share.
struct ThreadPool::Workers {
  void start(int n_workers);
  void stop();
  void run(int64_t n_tasks, const Body& body);

  bool is_of_other_process() const { return owner != process_id(); }

 private:
  void wait_for_work(int worker);
  void run_tasks(int worker);
  void keep_first_exception();

  const int64_t owner = process_id();
  std::vector<std::thread> threads;
  std::mutex call_mutex;  // one run() at a time

  std::mutex mutex;  // guards what follows up to failure
  std::condition_variable wake;
  std::condition_variable done;
  int64_t generation = 0;  // counts the runs
  int n_working = 0;
  bool is_stopping = false;
  std::exception_ptr failure;

  const Body* current_body = nullptr;
  int64_t n_current_tasks = 0;
  std::atomic<int64_t> next_task{0};
};

void ThreadPool::Workers::start(int n_workers) {
  threads.reserve(n_workers);
  try {
    for (int worker = 1; worker <= n_workers; ++worker) {
      threads.emplace_back([this, worker] { wait_for_work(worker); });
    }
  } catch (const std::system_error&) {
    // The machine gives no more threads: fewer do the same work, with equal results.
  }
}

void ThreadPool::Workers::stop() {
  {
    const std::lock_guard lock(mutex);
    is_stopping = true;
  }
  wake.notify_all();
  for (std::thread& thread : threads) thread.join();
}

void ThreadPool::Workers::run(int64_t n_tasks, const Body& body) {
  const std::lock_guard call(call_mutex);
  std::unique_lock lock(mutex);
  current_body = &body;
  n_current_tasks = n_tasks;
  next_task = 0;
  n_working = static_cast<int>(threads.size());
  failure = nullptr;
  ++generation;
  lock.unlock();
  wake.notify_all();
  run_tasks(0);
  lock.lock();
  done.wait(lock, [this] { return n_working == 0; });
  if (failure != nullptr) std::rethrow_exception(failure);
}

void ThreadPool::Workers::wait_for_work(int worker) {
  std::unique_lock lock(mutex);
  for (int64_t seen = 0;;) {
    wake.wait(lock, [&] { return is_stopping || generation != seen; });
    if (is_stopping) return;
    seen = generation;
    lock.unlock();
    run_tasks(worker);
    lock.lock();
    if (--n_working == 0) done.notify_one();
  }
}

void ThreadPool::Workers::run_tasks(int worker) {
  try {
    for (int64_t task = next_task++; task < n_current_tasks; task = next_task++) (*current_body)(task, worker);
  } catch (...) {
    keep_first_exception();
  }
}

void ThreadPool::Workers::keep_first_exception() {
  const std::lock_guard lock(mutex);
  if (failure == nullptr) failure = std::current_exception();
  next_task = n_current_tasks;  // nobody needs the rest
}

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads) {
  if (n_threads < 1 || n_threads > MAX_THREADS) {
    throw std::invalid_argument("n_threads: expected 1 to " + std::to_string(MAX_THREADS) + ", got " +
                                std::to_string(n_threads) + "; 0 in Python means all cores");
  }
  workers_ = std::make_unique<Workers>();
  workers_->start(n_threads - 1);
}

ThreadPool::~ThreadPool() {
  if (workers_->is_of_other_process()) {
    // A forked child holds handles and waiting lists of threads that only its parent has: to destroy them would hang.
    workers_.release();
    return;
  }
  workers_->stop();
}

void ThreadPool::parallel_for(int64_t n_tasks, const Body& body) {
  if (n_tasks > 1 && n_threads_ > 1 && !workers_->is_of_other_process()) return workers_->run(n_tasks, body);
  for (int64_t task = 0; task < n_tasks; ++task) body(task, 0);
}

}  // namespace palo
