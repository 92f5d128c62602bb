// Rotary position embedding.
#pragma once

#include "ggml_backend/operations.h"

namespace palo::backend {

extern const Operation ROPE;

}  // namespace palo::backend
