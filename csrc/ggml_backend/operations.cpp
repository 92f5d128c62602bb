#include "ggml_backend/operations.h"

#include "ggml_backend/mul_mat.h"

namespace palo::backend {
namespace {

const Operation* const OPERATIONS[] = {&MUL_MAT};

}  // namespace

const Operation* operation_for(const ggml_tensor& node) {
  for (const Operation* operation : OPERATIONS) {
    if (operation->op == node.op) return operation->supports(node) ? operation : nullptr;
  }
  return nullptr;
}

bool is_view(ggml_op op) {
  return op == GGML_OP_NONE || op == GGML_OP_RESHAPE || op == GGML_OP_VIEW || op == GGML_OP_PERMUTE ||
         op == GGML_OP_TRANSPOSE;
}

}  // namespace palo::backend
