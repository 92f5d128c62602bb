#include "ggml_backend/ops/mul_mat.h"

#include <algorithm>
#include <array>

#include "ggml_backend/buffer.h"
#include "ggml_backend/packed_matrix.h"

namespace palo::backend {
namespace {

// Rows of x that are multiplied with a panel before the next panel: for up to 4096 inputs their quantized bytes stay in
// a second-level cache of 1 MiB, and a panel is read once for all of them.
constexpr int64_t N_TILE_ROWS = 128;
// Bytes of weights that a task reads at least: enough that fetching the next task costs next to nothing in comparison.
constexpr int64_t TASK_BYTES = 64 << 10;
constexpr int64_t N_QUANTIZE_ROWS = 16;
constexpr int N_GROUP_MAX = 4;  // q, k and v; gate and up

int64_t round_up_divide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// All rows of x [ne3, ne2, ne1, n_in], in the order in which dst has them.
struct InputRows {
  const char* data;
  int64_t n_in, ne1, ne2, nb1, nb2, nb3;
  int64_t n_rows;

  explicit InputRows(const ggml_tensor& x)
      : data(static_cast<const char*>(x.data)),
        n_in(x.ne[0]),
        ne1(x.ne[1]),
        ne2(x.ne[2]),
        nb1(static_cast<int64_t>(x.nb[1])),
        nb2(static_cast<int64_t>(x.nb[2])),
        nb3(static_cast<int64_t>(x.nb[3])),
        n_rows(ggml_nrows(&x)) {}

  const float* row(int64_t r) const {
    const int64_t plane = r / ne1;
    return reinterpret_cast<const float*>(data + r % ne1 * nb1 + plane % ne2 * nb2 + plane / ne2 * nb3);
  }
};

// Quantizes rows [begin, end), plane by plane, because rows of different planes have no fixed distance.
void quantize(uint8_t* out, const InputRows& x, const BlockKernels& kernels, int64_t begin, int64_t end) {
  const int64_t row_bytes = kernels.row_bytes(x.n_in), ldx = x.nb1 / static_cast<int64_t>(sizeof(float));
  while (begin < end) {
    const int64_t n = std::min(end, (begin / x.ne1 + 1) * x.ne1) - begin;
    kernels.quantize_rows(out + begin * row_bytes, x.row(begin), n, x.n_in, ldx);
    begin += n;
  }
}

// One product split into tasks: tiles of rows and, in each, runs of panels. The split depends only on shapes.
struct Product {
  PackedMatrix w;
  const uint8_t* panels;
  float* out;
  int64_t n_rows;
  int64_t n_task_panels;  // panels of a task
  int64_t n_panel_tasks;  // tasks of a tile of rows
  int64_t n_tasks;

  static Product of(const ggml_tensor& node) {
    const PackedMatrix w = *packed_matrix(*node.src[0]);
    const int64_t n_rows = ggml_nrows(node.src[1]);
    const int64_t n_task_panels = std::max<int64_t>(1, TASK_BYTES / w.panel_bytes);
    const int64_t n_panel_tasks = round_up_divide(w.n_panels, n_task_panels);
    return {w,
            static_cast<const uint8_t*>(node.src[0]->data),
            static_cast<float*>(node.data),
            n_rows,
            n_task_panels,
            n_panel_tasks,
            n_panel_tasks * round_up_divide(n_rows, N_TILE_ROWS)};
  }

  void run(const uint8_t* x, int64_t task) const {
    const int64_t row = task / n_panel_tasks * N_TILE_ROWS, panel = task % n_panel_tasks * n_task_panels;
    const int64_t column = panel * w.kernels->panel_width;
    const int64_t n_columns = std::min(w.n_out - column, n_task_panels * w.kernels->panel_width);
    w.kernels->multiply(out + row * w.n_out + column, x + row * w.kernels->row_bytes(w.n_in),
                        panels + panel * w.panel_bytes, std::min(N_TILE_ROWS, n_rows - row), n_columns, w.n_in,
                        w.n_out);
  }
};

// Products that share their quantized input; their tasks are numbered consecutively.
struct Group {
  std::array<Product, N_GROUP_MAX> products;
  int n_products;

  int64_t n_tasks() const {
    int64_t n = 0;
    for (int i = 0; i < n_products; ++i) n += products[i].n_tasks;
    return n;
  }
  void run(const uint8_t* x, int64_t task) const {
    const Product* product = products.data();
    for (; task >= product->n_tasks; ++product) task -= product->n_tasks;
    product->run(x, task);
  }
};

bool overlap(const ggml_tensor& a, const ggml_tensor& b) {
  const auto* a_begin = static_cast<const char*>(a.data);
  const auto* b_begin = static_cast<const char*>(b.data);
  return a_begin < b_begin + ggml_nbytes(&b) && b_begin < a_begin + ggml_nbytes(&a);
}

// Whether `node` can run at the same time as the group that begins with nodes[0].
bool joins(ggml_tensor* const* nodes, int n_group, const ggml_tensor& node) {
  if (n_group >= N_GROUP_MAX || node.src[1] != nodes[0]->src[1]) return false;
  const auto first = packed_matrix(*nodes[0]->src[0]), other = packed_matrix(*node.src[0]);
  if (first->kernels->quantize_rows != other->kernels->quantize_rows) return false;
  return std::none_of(nodes, nodes + n_group, [&](const ggml_tensor* member) { return overlap(*member, node); });
}

bool supports(const ggml_tensor& node) {
  const ggml_tensor &w = *node.src[0], &x = *node.src[1];
  if (w.buffer == nullptr || ggml_backend_buffer_get_type(w.buffer) != weight_buffer_type()) return false;
  constexpr size_t SIZE = sizeof(float);
  return packed_matrix(w) && x.type == GGML_TYPE_F32 && x.nb[0] == SIZE && x.nb[1] % SIZE == 0 &&
         node.type == GGML_TYPE_F32 && ggml_is_contiguous(&node);
}

int64_t scratch_bytes(const ggml_tensor& node, int) {
  const PackedMatrix w = *packed_matrix(*node.src[0]);
  return ggml_nrows(node.src[1]) * w.kernels->row_bytes(w.n_in);
}

int plan_group(Plan& plan, ggml_tensor* const* nodes, int n_nodes) {
  Group group{{Product::of(*nodes[0])}, 1};
  while (group.n_products < n_nodes && joins(nodes, group.n_products, *nodes[group.n_products])) {
    group.products[group.n_products] = Product::of(*nodes[group.n_products]);
    ++group.n_products;
  }
  const InputRows x(*nodes[0]->src[1]);
  if (x.n_rows == 0) return group.n_products;
  uint8_t* quantized = plan.scratch.data();
  const BlockKernels& kernels = *group.products[0].w.kernels;
  plan.add({round_up_divide(x.n_rows, N_QUANTIZE_ROWS), [x, quantized, &kernels](int64_t task) {
              const int64_t begin = task * N_QUANTIZE_ROWS;
              quantize(quantized, x, kernels, begin, std::min(begin + N_QUANTIZE_ROWS, x.n_rows));
            }});
  plan.add({group.n_tasks(), [group, quantized](int64_t task) { group.run(quantized, task); }});
  return group.n_products;
}

}  // namespace

const Operation MUL_MAT = {GGML_OP_MUL_MAT, supports, scratch_bytes, plan_group};

}  // namespace palo::backend
