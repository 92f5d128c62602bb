#include "kernels/linear.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "kernels/weights_ahead.h"

namespace palo {
namespace {

// Rows of a task: their inputs (4096 int8 each at most) fill half of a small second-level cache.
constexpr int64_t LINEAR_ROWS = 48;
// Bytes of weights of a task, the other half. They stay in cache while tasks go through the rows.
constexpr int64_t LINEAR_WEIGHT_BYTES = 256 << 10;
constexpr int64_t NORM_ROWS = 16;

// Rows of an image that are searched for outliers.
constexpr int64_t N_SAMPLE_ROWS = 32;

// Columns of a task: whole panels of both precisions, and whole pieces of what the result is written to.
int64_t columns_of_task(const KernelTable& kernels, const Linear& w, int64_t out_step) {
  const Format format = w.format(kernels);
  const int64_t step = std::lcm(std::lcm(format.panel_width(), kernels.panel_width), out_step);
  const int64_t step_bytes = step / format.panel_width() * format.panel_bytes(w.n_in);
  return step * std::max<int64_t>(1, LINEAR_WEIGHT_BYTES / step_bytes);
}

// The tiles of [rows, w.n_out]: a block of columns with all rows, then the next.
class Tiles {
 public:
  Tiles(const Compute& compute, const Linear& w, const ImageRows& rows, const TileSteps& steps = {0, 1})
      : blocks_(steps.rows > 0 ? RowBlocks::of_steps(rows, steps.rows) : RowBlocks(rows, LINEAR_ROWS)),
        n_out_(w.n_out),
        n_cols_(columns_of_task(compute.kernels, w, steps.cols)),
        ahead_(w.panels.data(), w.panels.size(), w.format(compute.kernels).panels_bytes(n_cols_, w.n_in),
               blocks_.size(), compute.pool.n_threads()) {}

  int64_t size() const { return (n_out_ + n_cols_ - 1) / n_cols_ * blocks_.size(); }
  Tile operator[](int64_t i) const {
    const RowBlocks::Block block = blocks_[i % blocks_.size()];
    const int64_t col = i / blocks_.size() * n_cols_;
    return {block.image, block.row, block.n_rows, col, std::min(n_cols_, n_out_ - col), ahead_.of_task(i)};
  }

 private:
  RowBlocks blocks_;
  int64_t n_out_;
  int64_t n_cols_;
  WeightsAhead ahead_;
};

// Runs body(part, task within the part, worker) for all tasks of parts that have n_tasks[part] of them.
template <typename Body>
void for_parts(const Compute& compute, const std::vector<int64_t>& n_tasks, const Body& body) {
  compute.pool.parallel_for(std::reduce(n_tasks.begin(), n_tasks.end()), [&](int64_t task, int worker) {
    size_t part = 0;
    for (; task >= n_tasks[part]; ++part) task -= n_tasks[part];
    body(part, task, worker);
  });
}

// x W^T + b of one call: what its tiles share.
class Product {
 public:
  Product(const Compute& compute, const Rows& x, const Linear& w, int64_t n_images)
      : compute_(compute), x_(x), w_(w), outlier_panels_(static_cast<size_t>(n_images)) {
    for (int64_t image = 0; image < n_images; ++image) {
      if (x.outliers(image).n == 0) continue;
      unpack_outlier_weights(compute, outlier_panels_[static_cast<size_t>(image)], w.format(compute.kernels),
                             w.panels.data(), w.n_out, w.n_in, x.outliers(image));
    }
  }

