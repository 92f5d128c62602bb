// What llama.cpp calls a backend: one stream of graphs to compute, with its number of threads.
#pragma once

#include <ggml-backend.h>

namespace palo::backend {

// A new stream of `device`; ggml frees it through its own function. nullptr where memory is short.
ggml_backend_t make_stream(ggml_backend_dev_t device);

// For streams of make_stream; what llama.cpp finds as "ggml_backend_set_n_threads".
void set_n_threads(ggml_backend_t stream, int n_threads);

}  // namespace palo::backend
