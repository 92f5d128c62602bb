#include "ggml_backend/weight_memory.h"

#include <atomic>
#include <cstring>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define PALO_HAS_MMAP
#endif

namespace palo::backend {

namespace {

constexpr size_t HUGE_PAGE = 2u << 20;
std::atomic<size_t> n_bytes_now{0};

}  // namespace

size_t WeightMemory::total_bytes() {
  return n_bytes_now;
}

#ifdef PALO_HAS_MMAP

WeightMemory::WeightMemory(size_t size) {
  // Memory that is never written is never allocated: the slack for the alignment costs only addresses.
  mapping_size_ = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE + HUGE_PAGE;
  void* mapping = mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return;
  mapping_ = mapping;
  const auto address = reinterpret_cast<uintptr_t>(mapping);
  data_ = reinterpret_cast<uint8_t*>((address + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
  n_bytes_now += size_ = size;
#ifdef MADV_HUGEPAGE
  // Whole huge pages only: a last one for a few bytes would take 2 MiB. Failure leaves small pages.
  (void)madvise(data_, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
}

WeightMemory::~WeightMemory() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_size_);
  n_bytes_now -= size_;
}

#else

WeightMemory::WeightMemory(size_t size) {
  mapping_ = ::operator new(size, std::align_val_t{64}, std::nothrow);
  data_ = static_cast<uint8_t*>(mapping_);
  if (data_ == nullptr) return;
  std::memset(data_, 0, size);
  n_bytes_now += size_ = size;
}

WeightMemory::~WeightMemory() {
  ::operator delete(mapping_, std::align_val_t{64});
}

#endif

}  // namespace palo::backend
