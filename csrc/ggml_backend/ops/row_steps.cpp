// Operations on one row at a time: RMS norm, products and sums of elements, SwiGLU.
#include "ggml_backend/ops/row_steps.h"

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
  float eps;
  std::memcpy(&eps, node.op_params, sizeof(eps));
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

// Only with the gate in a tensor of its own, as in LLaMA.
bool supports_swiglu(const ggml_tensor& node) {
  return ggml_get_glu_op(&node) == GGML_GLU_OP_SWIGLU && is_dense(&node) && is_dense(node.src[0]) &&
         is_dense(node.src[1]) && ggml_are_same_shape(node.src[0], node.src[1]);
}

int plan_swiglu(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  return plan_rows(plan, node, [&node](int64_t r) {
    kernels_in_use().rows->swiglu(row(node, r), row(*node.src[0], r), row(*node.src[1], r), node.ne[0]);
  });
}

}  // namespace

const Operation RMS_NORM = {GGML_OP_RMS_NORM, supports_rms_norm, no_scratch, plan_rms_norm};
const Operation MULTIPLY = {GGML_OP_MUL, supports_pair, no_scratch, plan_multiply};
const Operation ADD = {GGML_OP_ADD, supports_pair, no_scratch, plan_add};
const Operation SWIGLU = {GGML_OP_GLU, supports_swiglu, no_scratch, plan_swiglu};

}  // namespace palo::backend
