#include "ggml_backend/file_pages.h"

#ifdef __linux__

#include <sys/mman.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <memory>

namespace palo::backend {
namespace {

// For smaller ranges, finding out what the memory is would cost more than the pages are worth.
constexpr size_t SIZE_MIN = 1u << 20;

// Whether [begin, end) lies in one shared, read-only mapping of a file. Checked each time: an address may have been
// unmapped and reused, and releasing pages of any other kind would destroy their contents.
bool is_mapped_file(uintptr_t begin, uintptr_t end) {
  const std::unique_ptr<FILE, int (*)(FILE*)> maps(std::fopen("/proc/self/maps", "re"), std::fclose);
  char line[4096];
  while (maps != nullptr && std::fgets(line, sizeof(line), maps.get()) != nullptr) {
    uintptr_t first = 0, last = 0;
    unsigned long inode = 0;
    char access[5] = {};
    if (std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %lu", &first, &last, access, &inode) != 4) continue;
    if (begin >= last) continue;
    return begin >= first && end <= last && access[0] == 'r' && access[1] == '-' && access[3] == 's' && inode != 0;
  }
  return false;
}

}  // namespace

void release_file_pages(const void* data, size_t size) {
  if (size < SIZE_MIN) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + size) / page * page;
  if (begin < end && is_mapped_file(begin, end)) {
    (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);  // failure only keeps the pages
  }
}

}  // namespace palo::backend

#else

namespace palo::backend {

void release_file_pages(const void*, size_t) {}

}  // namespace palo::backend

#endif
