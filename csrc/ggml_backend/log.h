// Messages of the backend, which go where ggml's own messages go.
#pragma once

#include <ggml.h>

#include <string>

namespace palo::backend {

// One line through the callback that the program gave to ggml.
void log(ggml_log_level level, const std::string& line);

}  // namespace palo::backend
