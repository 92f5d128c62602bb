// Which weights the backend takes, by setting or by the start-up check.
#pragma once

#include <ggml.h>

#include <cstddef>

namespace palo::backend {

// AUTO: weights of the types where our kernels beat ggml's in a start-up check. PALO: of all types that we have kernels
// for. CPU: none. Applies to weights that are loaded from then on; loaded models keep theirs.
enum class Mode { AUTO, PALO, CPU };

// Whether weights of this type are to be packed in the current mode. In mode AUTO the first call for a type times it,
// which takes a few milliseconds.
bool accepts_weights(ggml_type type);

}  // namespace palo::backend

// For programs, by these names through ggml_backend_reg_get_proc_address:
extern "C" {
// mode "auto", "palo" or "cpu"; returns false for any other and changes nothing. Initially PALO_CPP_BACKEND, else
// "auto".
bool palo_set_mode(const char* mode);
// Bytes of packed weights that are in memory now.
size_t palo_packed_bytes();
// JSON: {"mode", "isa", "openmp", "types": {name: {"active", "reason"}}}; times types that have not been timed yet. The
// text is valid until the next call of the same thread.
const char* palo_status();
}
