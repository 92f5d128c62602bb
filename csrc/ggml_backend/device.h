// The two devices of the backend and its entry in ggml's registry.
#pragma once

#include <ggml-backend.h>

namespace palo::backend {

// The registered device, of type ACCEL. Its buffer type is that of packed weights, so llama.cpp offers it every weight
// first.
ggml_backend_dev_t weight_device();

// The device of the streams. Its buffer type is the host's, so the CPU backend can read results directly and no split
// of a graph copies anything. Same operations as weight_device.
ggml_backend_dev_t compute_device();

// The entry in the registry: one device, and by name the functions of settings.h and read_speed.h.
ggml_backend_reg_t registry_entry();

}  // namespace palo::backend
