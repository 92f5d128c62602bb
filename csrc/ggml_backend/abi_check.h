// Is the loaded ggml the one whose layout ggml_abi.h declares?
#pragma once

#include <string>

namespace palo::backend {

// What differs, in words; empty where everything fits. Compares what our declarations read out of ggml's own CPU device
// with what ggml's public functions say of it, and what those functions read out of a device of ours.
std::string abi_difference();

}  // namespace palo::backend
