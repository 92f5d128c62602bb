#include "ggml_backend/ops/set_rows.h"

#include "ggml_backend/packed_matrix.h"
#include "kernels/row_kernels.h"

namespace palo::backend {
namespace {

// Shorter rows are single values of a transposed cache: ggml's own loop is as fast for them.
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

// Row r of the input to the cell that its index names.
void write_row(const ggml_tensor& node, int64_t r) {
  const ggml_tensor& x = *node.src[0];
  const int64_t cell = static_cast<const int64_t*>(node.src[1]->data)[r];
  const auto* row = reinterpret_cast<const float*>(static_cast<const char*>(x.data) + r * x.nb[1]);
  kernels_in_use().rows->to_halves(static_cast<uint8_t*>(node.data) + cell * node.nb[1], row, node.ne[0]);
}

int plan_set_rows(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  plan.add_rows(node.src[0]->ne[1], node.ne[0], [&node](int64_t r) { write_row(node, r); });
  return 1;
}

}  // namespace

const Operation SET_ROWS = {GGML_OP_SET_ROWS, supports, no_scratch, plan_set_rows};

}  // namespace palo::backend
