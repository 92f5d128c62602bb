#include "ggml_backend/ops/operations.h"

#include <utility>

#include "ggml_backend/ops/flash_attention.h"
#include "ggml_backend/ops/mul_mat.h"
#include "ggml_backend/ops/rope.h"
#include "ggml_backend/ops/row_steps.h"
#include "ggml_backend/ops/set_rows.h"

namespace palo::backend {
namespace {

const Operation* const OPERATIONS[] = {&MUL_MAT, &RMS_NORM, &MULTIPLY,       &ADD, &SCALE, &GATED,
                                       &ROPE,    &SET_ROWS, &FLASH_ATTENTION};

}  // namespace

void Plan::begin() {
  phases.clear();
  angles_of = nullptr;
  n_tables_ = 0;
}

void Plan::add(Phase phase) {
  if (phase.n_tasks != 1 || phases.empty() || phases.back().n_tasks != 1) return phases.push_back(std::move(phase));
  phases.back().body = [first = std::move(phases.back().body), second = std::move(phase.body)](int64_t task) {
    first(task);
    second(task);
  };
}

float* Plan::table(int64_t n) {
  if (n_tables_ == tables_.size()) tables_.emplace_back();
  return tables_[n_tables_++].at_least(n);
}

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
