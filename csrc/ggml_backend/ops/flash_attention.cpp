#include "ggml_backend/ops/flash_attention.h"

#include "ggml_backend/ops/attention_tensors.h"
#include "ggml_backend/ops/prompt_attention.h"
#include "ggml_backend/packed_matrix.h"
#include "kernels/cache_attention.h"

namespace palo::backend {
namespace {

// Up to this many queries (the answers of a batch) each query reads a head's cells as they are in the cache. For more
// queries the cells are unpacked first, for matrix products.
constexpr int64_t MAX_SINGLE_QUERIES = 16;

// A row of f16 at every step of its dimensions 1 to 3.
bool is_half_rows(const ggml_tensor& tensor) {
  return tensor.type == GGML_TYPE_F16 && tensor.nb[0] == sizeof(ggml_fp16_t);
}

bool supports(const ggml_tensor& node) {
  const AttentionTensors x(node);
  const int64_t head_size = x.head_size();
  return x.query.type == GGML_TYPE_F32 && x.query.nb[0] == sizeof(float) && x.query.nb[1] % sizeof(float) == 0 &&
         x.query.nb[2] % sizeof(float) == 0 && head_size % 16 == 0 && x.keys.ne[0] == head_size &&
         x.values.ne[0] == head_size && is_half_rows(x.keys) && is_half_rows(x.values) &&
         x.n_head() % x.n_head_kv() == 0 && x.values.ne[2] == x.n_head_kv() && x.n_streams() == x.keys.ne[3] &&
         x.n_streams() == x.values.ne[3] && (x.mask == nullptr || is_half_rows(*x.mask)) && node.src[4] == nullptr &&
         x.max_bias() == 0.0f && x.softcap() == 0.0f && node.type == GGML_TYPE_F32 && ggml_is_contiguous(&node);
}

bool is_prompt(const AttentionTensors& x) {
  return x.n_queries() > MAX_SINGLE_QUERIES;
}

// Heads of the query that a task attends to. All of a cell's are read in the order of memory, so they are shared out
// only where that many queries would leave threads with nothing to do, or one with much more than the others; and where
// each head has a mask of its own.
int64_t n_task_heads(const AttentionTensors& x, int n_threads) {
  if (x.mask != nullptr && x.mask->ne[2] != 1) return 1;
  const int64_t n_sharing = x.n_head() / x.n_head_kv();
  int64_t n = x.n_head_kv();
  const auto is_even = [&] {
    const int64_t n_tasks = x.n_queries() * x.n_streams() * (x.n_head_kv() / n);
    return n_tasks % n_threads == 0 || n_tasks >= 4 * n_threads;
  };
  while (n % 2 == 0 && !is_even()) n /= 2;
  return n * n_sharing;
}

// Single queries: a task is one query and a group of neighbouring heads.
struct SingleQueries {
  AttentionTensors x;
  int64_t n_heads;

  SingleQueries(const AttentionTensors& tensors, int n_threads)
      : x(tensors), n_heads(n_task_heads(tensors, n_threads)) {}

  int64_t n_groups() const { return x.n_head() / n_heads; }
  int64_t n_tasks() const { return n_groups() * x.n_queries() * x.n_streams(); }
  int64_t n_task_weights() const { return n_heads * attention_weights_stride(x.n_cells()); }

  CacheRows rows_of(const ggml_tensor& cells, int64_t head, int64_t stream) const {
    return {AttentionTensors::at(cells, 0, x.head_kv_of(head), stream), static_cast<int64_t>(cells.nb[1]),
            static_cast<int64_t>(cells.nb[2])};
  }

  // `weights`: n_task_weights for each task.
  void attend(float* weights, int64_t task) const {
    const int64_t head = task % n_groups() * n_heads, i = task / n_groups() % x.n_queries(),
                  stream = task / n_groups() / x.n_queries();
    const int64_t query_stride = static_cast<int64_t>(x.query.nb[2] / sizeof(float));
    const QueryHeads heads{n_heads, x.n_head() / x.n_head_kv(), x.head_size(), query_stride};
    kernels_in_use().cache_attention->attend(x.out_row(i, head, stream), weights + task * n_task_weights(),
                                             x.query_row(i, head, stream), rows_of(x.keys, head, stream),
                                             rows_of(x.values, head, stream), x.mask_row(i, head, stream), x.n_cells(),
                                             heads, x.scale());
  }
};

// For single queries: the weights of the cells, for each query of each head.
int64_t scratch_bytes(const ggml_tensor& node, int n_threads) {
  const AttentionTensors x(node);
  if (is_prompt(x)) return prompt_attention_bytes(x, n_threads);
  const SingleQueries single(x, n_threads);
  return single.n_tasks() * single.n_task_weights() * static_cast<int64_t>(sizeof(float));
}

int plan_attention(Plan& plan, ggml_tensor* const* nodes, int) {
  const AttentionTensors x(*nodes[0]);
  if (is_prompt(x)) {
    plan_prompt_attention(plan, x);
  } else {
    const SingleQueries single(x, plan.n_threads);
    auto* weights = reinterpret_cast<float*>(plan.scratch.data());
    plan.add({single.n_tasks(), [single, weights](int64_t task) { single.attend(weights, task); }});
  }
  return 1;
}

}  // namespace

const Operation FLASH_ATTENTION = {GGML_OP_FLASH_ATTN_EXT, supports, scratch_bytes, plan_attention};

}  // namespace palo::backend
