// What llama.cpp calls a backend: one stream of graphs to compute, with its number of threads.
#pragma once

#include <ggml-backend.h>

namespace palo::backend {

// A new stream with a device of its own, a copy of `device`; ggml frees it through its own function. nullptr if there
// is no memory for it.
ggml_backend_t make_stream(const ggml_backend_device& device);

// Whether the device belongs to a stream that has already computed products. From then on it takes the steps between
// them too. Not before: a stream whose model has no packed weights would gain nothing, and while llama.cpp sets up a
// context it turns flash attention off if that would not run on the CPU device.
bool has_computed(ggml_backend_dev_t device);

// For streams of make_stream; what llama.cpp finds as "ggml_backend_set_n_threads".
void set_n_threads(ggml_backend_t stream, int n_threads);

}  // namespace palo::backend
