// The buffer type of packed weights.
#pragma once

#include <ggml-backend.h>

namespace palo::backend {

// Memory that is not the host's to read: llama.cpp hands tensors to it whole, and they are packed on the way. Its
// device is the one that is registered.
ggml_backend_buffer_type_t weight_buffer_type();

}  // namespace palo::backend
