// Attention of many queries at once, as in prefill: keys and values are unpacked to f32 panels, then multiplied as
// matrices.
#pragma once

#include "ggml_backend/ops/attention_tensors.h"
#include "ggml_backend/ops/operations.h"

namespace palo::backend {

// Bytes of Plan::scratch that plan_prompt_attention needs.
int64_t prompt_attention_bytes(const AttentionTensors& x, int n_threads);

void plan_prompt_attention(Plan& plan, const AttentionTensors& x);

}  // namespace palo::backend
