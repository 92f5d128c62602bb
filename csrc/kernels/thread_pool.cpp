#include "kernels/thread_pool.h"

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

int64_t process_id() {
#ifdef _WIN32
  return 0;  // Windows cannot fork
#else
  return getpid();
#endif
}

}  // namespace

struct ThreadPool::Threads {
  std::vector<std::thread> workers;
  int64_t owner = process_id();
};

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads) {
  if (n_threads < 1 || n_threads > MAX_THREADS) {
    throw std::invalid_argument("n_threads: expected 1 to " + std::to_string(MAX_THREADS) + ", got " +
                                std::to_string(n_threads) + "; 0 in Python means all cores");
  }
}

ThreadPool::~ThreadPool() {
  if (threads_ == nullptr) return;
  if (is_forked_child()) {
    threads_.release();  // the handles name threads of the parent: neither join nor destroy them
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : threads_->workers) worker.join();
}

bool ThreadPool::is_forked_child() const {
  return threads_ != nullptr && threads_->owner != process_id();
}

void ThreadPool::start() {
  threads_ = std::make_unique<Threads>();
  threads_->workers.reserve(n_threads_ - 1);
  try {
    for (int worker = 1; worker < n_threads_; ++worker) {
      threads_->workers.emplace_back([this, worker] { work(worker); });
    }
  } catch (const std::system_error&) {
    // The machine gives no more threads: fewer do the same work, with equal results.
  }
}

void ThreadPool::parallel_for(int64_t n_tasks, const std::function<void(int64_t, int)>& body) {
  if (n_tasks <= 1 || n_threads_ == 1 || is_forked_child()) {
    for (int64_t task = 0; task < n_tasks; ++task) body(task, 0);
    return;
  }
  const std::lock_guard call(call_mutex_);
  if (threads_ == nullptr) start();
  std::unique_lock lock(mutex_);
  body_ = &body;
  n_tasks_ = n_tasks;
  next_task_ = 0;
  n_working_ = static_cast<int>(threads_->workers.size());
  failure_ = nullptr;
  ++generation_;
  lock.unlock();
  wake_.notify_all();
  run_tasks(0);
  lock.lock();
  done_.wait(lock, [this] { return n_working_ == 0; });
  if (failure_ != nullptr) std::rethrow_exception(failure_);
}

void ThreadPool::work(int worker) {
  std::unique_lock lock(mutex_);
  for (int64_t seen = 0;;) {
    wake_.wait(lock, [&] { return is_stopping_ || generation_ != seen; });
    if (is_stopping_) return;
    seen = generation_;
    lock.unlock();
    run_tasks(worker);
    lock.lock();
    if (--n_working_ == 0) done_.notify_one();
  }
}

void ThreadPool::run_tasks(int worker) {
  try {
    for (int64_t task = next_task_++; task < n_tasks_; task = next_task_++) (*body_)(task, worker);
  } catch (...) {
    keep_first_exception();
  }
}

void ThreadPool::keep_first_exception() {
  const std::lock_guard lock(mutex_);
  if (failure_ == nullptr) failure_ = std::current_exception();
  next_task_ = n_tasks_;  // nobody needs the rest
}

}  // namespace palo