  // out [tile] = activation(x W^T + b), ld ldo.
  void multiply(float* out, const Tile& tile, Activation activation, int64_t ldo, int worker) const {
    const Format format = w_.format(compute_.kernels);
    const uint8_t* panels = w_.panels.data() + tile.col / format.panel_width() * format.panel_bytes(w_.n_in);
    format.linear(out, x_.row(tile.row), panels, w_.bias.size() == 0 ? nullptr : w_.bias.data() + tile.col, tile.n_rows,
                  tile.n_cols, w_.n_in, ldo, tile.ahead);
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

// Rows that are written as inputs of `next`, in f32 by `make`.
struct Source {
  Rows& out;
  const Linear& next;
  ImageRows rows;
  MakeRows make;
};

// The outliers of each image of each source, found in some of its rows.
void set_outliers(const Compute& compute, const std::vector<Source>& sources) {
  std::vector<std::vector<Outliers>> found;
  std::vector<int64_t> n_tasks;
  for (const Source& source : sources) {
    n_tasks.push_back(source.next.precision != Precision::FLOAT ? source.rows.n_images : 0);
    found.emplace_back(static_cast<size_t>(n_tasks.back()));
  }
  for_parts(compute, n_tasks, [&](size_t part, int64_t image, int worker) {
    const ImageRows& rows = sources[part].rows;
    const int64_t n_cols = sources[part].next.n_in, n = std::min(N_SAMPLE_ROWS, rows.n_rows);
    float* sample = compute.scratch.floats(worker, 0, n * n_cols);
    for (int64_t i = 0; i < n; ++i) {
      sources[part].make(sample + i * n_cols, image * rows.stride + i * rows.n_rows / n, 1);
    }
    found[part][static_cast<size_t>(image)] = find_outliers(sample, n, n_cols);
  });
  for (size_t part = 0; part < sources.size(); ++part) {
    sources[part].out.set_outliers(std::move(found[part]), sources[part].rows.end());
  }
}

// Blocks of rows without outliers are written by write_whole, others are computed in f32 first.
template <typename WriteWhole>
void write_blocks(const Compute& compute, const std::vector<Source>& sources, const WriteWhole& write_whole) {
  std::vector<RowBlocks> blocks;
  std::vector<int64_t> n_tasks;
  for (const Source& source : sources) {
    source.out.shape_for(compute.kernels, source.next, source.rows.end());
    n_tasks.push_back(blocks.emplace_back(source.rows, NORM_ROWS).size());
  }
  set_outliers(compute, sources);
  for_parts(compute, n_tasks, [&](size_t part, int64_t task, int worker) {
    const Source& source = sources[part];
    const RowBlocks::Block block = blocks[part][task];
    const int64_t n_in = source.next.n_in;
    const Format format = source.next.format(compute.kernels);
    const Outliers& outliers = source.out.outliers(block.image);
    if (outliers.n == 0) return write_whole(part, format, block);
    float* x = compute.scratch.floats(worker, 0, block.n_rows * n_in);
    source.make(x, block.row, block.n_rows);
    take_outliers(source.out.outlier_row(block.row), x, block.n_rows, n_in, outliers);
    format.write_rows(source.out.row(block.row), x, block.n_rows, n_in, n_in);
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

void linear(const Compute& compute, const std::vector<LinearPart>& parts) {
  std::vector<Product> products;
  std::vector<Tiles> tiles;
  std::vector<int64_t> n_tasks;
  for (const LinearPart& part : parts) {
    products.emplace_back(compute, part.x, part.w, part.rows.n_images);
    n_tasks.push_back(tiles.emplace_back(compute, part.w, part.rows).size());
  }
  for_parts(compute, n_tasks, [&](size_t i, int64_t task, int worker) {
    const LinearPart& part = parts[i];
    const Tile tile = tiles[i][task];
    const int64_t at = tile.row * part.ldo + tile.col;
    const Epilogue& epilogue = part.epilogue;
    if (epilogue.residual == nullptr) {
      return products[i].multiply(part.out + at, tile, epilogue.activation, part.ldo, worker);
    }
    float* result = compute.scratch.floats(worker, 0, tile.n_rows * tile.n_cols);
    products[i].multiply(result, tile, epilogue.activation, tile.n_cols, worker);
    for (int64_t r = 0; r < tile.n_rows; ++r) {
      const int64_t offset = at + r * part.ldo;
      compute.kernels.add(part.out + offset, epilogue.residual + offset, result + r * tile.n_cols, tile.n_cols);
    }
  });
}

void linear(const Compute& compute, float* out, const Rows& x, const Linear& w, const ImageRows& rows,
            const Epilogue& epilogue) {
  linear(compute, std::vector<LinearPart>{{out, x, w, rows, epilogue, w.n_out}});
}

void linear(const Compute& compute, const Rows& x, const Linear& w, const ImageRows& rows, const TileSteps& steps,
            Activation activation, const std::function<void(const Tile& tile, const float* values)>& take) {
  const Product product(compute, x, w, rows.n_images);
  const Tiles tiles(compute, w, rows, steps);
  compute.pool.parallel_for(tiles.size(), [&](int64_t task, int worker) {
    const Tile tile = tiles[task];
    float* values = compute.scratch.floats(worker, 0, tile.n_rows * tile.n_cols);
    product.multiply(values, tile, activation, tile.n_cols, worker);
    take(tile, values);
  });
}

void linear(const Compute& compute, Rows& out, const Linear& next, const Rows& x, const Linear& w,
            const ImageRows& rows, Activation activation) {
  out.shape_for(compute.kernels, next, rows.end());
  const Format format = next.format(compute.kernels);
  linear(compute, x, w, rows, {0, format.group()}, activation, [&](const Tile& tile, const float* values) {
    format.write_columns(out.row(tile.row), next.n_in, tile.col, values, tile.n_rows, tile.n_cols, tile.n_cols);
  });
}

void layer_norm(const Compute& compute, const std::vector<LayerNormPart>& parts, float eps) {
  std::vector<Source> sources;
  for (const LayerNormPart& part : parts) {
    const auto make = [&](float* normed, int64_t row, int64_t n_rows) {
      const int64_t n = part.next.n_in;
      compute.kernels.layer_norm(normed, part.x + row * n, part.w.weight.data(), part.w.bias.data(), n_rows, n, eps);
    };
    sources.push_back({part.out, part.next, part.rows, make});
  }
  write_blocks(compute, sources, [&](size_t i, const Format& format, const RowBlocks::Block& block) {
    const LayerNormPart& part = parts[i];
    const int64_t n = part.next.n_in;
    format.layer_norm_rows(part.out.row(block.row), part.x + block.row * n, part.w.weight.data(), part.w.bias.data(),
                           block.n_rows, n, eps);
  });
}

void layer_norm(const Compute& compute, Rows& out, const Linear& next, const float* x, const LayerNormWeights& w,
                const ImageRows& rows, float eps) {
  layer_norm(compute, std::vector<LayerNormPart>{{out, next, x, w, rows}}, eps);
}

void write_rows(const Compute& compute, Rows& out, const Linear& next, const float* x, const ImageRows& rows) {
  const int64_t n = next.n_in;
  const auto make = [&](float* copy, int64_t row, int64_t n_rows) { std::copy_n(x + row * n, n_rows * n, copy); };
  write_blocks(compute, {Source{out, next, rows, make}},
               [&](size_t, const Format& format, const RowBlocks::Block& block) {
                 format.write_rows(out.row(block.row), x + block.row * n, block.n_rows, n, n);
               });
}

}  // namespace palo
