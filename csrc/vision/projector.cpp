// Sources: LLaVA, llava/model/multimodal_projector/builder.py (mlp); MobileVLM, mobilevlm/model/vision_projector.py
// (LDPNetProjector: ldp, LDPNetV2Projector: ldpv2).
#include "vision/projector.h"

#include <algorithm>
#include <utility>

#include "vision/mb_block.h"

namespace palo {
namespace {

// One batch on its way through the projector.
struct Projector {
  const Compute& compute;
  const ProjectorWeights& weights;
  const VisionConfig& config;
  ProjectorMemory& memory;
  int64_t n_images;

  // Linear, then GELU and Linear as often as there are further layers. out [n_images, n_hidden, n_embd].
  void run_mlp(float* out, const float* hidden) const {
    const std::vector<Linear>& layers = weights.mlp;
    const ImageRows rows{n_images, config.n_hidden(), config.n_hidden()};
    Rows* x = &memory.rows;
    Rows* y = &memory.next_rows;
    write_rows(compute, *x, layers.front(), hidden, rows);
    for (size_t i = 0; i + 1 < layers.size(); ++i, std::swap(x, y)) {
      linear(compute, *y, layers[i + 1], *x, layers[i], rows, compute.kernels.gelu_erf);
    }
    linear(compute, out, *x, layers.back(), rows);
  }

  float* run_mlp_to_grid(const float* hidden) const {
    float* grid = memory.grid.at_least(n_images * config.n_patches() * weights.n_embd);
    run_mlp(grid, hidden);
    return grid;
  }

  void run_ldp(float* out, const float* hidden) const {
    const float* grid = run_mlp_to_grid(hidden);
    float* mixed = memory.mixed.at_least(n_images * config.n_patches() * weights.n_embd);
    run_mb_block(compute, mixed, grid, n_images, memory, weights.mb_blocks[0], config.grid(), 1);
    run_mb_block(compute, out, mixed, n_images, memory, weights.mb_blocks[1], config.grid(), 2);
  }

  // Average pool 2x2, then the PEG: a depthwise convolution with residual.
  void run_ldpv2(float* out, const float* hidden) const {
    const float* grid = run_mlp_to_grid(hidden);
    const int64_t side = config.grid() / 2, n_row_values = side * weights.n_embd;
    float* pooled = memory.filtered.at_least(n_images * side * n_row_values);
    compute.pool.parallel_for(n_images * side, [&](int64_t task, int) {
      const int64_t image = task / side, y = task % side;
      compute.kernels.average_pool2x2(pooled + image * side * n_row_values,
                                      grid + image * config.n_patches() * weights.n_embd, y, y + 1, config.grid(),
                                      weights.n_embd);
    });
    compute.pool.parallel_for(n_images * side, [&](int64_t task, int) {
      const int64_t image = task / side * side * n_row_values, y = task % side, row = image + y * n_row_values;
      compute.kernels.depthwise_conv3x3(out + image, pooled + image, weights.peg_weight.data(), weights.peg_bias.data(),
                                        y, y + 1, side, side, weights.n_embd, 1);
      compute.kernels.add(out + row, out + row, pooled + row, n_row_values);
    });
  }
};

}  // namespace

void project(const Compute& compute, float* out, const float* hidden, int64_t n_images, ProjectorMemory& memory,
             const ProjectorWeights& weights, const VisionConfig& config) {
  const Projector projector{compute, weights, config, memory, n_images};
  switch (config.projector) {
    case ProjectorKind::IDENTITY:
      std::copy_n(hidden, n_images * config.n_hidden() * config.n_embd, out);
      return;
    case ProjectorKind::MLP:
      return projector.run_mlp(out, hidden);
    case ProjectorKind::LDP:
      return projector.run_ldp(out, hidden);
    case ProjectorKind::LDPV2:
      return projector.run_ldpv2(out, hidden);
  }
}

}  // namespace palo
