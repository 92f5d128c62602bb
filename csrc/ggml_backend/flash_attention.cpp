#include "ggml_backend/flash_attention.h"

#include <cstring>

#include "ggml_backend/packed_matrix.h"
#include "kernels/text_kernels.h"

namespace palo::backend {
namespace {

// Queries per call up to which a head's cells are read once for each: the answers of a batch. A prompt's many queries
// are better off with ggml's tiles of queries and keys.
constexpr int64_t MAX_QUERIES = 16;

// What ggml_flash_attn_ext stores in op_params: floats 0 to 2.
struct AttentionParameters {
  float scale, max_bias, softcap;

  explicit AttentionParameters(const ggml_tensor& node) {
    std::memcpy(&scale, node.op_params, sizeof(scale));
    std::memcpy(&max_bias, node.op_params + 1, sizeof(max_bias));
    std::memcpy(&softcap, node.op_params + 2, sizeof(softcap));
  }
};

// A row of f16 at every step of its dimensions 1 to 3.
bool is_half_rows(const ggml_tensor& tensor) {
  return tensor.type == GGML_TYPE_F16 && tensor.nb[0] == sizeof(ggml_fp16_t);
}

// query [n_streams, n_head, n_queries, head_size] f32; keys, values [n_streams, n_head_kv, n_cells, head_size] f16;
// mask [n_streams or 1, n_head or 1, n_queries, n_cells] f16; node [n_streams, n_queries, n_head, head_size] f32.
bool supports(const ggml_tensor& node) {
  const ggml_tensor &query = *node.src[0], &keys = *node.src[1], &values = *node.src[2];
  const ggml_tensor* mask = node.src[3];
  const AttentionParameters parameters(node);
  const int64_t head_size = query.ne[0];
  return query.ne[1] <= MAX_QUERIES && query.type == GGML_TYPE_F32 && query.nb[0] == sizeof(float) &&
         head_size % 16 == 0 && keys.ne[0] == head_size && values.ne[0] == head_size && is_half_rows(keys) &&
         is_half_rows(values) && query.ne[2] % keys.ne[2] == 0 && values.ne[2] == keys.ne[2] &&
         query.ne[3] == keys.ne[3] && query.ne[3] == values.ne[3] && (mask == nullptr || is_half_rows(*mask)) &&
         node.src[4] == nullptr && parameters.max_bias == 0.0f && parameters.softcap == 0.0f &&
         node.type == GGML_TYPE_F32 && ggml_is_contiguous(&node);
}

int64_t n_tasks(const ggml_tensor& node) {
  const ggml_tensor& query = *node.src[0];
  return query.ne[1] * query.ne[2] * query.ne[3];
}

int64_t scratch_bytes(const ggml_tensor& node) {
  return n_tasks(node) * node.src[1]->ne[1] * static_cast<int64_t>(sizeof(float));
}

const uint8_t* at(const ggml_tensor& tensor, int64_t i1, int64_t i2, int64_t i3) {
  return static_cast<const uint8_t*>(tensor.data) + i1 * tensor.nb[1] + i2 * tensor.nb[2] + i3 * tensor.nb[3];
}

// One head of one query.
void attend(const ggml_tensor& node, float* weights, int64_t task) {
  const ggml_tensor &query = *node.src[0], &keys = *node.src[1], &values = *node.src[2];
  const ggml_tensor* mask = node.src[3];
  const int64_t head = task % query.ne[2], i = task / query.ne[2] % query.ne[1],
                stream = task / query.ne[2] / query.ne[1];
  const int64_t head_kv = head / (query.ne[2] / keys.ne[2]), n_cells = keys.ne[1];
  const uint8_t* hidden = mask == nullptr ? nullptr : at(*mask, i, head % mask->ne[2], stream % mask->ne[3]);
  kernels_in_use().text->attend(static_cast<float*>(node.data) + task * node.ne[0], weights + task * n_cells,
                                reinterpret_cast<const float*>(at(query, i, head, stream)),
                                {at(keys, 0, head_kv, stream), static_cast<int64_t>(keys.nb[1])},
                                {at(values, 0, head_kv, stream), static_cast<int64_t>(values.nb[1])}, hidden, n_cells,
                                query.ne[0], AttentionParameters(node).scale);
}

int plan_attention(Plan& plan, ggml_tensor* const* nodes, int) {
  const ggml_tensor& node = *nodes[0];
  auto* weights = reinterpret_cast<float*>(plan.scratch.data());
  plan.add({n_tasks(node), [&node, weights](int64_t task) { attend(node, weights, task); }});
  return 1;
}

}  // namespace

const Operation FLASH_ATTENTION = {GGML_OP_FLASH_ATTN_EXT, supports, scratch_bytes, plan_attention};

}  // namespace palo::backend
