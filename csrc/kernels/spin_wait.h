// Waiting for another thread: a while on the core, then asleep.
#pragma once

#include <thread>

namespace palo {

// Hints to the core that this thread only waits: saves power, and leaves the execution units to the other hyperthread.
inline void pause_core() {
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
  __builtin_ia32_pause();
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
  __asm__ volatile("yield");
#endif
}

// Number of pauses before a waiting thread goes to sleep, 50 to 100 us: waking it takes as long, and the waits between
// the steps of a layer are shorter. With more threads than cores they sleep at once, because another thread needs the
// core.
inline int n_pauses(int n_threads) {
  static const int n_cores = static_cast<int>(std::thread::hardware_concurrency());  // asks the system
  return n_threads <= n_cores ? 2000 : 0;
}

template <typename Condition>
bool spin_until(int n_pauses, const Condition& condition) {
  for (int i = 0; i < n_pauses; ++i) {
    if (condition()) return true;
    pause_core();
  }
  return condition();
}

}  // namespace palo
