// The buffer type of packed weights.
#pragma once

#include <ggml-backend.h>

namespace palo::backend {

// Memory that the host must not read directly: llama.cpp writes whole tensors to it, and they are packed on the way.
// Its device is the registered one.
ggml_backend_buffer_type_t weight_buffer_type();

}  // namespace palo::backend
