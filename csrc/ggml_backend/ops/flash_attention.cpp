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
         head_size % 16 == 0 && x.keys.ne[0] == head_size && x.values.ne[0] == head_size && is_half_rows(x.keys) &&
         is_half_rows(x.values) && x.n_head() % x.n_head_kv() == 0 && x.values.ne[2] == x.n_head_kv() &&
         x.n_streams() == x.keys.ne[3] && x.n_streams() == x.values.ne[3] &&
         (x.mask == nullptr || is_half_rows(*x.mask)) && node.src[4] == nullptr && x.max_bias() == 0.0f &&
         x.softcap() == 0.0f && node.type == GGML_TYPE_F32 && ggml_is_contiguous(&node);
}

bool is_prompt(const AttentionTensors& x) {
  return x.n_queries() > MAX_SINGLE_QUERIES;
}

int64_t n_single_tasks(const AttentionTensors& x) {
  return x.n_queries() * x.n_head() * x.n_streams();
}

// For single queries: the weights of the cells, for each query of each head.
int64_t scratch_bytes(const ggml_tensor& node, int n_threads) {
  const AttentionTensors x(node);
  if (is_prompt(x)) return prompt_attention_bytes(x, n_threads);
  return n_single_tasks(x) * x.n_cells() * static_cast<int64_t>(sizeof(float));
}

// One head of one query.
void attend(const AttentionTensors& x, float* weights, int64_t task) {
  const int64_t head = task % x.n_head(), i = task / x.n_head() % x.n_queries(),
                stream = task / x.n_head() / x.n_queries(), head_kv = x.head_kv_of(head);
  kernels_in_use().cache_attention->attend(
      x.out_row(i, head, stream), weights + task * x.n_cells(), x.query_row(i, head, stream),
      {AttentionTensors::at(x.keys, 0, head_kv, stream), static_cast<int64_t>(x.keys.nb[1])},
      {AttentionTensors::at(x.values, 0, head_kv, stream), static_cast<int64_t>(x.values.nb[1])},
      x.mask_row(i, head, stream), x.n_cells(), x.head_size(), x.scale());
}

int plan_attention(Plan& plan, ggml_tensor* const* nodes, int) {
  const AttentionTensors x(*nodes[0]);
  if (is_prompt(x)) {
    plan_prompt_attention(plan, x);
  } else {
    auto* weights = reinterpret_cast<float*>(plan.scratch.data());
    plan.add({n_single_tasks(x), [x, weights](int64_t task) { attend(x, weights, task); }});
  }
  return 1;
}

}  // namespace

const Operation FLASH_ATTENTION = {GGML_OP_FLASH_ATTN_EXT, supports, scratch_bytes, plan_attention};

}  // namespace palo::backend
