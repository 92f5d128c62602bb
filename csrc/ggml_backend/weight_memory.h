// Memory for packed weights.
#pragma once

#include <cstddef>
#include <cstdint>

namespace palo::backend {

// Zeros, aligned to 2 MiB, in huge pages where the system has them: decode waits for reads of weights, and with small
// pages part of that time is spent on translating addresses. data() is nullptr if there is not enough memory.
class WeightMemory {
 public:
  explicit WeightMemory(size_t size);
  ~WeightMemory();
  WeightMemory(const WeightMemory&) = delete;
  WeightMemory& operator=(const WeightMemory&) = delete;

  uint8_t* data() const { return data_; }

  // Of all weights that are in memory.
  static size_t total_bytes();

 private:
  uint8_t* data_ = nullptr;
  void* mapping_ = nullptr;
  size_t mapping_size_ = 0;
  size_t size_ = 0;
};

}  // namespace palo::backend
