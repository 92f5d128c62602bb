// Attention over the KV cache.
#pragma once

#include "ggml_backend/ops/operations.h"

namespace palo::backend {

extern const Operation FLASH_ATTENTION;

}  // namespace palo::backend
