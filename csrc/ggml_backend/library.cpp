// The two functions through which ggml loads a backend from a file, and one that Python calls before any backend is
// loaded.
#include <exception>
#include <string>

#include "ggml_backend/abi_check.h"
#include "ggml_backend/amx.h"
#include "ggml_backend/device.h"
#include "ggml_backend/log.h"
#include "ggml_backend/packed_matrix.h"

#ifdef _WIN32
#define PALO_EXPORT __declspec(dllexport)
#else
#define PALO_EXPORT __attribute__((visibility("default")))
#endif

namespace {

// Why the backend cannot be used; empty if it can.
std::string refusal() {
  try {
    palo::backend::kernels_in_use();  // throws if PALO_CPP_ISA names an instruction set that is not available
    return palo::backend::abi_difference();
  } catch (const std::exception& error) {
    return error.what();
  }
}

// Determined once per process: the answer cannot change, and the reason is logged once.
bool is_usable() {
  static const bool usable = [] {
    const std::string reason = refusal();
    if (!reason.empty()) palo::backend::log(GGML_LOG_LEVEL_WARN, "the backend is not used: " + reason);
    return reason.empty();
  }();
  return usable;
}

}  // namespace

extern "C" {

// The score only ranks variants of one file; any number except 0 means that the backend can be used.
PALO_EXPORT int ggml_backend_score() {
  return is_usable() ? 1 : 0;
}

PALO_EXPORT ggml_backend_reg_t ggml_backend_init() {
  if (!is_usable()) return nullptr;
  palo::backend::settle_amx();  // before the program lays out any weight
  return palo::backend::registry_entry();
}

// The result of settle_amx in this process, as its name in lower case.
PALO_EXPORT const char* palo_settle_amx() {
  switch (palo::backend::settle_amx()) {
    case palo::backend::Amx::WITHDRAWN:
      return "withdrawn";
    case palo::backend::Amx::BROKEN:
      return "broken";
    case palo::backend::Amx::WORKS:
      return "works";
    default:
      return "absent";
  }
}
}
