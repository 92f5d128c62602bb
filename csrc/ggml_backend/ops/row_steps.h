// Operations on one row at a time (f32, dense).
#pragma once

#include "ggml_backend/ops/operations.h"

namespace palo::backend {

extern const Operation RMS_NORM;  // x / sqrt(mean(x^2) + eps)
extern const Operation MULTIPLY;  // a * b, b of a's shape or one row
extern const Operation ADD;       // a + b, likewise
extern const Operation SCALE;     // x times a number
extern const Operation GATED;     // silu(gate) * up or gelu_erf(gate) * up, in two tensors

}  // namespace palo::backend
