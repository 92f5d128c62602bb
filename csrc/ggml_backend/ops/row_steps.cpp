// Operations on one row at a time: RMS norm, products and sums of elements, multiples, gated units.
#include "ggml_backend/ops/row_steps.h"

#include <algorithm>
#include <cstring>

#include "ggml_backend/packed_matrix.h"
#include "kernels/row_kernels.h"

namespace palo::backend {
namespace {

bool is_dense(const ggml_tensor* tensor) {
  return tensor != nullptr && tensor->type == GGML_TYPE_F32 && ggml_is_contiguous(tensor);
}

float* row(const ggml_tensor& tensor, int64_t r) {
  return static_cast<float*>(tensor.data) + r * tensor.ne[0];
}

float parameter(const ggml_tensor& node, int i) {
  float value;
  std::memcpy(&value, node.op_params + i, sizeof(value));
  return value;
}

// The row of b that belongs to row r of the result: row r, or b's only row.
const float* other_row(const ggml_tensor& b, int64_t r) {
  return row(b, ggml_nrows(&b) == 1 ? 0 : r);
}

// Appends one phase that calls body(r) for each row r of the node.
template <typename Body>
int plan_rows(Plan& plan, const ggml_tensor& node, const Body& body) {
  plan.add_rows(ggml_nrows(&node), node.ne[0], body);
  return 1;
}

bool supports_rms_norm(const ggml_tensor& node) {
  return is_dense(&node) && is_dense(node.src[0]);
}

int plan_rms_norm(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  const float eps = parameter(node, 0);
  return plan_rows(plan, node, [&node, eps](int64_t r) {
    kernels_in_use().rows->rms_norm(row(node, r), row(*node.src[0], r), nullptr, node.ne[0], eps);
  });
}

// a has the result's shape, b the same shape or a single row of it.
bool supports_pair(const ggml_tensor& node) {
  const ggml_tensor *a = node.src[0], *b = node.src[1];
  if (!is_dense(&node) || !is_dense(a) || !is_dense(b)) return false;
  return ggml_are_same_shape(a, b) || (b->ne[0] == a->ne[0] && ggml_nrows(b) == 1);
}

int plan_multiply(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  return plan_rows(plan, node, [&node](int64_t r) {
    kernels_in_use().rows->multiply(row(node, r), row(*node.src[0], r), other_row(*node.src[1], r), node.ne[0]);
  });
}

int plan_add(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  return plan_rows(plan, node, [&node](int64_t r) {
    kernels_in_use().add(row(node, r), row(*node.src[0], r), other_row(*node.src[1], r), node.ne[0]);
  });
}

// Without the constant that ggml may add.
bool supports_scale(const ggml_tensor& node) {
  return is_dense(&node) && is_dense(node.src[0]) && parameter(node, 1) == 0.0f;
}

int plan_scale(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  const float scale = parameter(node, 0);
  return plan_rows(plan, node, [&node, scale](int64_t r) {
    const float* x = row(*node.src[0], r);
    std::transform(x, x + node.ne[0], row(node, r), [scale](float value) { return value * scale; });
  });
}

// Only with the gate in a tensor of its own: SwiGLU as in LLaMA, GELU (erf) as in CPM-Bee.
bool supports_gated(const ggml_tensor& node) {
  const ggml_glu_op op = ggml_get_glu_op(&node);
  return (op == GGML_GLU_OP_SWIGLU || op == GGML_GLU_OP_GEGLU_ERF) && is_dense(&node) && is_dense(node.src[0]) &&
         is_dense(node.src[1]) && ggml_are_same_shape(node.src[0], node.src[1]);
}

// In pieces that stay in the first-level cache; out may be gate or up.
void gelu_gated(float* out, const float* gate, const float* up, int64_t n) {
  constexpr int64_t N_PIECE = 512;
  float piece[N_PIECE];
  for (int64_t i = 0; i < n; i += N_PIECE) {
    const int64_t n_piece = std::min(N_PIECE, n - i);
    std::copy_n(gate + i, n_piece, piece);
    kernels_in_use().gelu_erf(piece, n_piece);
    kernels_in_use().rows->multiply(out + i, piece, up + i, n_piece);
  }
}

int plan_gated(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  const auto gated = ggml_get_glu_op(&node) == GGML_GLU_OP_SWIGLU ? kernels_in_use().rows->swiglu : gelu_gated;
  return plan_rows(plan, node, [&node, gated](int64_t r) {
    gated(row(node, r), row(*node.src[0], r), row(*node.src[1], r), node.ne[0]);
  });
}

}  // namespace

const Operation RMS_NORM = {GGML_OP_RMS_NORM, supports_rms_norm, no_scratch, plan_rms_norm};
const Operation MULTIPLY = {GGML_OP_MUL, supports_pair, no_scratch, plan_multiply};
const Operation ADD = {GGML_OP_ADD, supports_pair, no_scratch, plan_add};
const Operation SCALE = {GGML_OP_SCALE, supports_scale, no_scratch, plan_scale};
const Operation GATED = {GGML_OP_GLU, supports_gated, no_scratch, plan_gated};

}  // namespace palo::backend
