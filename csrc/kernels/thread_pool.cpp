#include "kernels/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/spin_wait.h"
#include "kernels/task_trace.h"

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

// The threads and all that they share. Each run has a number, its round. Any thread that finds a task of that round
// takes it, and run() waits for tasks, not for threads: a thread that the system does not schedule delays nothing.
struct ThreadPool::Workers {
  explicit Workers(int n_threads) : n_spins(n_pauses(n_threads)) {}
  void start(int n_workers);
  void stop();
  void run(int64_t n_tasks, const Body& body);

  bool is_of_other_process() const { return owner != process_id(); }

 private:
  void begin_round(int64_t n_tasks, const Body& body);
  void wait_for_work(int worker);
  void run_tasks(uint32_t round, int worker);
  int64_t take_task(uint32_t round);
  void run_task(int64_t task, int worker);
  bool is_done() const { return n_done.load() == n_tasks.load(); }

  static constexpr uint64_t NO_TASK = UINT32_MAX;  // a next task beyond every n_tasks
  static uint32_t round_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }

  const int64_t owner = process_id();
  const int n_spins;
  std::vector<std::thread> threads;
  std::mutex call_mutex;  // one run() at a time

  // The round in the upper half, its next task in the lower one: a thread that is late cannot take a task of another
  // round.
  std::atomic<uint64_t> ticket{0};
  std::atomic<int64_t> n_tasks{0};
  std::atomic<int64_t> n_done{0};
  std::atomic<const Body*> body{nullptr};
  std::atomic<bool> has_failed{false};

  std::mutex mutex;  // guards failure and the two conditions
  std::condition_variable wake;
  std::condition_variable done;
  std::exception_ptr failure;
  std::atomic<bool> is_stopping{false};
};

void ThreadPool::Workers::start(int n_workers) {
  try {
    for (int worker = 1; worker <= n_workers; ++worker) {
      threads.emplace_back([this, worker] { wait_for_work(worker); });
    }
  } catch (const std::system_error&) {
    // The system allows no more threads: fewer do the same work, with equal results.
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

void ThreadPool::Workers::run(int64_t n_tasks_of_run, const Body& body_of_run) {
  const std::lock_guard call(call_mutex);
  begin_round(n_tasks_of_run, body_of_run);
  run_tasks(round_of(ticket), 0);
  if (!spin_until(n_spins, [this] { return is_done(); })) {
    std::unique_lock lock(mutex);
    done.wait(lock, [this] { return is_done(); });
  }
  if (!has_failed) return;
  const std::lock_guard lock(mutex);
  std::rethrow_exception(std::exchange(failure, nullptr));
}

void ThreadPool::Workers::begin_round(int64_t n_tasks_of_run, const Body& body_of_run) {
  // No thread has a task now. The old round is closed first: otherwise a late thread could take the new n_tasks for its
  // own.
  const uint32_t round = round_of(ticket);
  ticket = uint64_t{round} << 32 | NO_TASK;
  n_tasks = n_tasks_of_run;
  n_done = 0;
  body = &body_of_run;
  has_failed = false;
  {
    const std::lock_guard lock(mutex);  // a thread about to sleep has seen the ticket or is notified
    ticket = uint64_t{round + 1} << 32;
  }
  wake.notify_all();
}

void ThreadPool::Workers::wait_for_work(int worker) {
  for (uint32_t seen = 0;;) {
    const auto is_called = [&] { return is_stopping || round_of(ticket) != seen; };
    if (!spin_until(n_spins, is_called)) {
      std::unique_lock lock(mutex);
      wake.wait(lock, is_called);
    }
    if (is_stopping) return;
    seen = round_of(ticket);
    run_tasks(seen, worker);
  }
}

void ThreadPool::Workers::run_tasks(uint32_t round, int worker) {
  for (int64_t task = take_task(round); task >= 0; task = take_task(round)) run_task(task, worker);
}

// The next task of the round; -1 where there is none.
int64_t ThreadPool::Workers::take_task(uint32_t round) {
  for (uint64_t current = ticket; round_of(current) == round;) {
    const auto task = static_cast<int64_t>(current & NO_TASK);
    // n_tasks may be the next round's by now, but then the ticket is no longer `current`.
    if (task >= n_tasks) return -1;
    if (ticket.compare_exchange_weak(current, current + 1)) return task;
  }
  return -1;
}

void ThreadPool::Workers::run_task(int64_t task, int worker) {
  try {
    if (!has_failed) (*body.load())(task, worker);  // after a failure the rest is not needed
  } catch (...) {
    const std::lock_guard lock(mutex);
    if (failure == nullptr) failure = std::current_exception();
    has_failed = true;
  }
  const int64_t n = n_tasks;  // once the last task counts as done, it may be the next round's
  if (n_done.fetch_add(1) + 1 < n) return;
  const std::lock_guard lock(mutex);
  done.notify_one();
}

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads) {
  if (n_threads < 1 || n_threads > MAX_THREADS) {
    throw std::invalid_argument("n_threads: expected 1 to " + std::to_string(MAX_THREADS) + ", got " +
                                std::to_string(n_threads) + "; 0 in Python means all cores");
  }
  workers_ = std::make_unique<Workers>(n_threads);
  workers_->start(n_threads - 1);
}

ThreadPool::~ThreadPool() {
  if (workers_->is_of_other_process()) {
    // A forked child has handles and wait queues of threads that only its parent has: destroying them would hang.
    workers_.release();
    return;
  }
  workers_->stop();
}

void ThreadPool::parallel_for(int64_t n_tasks, const Body& body) {
  if (TaskTrace* trace = TaskTrace::in_use()) {
    const int64_t phase = trace->begin_phase();
    return run(n_tasks, [&](int64_t task, int worker) { trace->run(phase, worker, [&] { body(task, worker); }); });
  }
  run(n_tasks, body);
}

void ThreadPool::run(int64_t n_tasks, const Body& body) {
  const bool is_shared = n_tasks > 1 && n_tasks < UINT32_MAX && n_threads_ > 1;
  if (is_shared && !workers_->is_of_other_process()) return workers_->run(n_tasks, body);
  for (int64_t task = 0; task < n_tasks; ++task) body(task, 0);
}

}  // namespace palo
