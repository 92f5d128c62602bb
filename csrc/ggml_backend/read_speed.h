// What memory gives at best: the measure of decoding, which reads every weight once per token.
#pragma once

#include <cstddef>

// Bytes per second at which n_threads threads read n_bytes, from at most 1 GiB of memory allotted as weights are, and
// do nothing else; 0 where there is not so much memory. By this name through ggml_backend_reg_get_proc_address.
extern "C" double palo_read_speed(size_t n_bytes, int n_threads);
