// Rows of f32 written to a cache of f16, each to the cell that an index names.
#pragma once

#include "ggml_backend/ops/operations.h"

namespace palo::backend {

extern const Operation SET_ROWS;

}  // namespace palo::backend
