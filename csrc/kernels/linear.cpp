#include "kernels/linear.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

namespace palo {
namespace {

// Rows of a task: their inputs (4096 int8 each at most) fill half of a small second-level cache.
constexpr int64_t LINEAR_ROWS = 48;
// Bytes of weights of a task, the other half. They stay in cache while tasks go through the rows.
constexpr int64_t LINEAR_WEIGHT_BYTES = 256 << 10;
constexpr int64_t NORM_ROWS = 16;

// Rows of an image that are searched for outliers.
constexpr int64_t N_SAMPLE_ROWS = 32;

// Columns of a task: whole panels of both precisions, and whole groups of the format that the result may be written in.
int64_t columns_of_task(const KernelTable& kernels, const Linear& w) {
  const Format format = w.format(kernels);
  const int64_t step = std::lcm(std::lcm(format.panel_width(), kernels.panel_width), Q8_GROUP);
  const int64_t step_bytes = step / format.panel_width() * format.panel_bytes(w.n_in);
  return step * std::max<int64_t>(1, LINEAR_WEIGHT_BYTES / step_bytes);
}

// A piece of the result: columns [col, col + n_cols) of rows [row, row + n_rows), all of one image.
struct Tile {
  int64_t image, row, n_rows, col, n_cols;
};

// Runs body(tile, worker) for all tiles of [rows, w.n_out]: a block of columns with all rows, then the next.
template <typename Body>
void for_tiles(const Compute& compute, const Linear& w, const ImageRows& rows, const Body& body) {
  const RowBlocks blocks(rows, LINEAR_ROWS);
  const int64_t n_cols = columns_of_task(compute.kernels, w);
  const int64_t n_col_blocks = (w.n_out + n_cols - 1) / n_cols;
  compute.pool.parallel_for(n_col_blocks * blocks.size(), [&](int64_t task, int worker) {
    const RowBlocks::Block block = blocks[task % blocks.size()];
    const int64_t col = task / blocks.size() * n_cols;
    body(Tile{block.image, block.row, block.n_rows, col, std::min(n_cols, w.n_out - col)}, worker);
  });
}

// x W^T + b of one call: what its tiles share.
class Product {
 public:
  Product(const Compute& compute, const Rows& x, const Linear& w, int64_t n_images)
      : compute_(compute), x_(x), w_(w), outlier_panels_(static_cast<size_t>(n_images)) {
    for (int64_t image = 0; image < n_images; ++image) {
      if (x.outliers(image).n == 0) continue;
      unpack_outlier_weights(compute, outlier_panels_[static_cast<size_t>(image)], w.panels.data(), w.n_out, w.n_in,
                             x.outliers(image));
    }
  }

  // out [tile] = activation(x W^T + b), ld ldo.
  void multiply(float* out, const Tile& tile, Activation activation, int64_t ldo, int worker) const {
    const Format format = w_.format(compute_.kernels);
    const uint8_t* panels = w_.panels.data() + tile.col / format.panel_width() * format.panel_bytes(w_.n_in);
    format.linear(out, x_.row(tile.row), panels, w_.bias.size() == 0 ? nullptr : w_.bias.data() + tile.col, tile.n_rows,
                  tile.n_cols, w_.n_in, ldo);
    if (x_.outliers(tile.image).n > 0) add_outliers(out, tile, ldo, worker);
    for (int64_t r = 0; activation != nullptr && r < tile.n_rows; ++r) activation(out + r * ldo, tile.n_cols);
  }

 private:
  void add_outliers(float* out, const Tile& tile, int64_t ldo, int worker) const {
    const KernelTable& kernels = compute_.kernels;
    const int64_t n = x_.outliers(tile.image).n;
    const float* panels = outlier_panels_[static_cast<size_t>(tile.image)].data() + tile.col * n;
    float* part = compute_.scratch.floats(worker, 1, tile.n_rows * tile.n_cols);
    kernels.linear(part, x_.outlier_row(tile.row), panels, nullptr, tile.n_rows, tile.n_cols, n, tile.n_cols,
                   MAX_OUTLIERS);
    for (int64_t r = 0; r < tile.n_rows; ++r) {
      kernels.add(out + r * ldo, out + r * ldo, part + r * tile.n_cols, tile.n_cols);
    }
  }

