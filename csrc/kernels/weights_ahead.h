// Which weights each task of a product asks for ahead (kernel_table.h: Ahead).
#pragma once

#include <algorithm>

#include "kernels/kernel_table.h"

namespace palo {

// Tasks go through the rows of one block of columns, then of the next, and a worker takes about every n_workers-th of
// them. A block's weights come from memory once for each worker that takes part in it, and its other tasks find them in
// the second-level cache. So tasks ask for a part each of the next block that their worker takes part in. Nobody has
// asked for the weights of a worker's first task: that one asks for most of them itself, ahead of where it is.
class WeightsAhead {
 public:
  // weights [n_bytes]: of blocks of columns, column_bytes each. n_tasks: of a block.
  WeightsAhead(const uint8_t* weights, int64_t n_bytes, int64_t column_bytes, int64_t n_tasks, int n_workers)
      : weights_(weights), n_bytes_(n_bytes), column_bytes_(column_bytes), n_tasks_(n_tasks), n_workers_(n_workers) {}

  Ahead of_task(int64_t task) const {
    const int64_t column = task / n_tasks_;
    if (task < n_workers_) return piece(column, 1, 4, 4);
    const int64_t next = std::max(column + 1, (task + n_workers_) / n_tasks_);
    const int64_t in_column = task % n_tasks_, part = in_column / n_workers_;
    // As many parts as the worker has tasks.
    const int64_t n_parts = part + (n_tasks_ - in_column + n_workers_ - 1) / n_workers_;
    return piece(next, part, part + 1, n_parts);
  }

 private:
  // Of the n_parts of a block of columns those from `begin` to `end`; nothing beyond the last block.
  Ahead piece(int64_t column, int64_t begin, int64_t end, int64_t n_parts) const {
    const int64_t first = std::min(column * column_bytes_ + column_bytes_ * begin / n_parts, n_bytes_);
    const int64_t last = std::min(column * column_bytes_ + column_bytes_ * end / n_parts, n_bytes_);
    return {weights_ + first, last - first};
  }

  const uint8_t* weights_;
  int64_t n_bytes_, column_bytes_, n_tasks_, n_workers_;
};

}  // namespace palo
