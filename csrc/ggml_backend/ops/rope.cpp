// Rotary position embedding of neighbouring pairs (GGML_ROPE_TYPE_NORMAL), which LLaMA uses.
#include "ggml_backend/ops/rope.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ggml_backend/packed_matrix.h"
#include "kernels/row_kernels.h"

namespace palo::backend {
namespace {

// What ggml_rope_ext stores in op_params: ints 1 n_dims and 2 mode, floats 5 to 8, int 15 the first dimension.
struct RopeParameters {
  int32_t n_dims, mode, first;
  float base, scale, extrapolation, factor;

  explicit RopeParameters(const ggml_tensor& node) {
    std::memcpy(&n_dims, node.op_params + 1, sizeof(n_dims));
    std::memcpy(&mode, node.op_params + 2, sizeof(mode));
    std::memcpy(&base, node.op_params + 5, sizeof(base));
    std::memcpy(&scale, node.op_params + 6, sizeof(scale));
    std::memcpy(&extrapolation, node.op_params + 7, sizeof(extrapolation));
    std::memcpy(&factor, node.op_params + 8, sizeof(factor));
    std::memcpy(&first, node.op_params + 15, sizeof(first));
  }
};

bool supports(const ggml_tensor& node) {
  const ggml_tensor &x = *node.src[0], &positions = *node.src[1];
  const RopeParameters rope(node);
  return rope.mode == GGML_ROPE_TYPE_NORMAL && rope.extrapolation == 0.0f && rope.first == 0 && rope.n_dims > 0 &&
         rope.n_dims % 2 == 0 && rope.n_dims <= x.ne[0] && node.src[2] == nullptr && x.type == GGML_TYPE_F32 &&
         x.nb[0] == sizeof(float) && node.type == GGML_TYPE_F32 && node.nb[0] == sizeof(float) &&
         positions.type == GGML_TYPE_I32 && ggml_is_contiguous(&positions) && x.ne[3] == 1;
}

void write_angles(float* out, int32_t position, const RopeParameters& rope) {
  const int32_t n_pairs = rope.n_dims / 2;
  const double step = std::pow(static_cast<double>(rope.base), -2.0 / rope.n_dims);
  double angle = static_cast<double>(position) * rope.scale;
  for (int32_t i = 0; i < n_pairs; ++i, angle *= step) {
    out[i] = static_cast<float>(std::cos(angle)) * rope.factor;
    out[n_pairs + i] = static_cast<float>(std::sin(angle)) * rope.factor;
  }
}

// All heads of one token: x, node [head_size, n_head, n_tokens].
void rotate_token(const ggml_tensor& node, const float* angles, int32_t n_dims, int64_t token) {
  const ggml_tensor& x = *node.src[0];
  for (int64_t head = 0; head < node.ne[1]; ++head) {
    const auto* in =
        reinterpret_cast<const float*>(static_cast<const char*>(x.data) + head * x.nb[1] + token * x.nb[2]);
    auto* out = reinterpret_cast<float*>(static_cast<char*>(node.data) + head * node.nb[1] + token * node.nb[2]);
    kernels_in_use().rows->rotate_pairs(out, in, angles, angles + n_dims / 2, n_dims / 2);
    if (in != out) std::copy(in + n_dims, in + node.ne[0], out + n_dims);
  }
}

bool have_same_angles(const ggml_tensor& a, const ggml_tensor& b) {
  return a.src[1]->data == b.src[1]->data && a.ne[2] == b.ne[2] &&
         std::memcmp(a.op_params, b.op_params, sizeof(a.op_params)) == 0;
}

// cosines [n_pairs], sines [n_pairs] of each token: the same in every layer, so a graph computes them once.
const float* plan_angles(Plan& plan, const ggml_tensor& node, const RopeParameters& rope) {
  if (plan.angles_of != nullptr && have_same_angles(*plan.angles_of, node)) return plan.angles;
  float* angles = plan.table(node.ne[2] * rope.n_dims);
  const auto* positions = static_cast<const int32_t*>(node.src[1]->data);
  plan.add({node.ne[2], [=](int64_t token) { write_angles(angles + token * rope.n_dims, positions[token], rope); }});
  plan.angles_of = &node;
  plan.angles = angles;
  return angles;
}

int plan_rope(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  const RopeParameters rope(node);
  const float* angles = plan_angles(plan, node, rope);
  plan.add_rows(node.ne[2], node.ne[0] * node.ne[1], [&node, angles, n_dims = rope.n_dims](int64_t token) {
    rotate_token(node, angles + token * n_dims, n_dims, token);
  });
  return 1;
}

}  // namespace

const Operation ROPE = {GGML_OP_ROPE, supports, no_scratch, plan_rope};

}  // namespace palo::backend
