// ggml's MUL_MAT with packed weights in our buffers.
#pragma once

#include <ggml.h>

#include "ggml_backend/ops/operations.h"

namespace palo::backend {

// dst [n_rows, n_out] = x [n_rows, n_in] w [n_out, n_in]^T (ne = {n_out, n_rows, ...}, x f32, rows of any stride;
// w is broadcast over x's third and fourth dimension).
extern const Operation MUL_MAT;

}  // namespace palo::backend
