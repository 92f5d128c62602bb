// What a computation runs on: kernels, threads, and scratch memory of each thread.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/kernel_table.h"
#include "kernels/thread_pool.h"

namespace palo {

// Memory of each worker for what does not outlive a task. It grows as needed and is reused: no task allocates twice.
class Scratch {
 public:
  explicit Scratch(int n_workers) : slots_(static_cast<size_t>(n_workers)) {}

  // Memory for n values; each slot of a worker is a separate piece. Aligned to 64 bytes.
  float* floats(int worker, size_t slot, int64_t n) {
    return reinterpret_cast<float*>(bytes(worker, slot, n * static_cast<int64_t>(sizeof(float))));
  }
  uint8_t* bytes(int worker, size_t slot, int64_t n) { return slots_[static_cast<size_t>(worker)][slot].at_least(n); }

 private:
  static constexpr size_t N_SLOTS = 2;
  struct Slots {
    ByteBuffer& operator[](size_t slot) { return buffers[slot]; }
    ByteBuffer buffers[N_SLOTS];
  };
  std::vector<Slots> slots_;
};

// Kernels of one instruction set on one pool of threads. The scratch memory belongs to one caller at a time.
struct Compute {
  const KernelTable& kernels;
  ThreadPool& pool;
  Scratch& scratch;
};

// Rows of one or several images in one matrix: image i has rows [i * stride, i * stride + n_rows).
struct ImageRows {
  int64_t n_images = 1;
  int64_t n_rows = 0;
  int64_t stride = 0;

  int64_t end() const { return n_images == 0 ? 0 : (n_images - 1) * stride + n_rows; }
};

// Image rows split into blocks of about `size` rows for tasks. The split of an image does not depend on the others, so
// a batch gives the same bits as its images one by one.
class RowBlocks {
 public:
  struct Block {
    int64_t image;
    int64_t row;  // of the whole matrix
    int64_t n_rows;
  };

  RowBlocks(const ImageRows& rows, int64_t size)
      : rows_(rows), n_per_image_(std::max<int64_t>(1, (rows.n_rows + size / 2) / size)), tile_(size < 16 ? 1 : 8) {}

  // Blocks that start at multiples of `step` in an image; what is left of it makes the last one larger.
  static RowBlocks of_steps(const ImageRows& rows, int64_t step) {
    RowBlocks blocks(rows, step);
    blocks.n_per_image_ = std::max<int64_t>(1, rows.n_rows / step);
    blocks.step_ = step;
    return blocks;
  }

  int64_t size() const { return rows_.n_images * n_per_image_; }
  Block operator[](int64_t i) const {
    const int64_t image = i / n_per_image_, block = i % n_per_image_;
    const int64_t begin = cut(block), end = cut(block + 1);
    return {image, image * rows_.stride + begin, end - begin};
  }

 private:
  // Blocks start at whole tiles of the kernels: 577 rows are 11 blocks of 48 and one of 49.
  int64_t cut(int64_t block) const {
    if (block == n_per_image_) return rows_.n_rows;
    return step_ > 0 ? block * step_ : rows_.n_rows * block / n_per_image_ / tile_ * tile_;
  }

  ImageRows rows_;
  int64_t n_per_image_;
  int64_t tile_;
  int64_t step_ = 0;  // 0: blocks of equal size
};

}  // namespace palo
