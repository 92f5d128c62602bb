// Threads and memory of the ggml backend, below anything that ggml sees.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"
#include "ggml_backend/file_pages.h"
#include "ggml_backend/parallel.h"
#include "ggml_backend/read_speed.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

using palo::backend::Phase;
using palo::backend::run_phases;

constexpr int THREADS[] = {1, 2, 3, 7};

TEST(backend_phases_do_every_task_once_and_in_order) {
  for (const int n_threads : THREADS) {
    for (const int64_t n_tasks : {0, 1, 2, 5, 1000}) {
      std::vector<std::atomic<int>> done(static_cast<size_t>(n_tasks));
      std::atomic<bool> was_early{false};
      const auto phase = [&](int number) {
        return Phase{n_tasks, [&done, &was_early, number](int64_t task) {
                       for (const auto& count : done) was_early = was_early || count < number;  // of the phases before
                       ++done[static_cast<size_t>(task)];
                     }};
      };
      run_phases({phase(0), phase(1), phase(2)}, n_threads);
      CHECK(!was_early);
      for (const auto& count : done) CHECK(count == 3);
    }
  }
}

// Longer than a thread waits awake: the others sleep, and are woken.
TEST(backend_phases_wait_for_a_slow_task) {
  std::atomic<int> n_done{0}, n_seen{0};
  const Phase slow = {3, [&](int64_t task) {
                        if (task == 2) std::this_thread::sleep_for(std::chrono::milliseconds(20));
                        ++n_done;
                      }};
  run_phases({slow, {3, [&](int64_t) { n_seen = n_done.load(); }}}, 3);
  CHECK(n_seen == 3);
}

TEST(backend_measures_a_plain_read) {
  const double speed = palo_read_speed(3 << 20, 2);
  CHECK(std::isfinite(speed) && speed > 1e6);
}

#ifdef __linux__
struct Mapping {
  Mapping(int protection, int flags, int file) : data(mmap(nullptr, SIZE, protection, flags, file, 0)) {}
  ~Mapping() { munmap(data, SIZE); }

  static constexpr size_t SIZE = 4 << 20;
  void* data;
};

TEST(backend_releases_only_pages_of_a_mapped_file) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::tmpfile(), std::fclose);
  const std::vector<uint8_t> bytes(Mapping::SIZE, 7);
  CHECK(std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size() && std::fflush(file.get()) == 0);
  const int descriptor = fileno(file.get());
  // Anonymous memory, and a file's pages that were changed in memory only: releasing them would lose what was written.
  const Mapping anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  const Mapping changed(PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor);
  const Mapping model(PROT_READ, MAP_SHARED, descriptor);
  for (const Mapping* mapping : {&anonymous, &changed}) std::memset(mapping->data, 9, Mapping::SIZE);
  for (const Mapping* mapping : {&anonymous, &changed, &model}) {
    palo::backend::release_file_pages(mapping->data, Mapping::SIZE);
  }
  for (const Mapping* mapping : {&anonymous, &changed}) {
    const auto* data = static_cast<const uint8_t*>(mapping->data);
    CHECK(std::all_of(data, data + Mapping::SIZE, [](uint8_t byte) { return byte == 9; }));
  }
  CHECK(std::memcmp(model.data, bytes.data(), bytes.size()) == 0);
}
#endif

}  // namespace