  const Compute& compute_;
  const Rows& x_;
  const Linear& w_;
  std::vector<Buffer> outlier_panels_;  // per image
};

// Computes the f32 values of rows: out [n_rows, n_cols], dense.
using MakeRows = std::function<void(float* out, int64_t row, int64_t n_rows)>;

// The outliers of each image, found in some of its rows.
std::vector<Outliers> outliers_of_images(const Compute& compute, const MakeRows& make, int64_t n_cols,
                                         const ImageRows& rows) {
  std::vector<Outliers> found(static_cast<size_t>(rows.n_images));
  compute.pool.parallel_for(rows.n_images, [&](int64_t image, int worker) {
    const int64_t n = std::min(N_SAMPLE_ROWS, rows.n_rows);
    float* sample = compute.scratch.floats(worker, 0, n * n_cols);
    for (int64_t i = 0; i < n; ++i) make(sample + i * n_cols, image * rows.stride + i * rows.n_rows / n, 1);
    found[static_cast<size_t>(image)] = find_outliers(sample, n, n_cols);
  });
  return found;
}

// Blocks of rows without outliers are written by write_whole, others are computed in f32 first.
template <typename WriteWhole>
void write_blocks(const Compute& compute, Rows& out, const Linear& next, const MakeRows& make, const ImageRows& rows,
                  const WriteWhole& write_whole) {
  const Format format = next.format(compute.kernels);
  out.shape_for(compute.kernels, next, rows.end());
  if (next.precision == Precision::INT8) {
    out.set_outliers(outliers_of_images(compute, make, next.n_in, rows), rows.end());
  }
  const RowBlocks blocks(rows, NORM_ROWS);
  compute.pool.parallel_for(blocks.size(), [&](int64_t task, int worker) {
    const RowBlocks::Block block = blocks[task];
    const Outliers& outliers = out.outliers(block.image);
    if (outliers.n == 0) return write_whole(format, block);
    float* x = compute.scratch.floats(worker, 0, block.n_rows * next.n_in);
    make(x, block.row, block.n_rows);
    take_outliers(out.outlier_row(block.row), x, block.n_rows, next.n_in, outliers);
    format.write_rows(out.row(block.row), x, block.n_rows, next.n_in, next.n_in);
  });
}

}  // namespace

void Rows::shape_for(const KernelTable& kernels, const Linear& w, int64_t n_rows) {
  row_bytes_ = w.format(kernels).row_bytes(w.n_in);
  bytes_.at_least(n_rows * row_bytes_);
  outliers_.clear();
}

void Rows::set_outliers(std::vector<Outliers> outliers, int64_t n_rows) {
  const bool has_any = std::any_of(outliers.begin(), outliers.end(), [](const Outliers& o) { return o.n > 0; });
  if (!has_any) return;
  outliers_ = std::move(outliers);
  outlier_values_.at_least(n_rows * MAX_OUTLIERS);
}

const Outliers& Rows::outliers(int64_t image) const {
  static constexpr Outliers NONE;
  return outliers_.empty() ? NONE : outliers_[static_cast<size_t>(image)];
}

void linear(const Compute& compute, float* out, const Rows& x, const Linear& w, const ImageRows& rows,
            const Epilogue& epilogue) {
  const Product product(compute, x, w, rows.n_images);
  for_tiles(compute, w, rows, [&](const Tile& tile, int worker) {
    const int64_t at = tile.row * w.n_out + tile.col;
    if (epilogue.residual == nullptr) {
      return product.multiply(out + at, tile, epilogue.activation, w.n_out, worker);
    }
    float* result = compute.scratch.floats(worker, 0, tile.n_rows * tile.n_cols);
    product.multiply(result, tile, epilogue.activation, tile.n_cols, worker);
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
  const Product product(compute, x, w, rows.n_images);
  for_tiles(compute, w, rows, [&](const Tile& tile, int worker) {
    float* result = compute.scratch.floats(worker, 0, tile.n_rows * tile.n_cols);
    product.multiply(result, tile, activation, tile.n_cols, worker);
    format.write_columns(out.row(tile.row), next.n_in, tile.col, result, tile.n_rows, tile.n_cols, tile.n_cols);
  });
}

void layer_norm(const Compute& compute, Rows& out, const Linear& next, const float* x, const LayerNormWeights& w,
                const ImageRows& rows, float eps) {
  const int64_t n = next.n_in;
  const auto make = [&](float* normed, int64_t row, int64_t n_rows) {
    compute.kernels.layer_norm(normed, x + row * n, w.weight.data(), w.bias.data(), n_rows, n, eps);
  };
  write_blocks(compute, out, next, make, rows, [&](const Format& format, const RowBlocks::Block& block) {
    format.layer_norm_rows(out.row(block.row), x + block.row * n, w.weight.data(), w.bias.data(), block.n_rows, n, eps);
  });
}

void write_rows(const Compute& compute, Rows& out, const Linear& next, const float* x, const ImageRows& rows) {
  const int64_t n = next.n_in;
  const auto make = [&](float* copy, int64_t row, int64_t n_rows) { std::copy_n(x + row * n, n_rows * n, copy); };
  write_blocks(compute, out, next, make, rows, [&](const Format& format, const RowBlocks::Block& block) {
    format.write_rows(out.row(block.row), x + block.row * n, block.n_rows, n, n);
  });
}

}  // namespace palo
