// Sources: LLaVA, llava/model/multimodal_projector/builder.py (mlp); MobileVLM, mobilevlm/model/vision_projector.py
// (LDPNetProjector: ldp, LDPNetV2Projector: ldpv2), which builds on torchvision's MobileNetV3 InvertedResidual.
#include "vision/projector.h"

#include <algorithm>

namespace palo {
namespace {

// LayerNorm2d of MobileVLM's blocks; not the tower's eps, though both are 1e-5 in every published model.
constexpr float LDP_EPS = 1e-5f;

// Linear, then GELU and Linear as often as there are further layers. out [n_rows, n_embd of the last layer].
void run_mlp(const Compute& compute, float* out, const float* x, const std::vector<LinearWeights>& layers,
             int64_t n_rows) {
  Buffer input;
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool is_last = i + 1 == layers.size();
    Buffer result(is_last ? 0 : n_rows * layers[i].n_out);
    linear(compute, is_last ? out : result.data(), i == 0 ? x : input.data(), layers[i], n_rows,
           is_last ? nullptr : compute.kernels.gelu_erf);
    input = std::move(result);
  }
}

// x [n_rows, n_channels] *= hardsigmoid(excite(relu(squeeze(mean over rows of x))))
void squeeze_and_excite(const Compute& compute, float* x, const LdpBlockWeights& weights, int64_t n_rows,
                        int64_t n_channels) {
  Buffer means(n_channels), squeezed(weights.squeeze.n_out), scale(n_channels);
  column_means(compute, means.data(), x, n_rows, n_channels);
  linear(compute, squeezed.data(), means.data(), weights.squeeze, 1, compute.kernels.relu);
  linear(compute, scale.data(), squeezed.data(), weights.excite, 1, compute.kernels.hardsigmoid);
  scale_columns(compute, x, scale.data(), n_rows, n_channels);
}

// One mb_block: in [side, side, n_channels] -> out [ceil(side / stride), ceil(side / stride), n_channels].
void run_ldp_block(const Compute& compute, float* out, const float* in, const LdpBlockWeights& weights, int64_t side,
                   int64_t n_channels, int64_t stride) {
  const int64_t out_side = (side + stride - 1) / stride;
  const int64_t n_rows = out_side * out_side;
  Buffer x(n_rows * n_channels);
  depthwise_conv3x3(compute, x.data(), in, weights.depthwise.data(), nullptr, side, side, n_channels, stride);
  layer_norm(compute, x.data(), x.data(), weights.depthwise_ln, n_rows, n_channels, LDP_EPS);
  apply(compute, x.data(), x.size(), compute.kernels.hardswish);
  squeeze_and_excite(compute, x.data(), weights, n_rows, n_channels);
  linear(compute, out, x.data(), weights.pointwise, n_rows);
  layer_norm(compute, out, out, weights.pointwise_ln, n_rows, n_channels, LDP_EPS);
  // Stride 1 keeps the shape, so torchvision adds the input.
  if (stride == 1) add(compute, out, out, in, n_rows * n_channels);
}

void run_ldp(const Compute& compute, float* out, const float* hidden, const ProjectorWeights& weights,
             const VisionConfig& config) {
  Buffer x(config.n_patches() * weights.n_embd), y(x.size());
  run_mlp(compute, x.data(), hidden, weights.mlp, config.n_patches());
  run_ldp_block(compute, y.data(), x.data(), weights.ldp_blocks[0], config.grid(), weights.n_embd, 1);
  run_ldp_block(compute, out, y.data(), weights.ldp_blocks[1], config.grid(), weights.n_embd, 2);
}

void run_ldpv2(const Compute& compute, float* out, const float* hidden, const ProjectorWeights& weights,
               const VisionConfig& config) {
  const int64_t side = config.grid() / 2;
  Buffer x(config.n_patches() * weights.n_embd), pooled(side * side * weights.n_embd);
  run_mlp(compute, x.data(), hidden, weights.mlp, config.n_patches());
  average_pool2x2(compute, pooled.data(), x.data(), config.grid(), config.grid(), weights.n_embd);
  depthwise_conv3x3(compute, out, pooled.data(), weights.peg_weight.data(), weights.peg_bias.data(), side, side,
                    weights.n_embd, 1);
  add(compute, out, out, pooled.data(), pooled.size());
}

}  // namespace

void project(const Compute& compute, float* out, const float* hidden, const ProjectorWeights& weights,
             const VisionConfig& config) {
  switch (config.projector) {
    case ProjectorKind::IDENTITY:
      std::copy_n(hidden, config.n_patches() * config.n_embd, out);
      return;
    case ProjectorKind::MLP:
      return run_mlp(compute, out, hidden, weights.mlp, config.n_patches());
    case ProjectorKind::LDP:
      return run_ldp(compute, out, hidden, weights, config);
    case ProjectorKind::LDPV2:
      return run_ldpv2(compute, out, hidden, weights, config);
  }
}

}  // namespace palo
