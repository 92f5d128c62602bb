// Sources: MobileVLM, mobilevlm/model/vision_projector.py (LDPBlock), which builds on torchvision's InvertedResidual.
#include "vision/mb_block.h"

namespace palo {
namespace {

// LayerNorm2d of MobileVLM's blocks; not the tower's eps, though both are 1e-5 in every published model.
constexpr float LDP_EPS = 1e-5f;
// Rows of a task of the pointwise convolution: its LayerNorm needs whole rows, 24 of 2048 channels take 192 KiB.
constexpr int64_t POINTWISE_ROWS = 24;

struct MbBlock {
  const Compute& compute;
  const MbBlockWeights& weights;
  ProjectorMemory& memory;
  int64_t n_images, side, stride;

  int64_t out_side() const { return (side + stride - 1) / stride; }
  int64_t n_rows() const { return out_side() * out_side(); }  // of an image
  int64_t n_channels() const { return weights.pointwise.n_out; }

  // An image's means of grid rows [out_side, C], then the mean of them [C].
  float* means(int64_t image) const { return memory.means.data() + image * (out_side() + 1) * n_channels(); }

  // filtered = hardswish(layer_norm(depthwise(in))), and the means of its grid rows while they are in cache.
  void filter(const float* in) const {
    const KernelTable& kernels = compute.kernels;
    memory.filtered.at_least(n_images * n_rows() * n_channels());
    memory.means.at_least(n_images * (out_side() + 1) * n_channels());
    compute.pool.parallel_for(n_images * out_side(), [&](int64_t task, int) {
      const int64_t image = task / out_side(), y = task % out_side(), n = n_channels();
      float* out = memory.filtered.data() + image * n_rows() * n;
      float* row = out + y * out_side() * n;
      kernels.depthwise_conv3x3(out, in + image * side * side * n, weights.depthwise.data(), nullptr, y, y + 1, side,
                                side, n, stride);
      kernels.layer_norm(row, row, weights.depthwise_ln.weight.data(), weights.depthwise_ln.bias.data(), out_side(), n,
                         LDP_EPS);
      kernels.hardswish(row, out_side() * n);
      kernels.column_means(means(image) + y * n, row, 0, n, out_side(), n);
    });
  }

  // scales [n_images, C] = hardsigmoid(excite(relu(squeeze(mean of filtered))))
  void squeeze_and_excite() const {
    const int64_t n = n_channels();
    float* pooled = memory.scales.at_least(n_images * n);
    for (int64_t image = 0; image < n_images; ++image) {
      compute.kernels.column_means(pooled + image * n, means(image), 0, n, out_side(), n);
    }
    const ImageRows rows{n_images, 1, 1};
    write_rows(compute, memory.rows, weights.squeeze, pooled, rows);
    linear(compute, memory.next_rows, weights.excite, memory.rows, weights.squeeze, rows, compute.kernels.relu);
    linear(compute, memory.scales.data(), memory.next_rows, weights.excite, rows, {compute.kernels.hardsigmoid});
  }

  // out = layer_norm(pointwise(filtered * scales)) [+ in], whole rows at a time.
  void mix(float* out, const float* in) const {
    const RowBlocks blocks({n_images, n_rows(), n_rows()}, POINTWISE_ROWS);
    compute.pool.parallel_for(blocks.size(),
                              [&](int64_t task, int worker) { mix_rows(out, in, blocks[task], worker); });
  }

  void mix_rows(float* out, const float* in, const RowBlocks::Block& block, int worker) const {
    const KernelTable& kernels = compute.kernels;
    const Linear& w = weights.pointwise;
    const Format format = w.format(kernels);
    const int64_t n = n_channels(), at = block.row * n;
    uint8_t* rows = compute.scratch.bytes(worker, 0, block.n_rows * format.row_bytes(n));
    float* x = memory.filtered.data() + at;
    kernels.scale_columns(x, memory.scales.data() + block.image * n, block.n_rows, n);
    format.write_rows(rows, x, block.n_rows, n, n);
    format.linear(x, rows, w.panels.data(), nullptr, block.n_rows, n, n, n);
    kernels.layer_norm(out + at, x, weights.pointwise_ln.weight.data(), weights.pointwise_ln.bias.data(), block.n_rows,
                       n, LDP_EPS);
    // Stride 1 keeps the shape, so torchvision adds the input.
    if (stride == 1) kernels.add(out + at, out + at, in + at, block.n_rows * n);
  }
};

}  // namespace

void run_mb_block(const Compute& compute, float* out, const float* in, int64_t n_images, ProjectorMemory& memory,
                  const MbBlockWeights& weights, int64_t side, int64_t stride) {
  const MbBlock block{compute, weights, memory, n_images, side, stride};
  block.filter(in);
  block.squeeze_and_excite();
  block.mix(out, in);
}

}  // namespace palo
