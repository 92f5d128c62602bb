// Is the loaded ggml the one whose layout ggml_abi.h declares?
#pragma once

#include <string>

namespace palo::backend {

// What differs, as a message; empty if everything matches. Compares what our declarations read from ggml's own CPU
// device with what ggml's public functions return for it, and what those functions read from a device of ours.
std::string abi_difference();

}  // namespace palo::backend
