// The kernels cut into tasks and run on a pool of threads. Tasks have fixed sizes that do not depend on the number of
// threads, so results are equal bit for bit for any number of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/kernel_table.h"
#include "kernels/thread_pool.h"

namespace palo {

// Floats without initialisation: weights and activations are written before they are read.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size)
      : data_(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(size))), size_(size) {}
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  std::unique_ptr<float[]> data_;
  int64_t size_ = 0;
};

// What computes: kernels of one instruction set on one pool of threads.
struct Compute {
  const KernelTable& kernels;
  ThreadPool& pool;
};

// y = x W^T + b with W [n_out, n_in] packed into panels, b [n_out] or empty.
struct LinearWeights {
  Buffer panels;
  Buffer bias;
  int64_t n_out = 0;
  int64_t n_in = 0;
};

struct LayerNormWeights {
  Buffer weight;  // [n_cols]
  Buffer bias;    // [n_cols]
};

using Activation = void (*)(float* x, int64_t n);

// Floats that ceil(n_out / panel_width) panels of n_in rows take.
int64_t packed_size(const KernelTable& kernels, int64_t n_out, int64_t n_in);

// out [n_rows, w.n_out] = activation(x [n_rows, w.n_in] W^T + b); activation may be nullptr.
void linear(const Compute& compute, float* out, const float* x, const LinearWeights& w, int64_t n_rows,
            Activation activation = nullptr);

// out, x [n_rows, n_cols]; out may be x.
void layer_norm(const Compute& compute, float* out, const float* x, const LayerNormWeights& w, int64_t n_rows,
                int64_t n_cols, float eps);

// out = a + b, all [n]; out may be a or b.
void add(const Compute& compute, float* out, const float* a, const float* b, int64_t n);

// Applies an elementwise kernel to x [n] in place.
void apply(const Compute& compute, float* x, int64_t n, Activation activation);

// Memory of attention(), to be allocated once per image.
struct AttentionScratch {
  AttentionScratch(const Compute& compute, int64_t n_tokens, int64_t n_head, int64_t head_size);
  Buffer keys;    // per head: panels of K_h [n_tokens, head_size]
  Buffer values;  // per head: panels of V_h^T [head_size, n_tokens]
  Buffer scores;  // per thread: [ATTENTION_ROWS, n_tokens]
};

// Scaled dot-product attention without mask: per head h, out_h = softmax(q_h k_h^T / sqrt(head_size)) v_h.
// out, q, k, v [n_tokens, n_head * head_size], heads side by side in a row; out may not alias an input.
void attention(const Compute& compute, float* out, const float* q, const float* k, const float* v,
               AttentionScratch& scratch, int64_t n_tokens, int64_t n_head, int64_t head_size);

// See KernelTable: the depthwise convolution over all output rows.
void depthwise_conv3x3(const Compute& compute, float* out, const float* in, const float* weight, const float* bias,
                       int64_t height, int64_t width, int64_t n_channels, int64_t stride);

// out [height / 2, width / 2, n_channels]; in [height, width, n_channels].
void average_pool2x2(const Compute& compute, float* out, const float* in, int64_t height, int64_t width,
                     int64_t n_channels);

// out [n_cols] = means of the columns of x [n_rows, n_cols].
void column_means(const Compute& compute, float* out, const float* x, int64_t n_rows, int64_t n_cols);

// x [n_rows, n_cols], column c times scale[c], in place.
void scale_columns(const Compute& compute, float* x, const float* scale, int64_t n_rows, int64_t n_cols);

}  // namespace palo
