// Linear layers over the rows of images, in either precision: packed weights, packed inputs, and what is applied to a
// piece of the result while it is still in cache.
#pragma once

#include <functional>
#include <vector>

#include "kernels/compute.h"
#include "kernels/format.h"
#include "kernels/outliers.h"

namespace palo {

using Activation = void (*)(float* x, int64_t n);

// y = x W^T + b, W [n_out, n_in] packed into panels, b [n_out] or empty.
struct Linear {
  Precision precision = Precision::FLOAT;
  int64_t n_out = 0;
  int64_t n_in = 0;
  ByteBuffer panels;
  Buffer bias;

  Format format(const KernelTable& kernels) const { return Format(kernels, precision); }
};

struct LayerNormWeights {
  Buffer weight;  // [n_cols]
  Buffer bias;    // [n_cols]
};

// The input of a Linear, [n_rows, w.n_in] in its format. In int8, each image's outlier channels are stored separately.
class Rows {
 public:
  // Makes room for n_rows rows of inputs of `w`, without outliers.
  void shape_for(const KernelTable& kernels, const Linear& w, int64_t n_rows);
  // Makes room for the outliers of these images, which the caller then fills in.
  void set_outliers(std::vector<Outliers> outliers, int64_t n_rows);

  uint8_t* row(int64_t r) { return bytes_.data() + r * row_bytes_; }
  const uint8_t* row(int64_t r) const { return bytes_.data() + r * row_bytes_; }

  const Outliers& outliers(int64_t image) const;
  float* outlier_row(int64_t r) { return outlier_values_.data() + r * MAX_OUTLIERS; }
  const float* outlier_row(int64_t r) const { return outlier_values_.data() + r * MAX_OUTLIERS; }

 private:
  ByteBuffer bytes_;
  int64_t row_bytes_ = 0;
  std::vector<Outliers> outliers_;  // per image; empty where no image has any
  Buffer outlier_values_;           // [n_rows, MAX_OUTLIERS]
};

// What is applied to x W^T + b before it is stored: first the activation, then the sum.
struct Epilogue {
  Activation activation = nullptr;
  const float* residual = nullptr;  // [rows, n_out], added; may be the output itself
};

// One of several products that are computed together: their tasks share the threads.
struct LinearPart {
  float* out;
  const Rows& x;
  const Linear& w;
  ImageRows rows;
  Epilogue epilogue;
  int64_t ldo;  // of out and of the residual, at least w.n_out
};

// Each as the function below.
void linear(const Compute& compute, const std::vector<LinearPart>& parts);

// out [rows, w.n_out] = epilogue(x W^T + b).
void linear(const Compute& compute, float* out, const Rows& x, const Linear& w, const ImageRows& rows,
            const Epilogue& epilogue = {});

// A piece of a product: columns [col, col + n_cols) of rows [row, row + n_rows), all of one image; and the weights of
// later pieces that are asked for meanwhile.
struct Tile {
  int64_t image, row, n_rows, col, n_cols;
  Ahead ahead = {};
};

// What a tile starts at: multiples of these, rows counted from the image's first; 0 for any row.
struct TileSteps {
  int64_t rows, cols;
};

// Calls take(tile, values) with activation(x W^T + b) of each tile, values [tile.n_rows, tile.n_cols] dense.
void linear(const Compute& compute, const Rows& x, const Linear& w, const ImageRows& rows, const TileSteps& steps,
            Activation activation, const std::function<void(const Tile& tile, const float* values)>& take);

// out = rows of inputs of `next`, [rows, w.n_out] = activation(x W^T + b), which never exists in f32 as a whole.
void linear(const Compute& compute, Rows& out, const Linear& next, const Rows& x, const Linear& w,
            const ImageRows& rows, Activation activation = nullptr);

// One of several layer norms that are computed together.
struct LayerNormPart {
  Rows& out;
  const Linear& next;
  const float* x;
  const LayerNormWeights& w;
  ImageRows rows;
};

// Each as the function below.
void layer_norm(const Compute& compute, const std::vector<LayerNormPart>& parts, float eps);

// out = rows of inputs of `next` = layer_norm(x), x [rows, next.n_in].
void layer_norm(const Compute& compute, Rows& out, const Linear& next, const float* x, const LayerNormWeights& w,
                const ImageRows& rows, float eps);

// out = rows of inputs of `next` = x, x [rows, next.n_in].
void write_rows(const Compute& compute, Rows& out, const Linear& next, const float* x, const ImageRows& rows);

}  // namespace palo
