// What llama.cpp calls a backend: one stream of graphs to compute, with its number of threads.
#pragma once

#include <ggml-backend.h>

namespace palo::backend {

// A new stream with a device of its own, a copy of `device`; ggml frees it through its own function. nullptr where
// memory is short.
ggml_backend_t make_stream(const ggml_backend_device& device);

// Whether the device is that of a stream which has computed products already. From then on it takes the steps between
// them too. Not before: a stream whose model has no packed weights has no use for them, and while llama.cpp sets up a
// context it gives up flash attention where that would not run on the CPU device.
bool has_computed(ggml_backend_dev_t device);

// For streams of make_stream; what llama.cpp finds as "ggml_backend_set_n_threads".
void set_n_threads(ggml_backend_t stream, int n_threads);

}  // namespace palo::backend
