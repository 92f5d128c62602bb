// The tensors and parameters of a node that ggml_flash_attn_ext made.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <cstring>

namespace palo::backend {

// query [n_streams, n_head, n_queries, head_size] f32; keys, values [n_streams, n_head_kv, n_cells, head_size] f16;
// mask [n_streams or 1, n_head or 1, n_queries, n_cells] f16 or nullptr; out [n_streams, n_queries, n_head, head_size]
// f32, dense.
struct AttentionTensors {
  const ggml_tensor &query, &keys, &values;
  const ggml_tensor* mask;
  const ggml_tensor& out;

  explicit AttentionTensors(const ggml_tensor& node)
      : query(*node.src[0]), keys(*node.src[1]), values(*node.src[2]), mask(node.src[3]), out(node) {}

  int64_t head_size() const { return query.ne[0]; }
  int64_t n_queries() const { return query.ne[1]; }
  int64_t n_head() const { return query.ne[2]; }
  int64_t n_streams() const { return query.ne[3]; }
  int64_t n_cells() const { return keys.ne[1]; }
  int64_t n_head_kv() const { return keys.ne[2]; }

  // op_params: floats 0 to 2.
  float scale() const { return parameter(0); }
  float max_bias() const { return parameter(1); }
  float softcap() const { return parameter(2); }

  const float* query_row(int64_t query_index, int64_t head, int64_t stream) const {
    return reinterpret_cast<const float*>(at(query, query_index, head, stream));
  }
  float* out_row(int64_t query_index, int64_t head, int64_t stream) const {
    return static_cast<float*>(out.data) + ((stream * n_queries() + query_index) * n_head() + head) * head_size();
  }
  // nullptr if nothing is hidden.
  const uint8_t* mask_row(int64_t query_index, int64_t head, int64_t stream) const {
    return mask == nullptr ? nullptr : at(*mask, query_index, head % mask->ne[2], stream % mask->ne[3]);
  }
  int64_t head_kv_of(int64_t head) const { return head / (n_head() / n_head_kv()); }

  static const uint8_t* at(const ggml_tensor& tensor, int64_t i1, int64_t i2, int64_t i3) {
    return static_cast<const uint8_t*>(tensor.data) + i1 * tensor.nb[1] + i2 * tensor.nb[2] + i3 * tensor.nb[3];
  }

 private:
  float parameter(int i) const {
    float value;
    std::memcpy(&value, out.op_params + i, sizeof(value));
    return value;
  }
};

}  // namespace palo::backend
