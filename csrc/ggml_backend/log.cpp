#include "ggml_backend/log.h"

namespace palo::backend {

void log(ggml_log_level level, const std::string& line) {
  ggml_log_callback callback = nullptr;
  void* user_data = nullptr;
  ggml_log_get(&callback, &user_data);
  if (callback != nullptr) callback(level, ("palo: " + line + "\n").c_str(), user_data);
}

}  // namespace palo::backend
