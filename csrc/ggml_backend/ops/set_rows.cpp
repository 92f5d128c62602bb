#include "ggml_backend/ops/set_rows.h"

#include <algorithm>

#include "ggml_backend/packed_matrix.h"
#include "kernels/row_kernels.h"

namespace palo::backend {
namespace {

constexpr int64_t TASK_ELEMENTS = 16 << 10;
// Shorter rows are single values of a transposed cache: ggml's own loop does these as well.
constexpr int64_t MIN_ROW = 16;

bool is_plane(const ggml_tensor& tensor) {
  return tensor.ne[2] == 1 && tensor.ne[3] == 1;
}

bool supports(const ggml_tensor& node) {
  const ggml_tensor &x = *node.src[0], &cells = *node.src[1];
  return node.type == GGML_TYPE_F16 && x.type == GGML_TYPE_F32 && cells.type == GGML_TYPE_I64 && x.ne[0] >= MIN_ROW &&
         is_plane(node) && is_plane(x) && is_plane(cells) && x.nb[0] == sizeof(float) && node.nb[0] == 2 &&
         cells.nb[0] == sizeof(int64_t);
}

int64_t no_scratch(const ggml_tensor&, int) {
  return 0;
}

int plan_set_rows(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  const int64_t n_rows = node.src[0]->ne[1], n_task_rows = std::max<int64_t>(1, TASK_ELEMENTS / node.ne[0]);
  plan.add({(n_rows + n_task_rows - 1) / n_task_rows, [=, &node](int64_t task) {
              const ggml_tensor& x = *node.src[0];
              const auto* cells = static_cast<const int64_t*>(node.src[1]->data);
              const int64_t end = std::min(n_rows, (task + 1) * n_task_rows);
              for (int64_t r = task * n_task_rows; r < end; ++r) {
                const auto* row = reinterpret_cast<const float*>(static_cast<const char*>(x.data) + r * x.nb[1]);
                kernels_in_use().rows->to_halves(static_cast<uint8_t*>(node.data) + cells[r] * node.nb[1], row,
                                                 node.ne[0]);
              }
            }});
  return 1;
}

}  // namespace

const Operation SET_ROWS = {GGML_OP_SET_ROWS, supports, no_scratch, plan_set_rows};

}  // namespace palo::backend
