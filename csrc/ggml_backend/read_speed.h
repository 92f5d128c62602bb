// The speed at which memory can be read: the limit for decode, which reads every weight once per token.
#pragma once

#include <cstddef>

// Bytes per second at which n_threads threads read n_bytes and do nothing else, from at most 1 GiB of memory that is
// allocated like weights; 0 if that much memory is not available. Found by this name through
// ggml_backend_reg_get_proc_address.
extern "C" double palo_read_speed(size_t n_bytes, int n_threads);
