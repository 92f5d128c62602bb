// Memory for weights and activations: aligned for the widest vectors, and not initialized.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace palo {

// An array of T that is not initialized: everything in it is written before it is read.
template <typename T>
class BasicBuffer {
 public:
  BasicBuffer() = default;
  explicit BasicBuffer(int64_t size)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), ALIGNMENT))), size_(size) {}
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }

  // Memory for `size` values; its contents are lost if it has to grow.
  T* at_least(int64_t size) {
    if (size > size_) {
      *this = BasicBuffer();  // so that the old and the new one never exist at the same time
      *this = BasicBuffer(size);
    }
    return data();
  }

 private:
  static constexpr std::align_val_t ALIGNMENT{64};
  struct Free {
    void operator()(T* data) const { ::operator delete(data, ALIGNMENT); }
  };

  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

using Buffer = BasicBuffer<float>;
using ByteBuffer = BasicBuffer<uint8_t>;

}  // namespace palo
