#include "ggml_backend/amx.h"

#include "ggml_backend/ggml_product.h"
#include "ggml_backend/log.h"

#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#endif

namespace palo::backend {
namespace {

bool is_listed() {
  for (ggml_backend_buffer_type_t* type = extra_buffer_types(); *type != nullptr; ++type)
    if (is_amx(*type)) return true;
  return false;
}

#if defined(__linux__) && defined(__x86_64__)

bool has_amx_processor() {
  constexpr unsigned AMX_TILE = 1u << 24, AMX_INT8 = 1u << 25;  // CPUID leaf 7, EDX
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & AMX_TILE) != 0 && (d & AMX_INT8) != 0;
}

// Redirects file descriptor 2 to /dev/null while it exists: ggml reports there that AMX is not ready.
class SilentStderr {
 public:
  SilentStderr() : kept_(dup(STDERR_FILENO)), nowhere_(open("/dev/null", O_WRONLY | O_CLOEXEC)) {
    if (kept_ >= 0 && nowhere_ >= 0) dup2(nowhere_, STDERR_FILENO);
  }
  ~SilentStderr() {
    if (kept_ >= 0 && nowhere_ >= 0) dup2(kept_, STDERR_FILENO);
    if (kept_ >= 0) close(kept_);
    if (nowhere_ >= 0) close(nowhere_);
  }
  SilentStderr(const SilentStderr&) = delete;
  SilentStderr& operator=(const SilentStderr&) = delete;

 private:
  int kept_, nowhere_;
};

// The child process: computes a product of several rows (one row needs no tiles), or dies by a signal.
[[noreturn]] void multiply_and_exit() {
  constexpr int64_t N_IN = 256, N_OUT = 64, N_ROWS = 32;
  constexpr unsigned N_SECONDS = 2;  // a lock that another thread held at the fork is never released
  // The program's own function would wait for its interpreter's lock, which another thread may hold forever.
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  std::signal(SIGILL, SIG_DFL);
  std::signal(SIGALRM, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  alarm(N_SECONDS);
  if (!is_listed()) _exit(0);
  multiply_by_ggml(GGML_TYPE_Q4_0, draw_weights(GGML_TYPE_Q4_0, N_IN, N_OUT), draw(N_ROWS * N_IN), N_IN, true);
  _exit(0);
}

bool survives_a_product() {
  const pid_t child = fork();
  if (child < 0) return true;  // nothing could be determined
  if (child == 0) multiply_and_exit();
  int status = 0;
  pid_t ended = 0;
  do ended = waitpid(child, &status, 0);
  while (ended < 0 && errno == EINTR);
  return ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Makes ggml build its list of buffer types while Linux refuses tiles to this process: it grants them only if every
// thread's signal stack is large enough to save them (Documentation/arch/x86/xstate.rst). Returns whether AMX is off
// the list.
bool withdraw() {
  alignas(16) static char small[4096];  // tiles alone are 8 KiB
  stack_t mine{}, before{};
  mine.ss_sp = small;
  mine.ss_size = sizeof(small);
  sigset_t all, blocked;  // no handler is to run on the small stack
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &blocked);
  bool is_out = false;
  if (sigaltstack(&mine, &before) == 0) {
    const SilentStderr silent;
    is_out = !is_listed();
    sigaltstack(&before, nullptr);
  }
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
  return is_out;
}

Amx detect() {
  if (!has_amx_processor()) return Amx::ABSENT;
  if (survives_a_product()) return is_listed() ? Amx::WORKS : Amx::ABSENT;
  return withdraw() ? Amx::WITHDRAWN : Amx::BROKEN;
}

#else

Amx detect() {
  return is_listed() ? Amx::WORKS : Amx::ABSENT;
}

#endif

}  // namespace

Amx settle_amx() {
  static const Amx found = [] {
    const Amx amx = detect();
    if (amx == Amx::WITHDRAWN || amx == Amx::BROKEN)
      log(GGML_LOG_LEVEL_INFO,
          "llama.cpp's AMX products die of an illegal instruction (GCC bug 114098) and are left out");
    return amx;
  }();
  return found;
}

}  // namespace palo::backend
