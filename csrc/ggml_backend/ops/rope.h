// Rotary position embedding.
#pragma once

#include "ggml_backend/ops/operations.h"

namespace palo::backend {

extern const Operation ROPE;

}  // namespace palo::backend
