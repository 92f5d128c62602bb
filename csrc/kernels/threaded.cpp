#include "kernels/threaded.h"

#include <algorithm>
#include <cmath>

namespace palo {
namespace {

// Task sizes: small enough to feed many threads with one image (577 rows), large enough that a task lasts longer
// (50 us and more) than handing it out does.
constexpr int64_t LINEAR_ROWS = 64;
constexpr int64_t LINEAR_COLS = 256;  // a multiple of every panel width
constexpr int64_t ATTENTION_ROWS = 32;
constexpr int64_t NORM_ROWS = 16;
constexpr int64_t ELEMENTS = 1 << 15;
constexpr int64_t COLUMNS = 64;

int64_t divide_up(int64_t n, int64_t size) {
  return (n + size - 1) / size;
}

// Runs body(begin, end, worker) over [0, n) in ranges of `size`.
template <typename Body>
void for_ranges(const Compute& compute, int64_t n, int64_t size, const Body& body) {
  compute.pool.parallel_for(
      divide_up(n, size), [&](int64_t task, int worker) { body(task * size, std::min(n, (task + 1) * size), worker); });
}

}  // namespace

int64_t packed_size(const KernelTable& kernels, int64_t n_out, int64_t n_in) {
  return divide_up(n_out, kernels.panel_width) * kernels.panel_width * n_in;
}

void linear(const Compute& compute, float* out, const float* x, const LinearWeights& w, int64_t n_rows,
            Activation activation) {
  const int64_t n_col_tasks = divide_up(w.n_out, LINEAR_COLS);
  const int64_t n_tasks = divide_up(n_rows, LINEAR_ROWS) * n_col_tasks;
  compute.pool.parallel_for(n_tasks, [&](int64_t task, int) {
    const int64_t row = task / n_col_tasks * LINEAR_ROWS;
    const int64_t col = task % n_col_tasks * LINEAR_COLS;
    const int64_t rows = std::min(LINEAR_ROWS, n_rows - row);
    const int64_t cols = std::min(LINEAR_COLS, w.n_out - col);
    float* tile = out + row * w.n_out + col;
    compute.kernels.linear(tile, x + row * w.n_in, w.panels.data() + col * w.n_in,
                           w.bias.size() == 0 ? nullptr : w.bias.data() + col, rows, cols, w.n_in, w.n_out, w.n_in);
    // While the tile is still in cache.
    for (int64_t r = 0; activation != nullptr && r < rows; ++r) activation(tile + r * w.n_out, cols);
  });
}

void layer_norm(const Compute& compute, float* out, const float* x, const LayerNormWeights& w, int64_t n_rows,
                int64_t n_cols, float eps) {
  for_ranges(compute, n_rows, NORM_ROWS, [&](int64_t begin, int64_t end, int) {
    compute.kernels.layer_norm(out + begin * n_cols, x + begin * n_cols, w.weight.data(), w.bias.data(), end - begin,
                               n_cols, eps);
  });
}

void add(const Compute& compute, float* out, const float* a, const float* b, int64_t n) {
  for_ranges(compute, n, ELEMENTS, [&](int64_t begin, int64_t end, int) {
    compute.kernels.add(out + begin, a + begin, b + begin, end - begin);
  });
}

void apply(const Compute& compute, float* x, int64_t n, Activation activation) {
  for_ranges(compute, n, ELEMENTS, [&](int64_t begin, int64_t end, int) { activation(x + begin, end - begin); });
}

AttentionScratch::AttentionScratch(const Compute& compute, int64_t n_tokens, int64_t n_head, int64_t head_size)
    : keys(n_head * packed_size(compute.kernels, n_tokens, head_size)),
      values(n_head * packed_size(compute.kernels, head_size, n_tokens)),
      scores(compute.pool.n_threads() * ATTENTION_ROWS * n_tokens) {}

namespace {

// Packs every panel of w [n_out, n_in], element (o, i) at w[o * stride_out + i * stride_in].
void pack(const KernelTable& kernels, float* panels, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out,
          int64_t stride_in) {
  for (int64_t o = 0; o < n_out; o += kernels.panel_width) {
    kernels.pack_panel(panels + o * n_in, w + o * stride_out, std::min(kernels.panel_width, n_out - o), n_in,
                       stride_out, stride_in);
  }
}

}  // namespace

void attention(const Compute& compute, float* out, const float* q, const float* k, const float* v,
               AttentionScratch& scratch, int64_t n_tokens, int64_t n_head, int64_t head_size) {
  const KernelTable& kernels = compute.kernels;
  const int64_t n_embd = n_head * head_size;
  const int64_t key_size = packed_size(kernels, n_tokens, head_size);
  const int64_t value_size = packed_size(kernels, head_size, n_tokens);
  compute.pool.parallel_for(n_head, [&](int64_t h, int) {
    pack(kernels, scratch.keys.data() + h * key_size, k + h * head_size, n_tokens, head_size, n_embd, 1);
    pack(kernels, scratch.values.data() + h * value_size, v + h * head_size, head_size, n_tokens, 1, n_embd);
  });
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_size));
  const int64_t n_row_tasks = divide_up(n_tokens, ATTENTION_ROWS);
  compute.pool.parallel_for(n_head * n_row_tasks, [&](int64_t task, int worker) {
    const int64_t h = task / n_row_tasks;
    const int64_t row = task % n_row_tasks * ATTENTION_ROWS;
    const int64_t rows = std::min(ATTENTION_ROWS, n_tokens - row);
    const int64_t at = row * n_embd + h * head_size;
    float* scores = scratch.scores.data() + worker * ATTENTION_ROWS * n_tokens;
    kernels.linear(scores, q + at, scratch.keys.data() + h * key_size, nullptr, rows, n_tokens, head_size, n_tokens,
                   n_embd);
    kernels.softmax(scores, rows, n_tokens, n_tokens, scale);
    kernels.linear(out + at, scores, scratch.values.data() + h * value_size, nullptr, rows, head_size, n_tokens, n_embd,
                   n_tokens);
  });
}

void depthwise_conv3x3(const Compute& compute, float* out, const float* in, const float* weight, const float* bias,
                       int64_t height, int64_t width, int64_t n_channels, int64_t stride) {
  for_ranges(compute, divide_up(height, stride), 1, [&](int64_t begin, int64_t end, int) {
    compute.kernels.depthwise_conv3x3(out, in, weight, bias, begin, end, height, width, n_channels, stride);
  });
}

void average_pool2x2(const Compute& compute, float* out, const float* in, int64_t height, int64_t width,
                     int64_t n_channels) {
  for_ranges(compute, height / 2, 1, [&](int64_t begin, int64_t end, int) {
    compute.kernels.average_pool2x2(out, in, begin, end, width, n_channels);
  });
}

void column_means(const Compute& compute, float* out, const float* x, int64_t n_rows, int64_t n_cols) {
  for_ranges(compute, n_cols, COLUMNS, [&](int64_t begin, int64_t end, int) {
    compute.kernels.column_means(out, x, begin, end, n_rows, n_cols);
  });
}

void scale_columns(const Compute& compute, float* x, const float* scale, int64_t n_rows, int64_t n_cols) {
  for_ranges(compute, n_rows, NORM_ROWS, [&](int64_t begin, int64_t end, int) {
    compute.kernels.scale_columns(x + begin * n_cols, scale, end - begin, n_cols);
  });
}

}  // namespace palo
