// Weights of CPM-Bee as ggml tensors. Names: convert/families/viscpm/tensor_rows.py.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpp.h>

#include <string>
#include <vector>

#include "cpm_bee/config.h"
#include "vision/tensor_reader.h"

namespace palo {

// One layer; shapes are row-major, [n_out, n_in].
struct CpmBeeLayer {
  ggml_tensor* attn_norm = nullptr;                                                             // [n_embd]
  ggml_tensor *attn_q = nullptr, *attn_k = nullptr, *attn_v = nullptr, *attn_output = nullptr;  // [n_embd, n_embd]
  ggml_tensor* ffn_norm = nullptr;                                                              // [n_embd]
  ggml_tensor *ffn_gate = nullptr, *ffn_up = nullptr;                                           // [n_ff, n_embd]
  ggml_tensor* ffn_down = nullptr;                                                              // [n_embd, n_ff]
};

// Matrices that `device` multiplies with are in its memory, everything else in the host's.
class CpmBeeWeights {
 public:
  // Copies the tensors; device may be nullptr. Throws FormatError where one is absent or contradicts `config`, and
  // std::bad_alloc.
  CpmBeeWeights(const CpmBeeConfig& config, const TensorMap& tensors, ggml_backend_dev_t device);

  std::vector<CpmBeeLayer> layers;
  ggml_tensor* token_embd = nullptr;    // [n_vocab, n_embd], of the lookup and of the logits
  ggml_tensor* output_norm = nullptr;   // [n_embd]
  std::vector<uint16_t> relation_bias;  // [n_bias_rows, n_head] binary16

 private:
  friend class WeightLoader;

  ggml_context_ptr device_context_, host_context_;
  ggml_backend_buffer_ptr device_memory_, host_memory_;
};

}  // namespace palo
