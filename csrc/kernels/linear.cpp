#include "kernels/linear.h"

#include <algorithm>
#include <numeric>

namespace palo {
namespace {

// Rows of a task: their inputs (4096 int8 each at most) fill half of a small second-level cache.
constexpr int64_t LINEAR_ROWS = 48;
// Bytes of weights of a task, the other half. They stay in cache while tasks go through the rows.
constexpr int64_t LINEAR_WEIGHT_BYTES = 256 << 10;
constexpr int64_t NORM_ROWS = 16;

// Columns of a task: whole panels, and whole groups of the format that the result may be written in.
int64_t columns_of_task(const Format& format, const Linear& w) {
  const int64_t step = std::lcm(format.panel_width(), Q8_GROUP);
  const int64_t step_bytes = step / format.panel_width() * format.panel_bytes(w.n_in);
  return step * std::max<int64_t>(1, LINEAR_WEIGHT_BYTES / step_bytes);
}

// A piece of the result: columns [col, col + n_cols) of rows [row, row + n_rows).
struct Tile {
  int64_t row, n_rows, col, n_cols;
};

// Runs body(tile, worker) for all tiles of [rows, w.n_out]: a block of columns with all rows, then the next.
template <typename Body>
void for_tiles(const Compute& compute, const Linear& w, const ImageRows& rows, const Body& body) {
  const RowBlocks blocks(rows, LINEAR_ROWS);
  const int64_t n_cols = columns_of_task(w.format(compute.kernels), w);
  const int64_t n_col_blocks = (w.n_out + n_cols - 1) / n_cols;
  compute.pool.parallel_for(n_col_blocks * blocks.size(), [&](int64_t task, int worker) {
    const RowBlocks::Block block = blocks[task % blocks.size()];
    const int64_t col = task / blocks.size() * n_cols;
    body(Tile{block.row, block.n_rows, col, std::min(n_cols, w.n_out - col)}, worker);
  });
}

// out [tile] = activation(x W^T + b), ld ldo.
void multiply(const KernelTable& kernels, float* out, const Rows& x, const Linear& w, const Tile& tile,
              Activation activation, int64_t ldo) {
  const Format format = w.format(kernels);
  const uint8_t* panels = w.panels.data() + tile.col / format.panel_width() * format.panel_bytes(w.n_in);
  format.linear(out, x.row(tile.row), panels, w.bias.size() == 0 ? nullptr : w.bias.data() + tile.col, tile.n_rows,
                tile.n_cols, w.n_in, ldo);
  for (int64_t r = 0; activation != nullptr && r < tile.n_rows; ++r) activation(out + r * ldo, tile.n_cols);
}

}  // namespace

void Rows::shape_for(const KernelTable& kernels, const Linear& w, int64_t n_rows) {
  row_bytes_ = w.format(kernels).row_bytes(w.n_in);
  bytes_.at_least(n_rows * row_bytes_);
}

void linear(const Compute& compute, float* out, const Rows& x, const Linear& w, const ImageRows& rows,
            const Epilogue& epilogue) {
  for_tiles(compute, w, rows, [&](const Tile& tile, int worker) {
    const int64_t at = tile.row * w.n_out + tile.col;
    if (epilogue.residual == nullptr) {
      return multiply(compute.kernels, out + at, x, w, tile, epilogue.activation, w.n_out);
    }
    float* result = compute.scratch.floats(worker, 0, tile.n_rows * tile.n_cols);
    multiply(compute.kernels, result, x, w, tile, epilogue.activation, tile.n_cols);
    for (int64_t r = 0; r < tile.n_rows; ++r) {
      const int64_t offset = at + r * w.n_out;
      compute.kernels.add(out + offset, epilogue.residual + offset, result + r * tile.n_cols, tile.n_cols);
    }
  });
}

void linear(const Compute& compute, Rows& out, const Linear& next, const Rows& x, const Linear& w,
            const ImageRows& rows, Activation activation) {
  out.shape_for(compute.kernels, next, rows.end());
  const Format format = next.format(compute.kernels);
  for_tiles(compute, w, rows, [&](const Tile& tile, int worker) {
    float* result = compute.scratch.floats(worker, 0, tile.n_rows * tile.n_cols);
    multiply(compute.kernels, result, x, w, tile, activation, tile.n_cols);
    format.write_columns(out.row(tile.row), next.n_in, tile.col, result, tile.n_rows, tile.n_cols, tile.n_cols);
  });
}

void layer_norm(const Compute& compute, Rows& out, const Linear& next, const float* x, const LayerNormWeights& w,
                const ImageRows& rows, float eps) {
  out.shape_for(compute.kernels, next, rows.end());
  const Format format = next.format(compute.kernels);
  const RowBlocks blocks(rows, NORM_ROWS);
  compute.pool.parallel_for(blocks.size(), [&](int64_t task, int) {
    const RowBlocks::Block block = blocks[task];
    format.layer_norm_rows(out.row(block.row), x + block.row * next.n_in, w.weight.data(), w.bias.data(), block.n_rows,
                           next.n_in, eps);
  });
}

void write_rows(const Compute& compute, Rows& out, const Linear& next, const float* x, const ImageRows& rows) {
  out.shape_for(compute.kernels, next, rows.end());
  const Format format = next.format(compute.kernels);
  const RowBlocks blocks(rows, NORM_ROWS);
  compute.pool.parallel_for(blocks.size(), [&](int64_t task, int) {
    const RowBlocks::Block block = blocks[task];
    format.write_rows(out.row(block.row), x + block.row * next.n_in, block.n_rows, next.n_in, next.n_in);
  });
}

}  // namespace palo
