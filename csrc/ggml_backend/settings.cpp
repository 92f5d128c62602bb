#include "ggml_backend/settings.h"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>

#include "ggml_backend/log.h"
#include "ggml_backend/packed_matrix.h"
#include "ggml_backend/start_check.h"
#include "ggml_backend/weight_memory.h"

namespace palo::backend {
namespace {

std::optional<Mode> mode_of(const std::string& name) {
  if (name == "auto") return Mode::AUTO;
  if (name == "palo") return Mode::PALO;
  if (name == "cpu") return Mode::CPU;
  return std::nullopt;
}

const char* name_of(Mode mode) {
  return mode == Mode::AUTO ? "auto" : mode == Mode::PALO ? "palo" : "cpu";
}

Mode first_mode() {
  const char* name = std::getenv("PALO_CPP_BACKEND");
  if (name == nullptr || *name == '\0') return Mode::AUTO;
  if (const std::optional<Mode> mode = mode_of(name)) return *mode;
  log(GGML_LOG_LEVEL_WARN,
      std::string("PALO_CPP_BACKEND: expected auto, palo or cpu, got \"") + name + "\"; using auto");
  return Mode::AUTO;
}

std::atomic<Mode>& mode() {
  static std::atomic<Mode> value = first_mode();
  return value;
}

// Times a type once per process.
const Verdict& verdict_on(ggml_type type) {
  static std::mutex mutex;
  static std::optional<Verdict> verdicts[GGML_TYPE_COUNT];
  const std::lock_guard lock(mutex);
  std::optional<Verdict>& verdict = verdicts[type];
  if (!verdict) {
    verdict = check_type(type);
    log(GGML_LOG_LEVEL_INFO, std::string(ggml_type_name(type)) + ": " + verdict->reason);
  }
  return *verdict;
}

Verdict decision(ggml_type type) {
  switch (mode().load()) {
    case Mode::CPU:
      return {false, "switched off"};
    case Mode::PALO:
      return {true, "asked for"};
    default:
      return verdict_on(type);
  }
}

std::string quoted(const std::string& text) {
  return '"' + text + '"';  // our own words: nothing to escape
}

constexpr ggml_type TYPES[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K,
                               GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_F16};

std::string status() {
  std::string types;
  for (const ggml_type type : TYPES) {
    const Verdict verdict = decision(type);
    types += (types.empty() ? "" : ", ") + quoted(ggml_type_name(type)) +
             ": {\"active\": " + (verdict.is_taken ? "true" : "false") + ", \"reason\": " + quoted(verdict.reason) +
             "}";
  }
#ifdef PALO_USE_OPENMP
  const char* openmp = "true";
#else
  const char* openmp = "false";
#endif
  return "{\"mode\": " + quoted(name_of(mode())) + ", \"isa\": " + quoted(kernels_in_use().isa) +
         ", \"openmp\": " + openmp + ", \"types\": {" + types + "}}";
}

}  // namespace

bool accepts_weights(ggml_type type) {
  return block_type(type) && decision(type).is_taken;
}

}  // namespace palo::backend

bool palo_set_mode(const char* name) {
  const auto wanted = palo::backend::mode_of(name);
  if (wanted) palo::backend::mode() = *wanted;
  return wanted.has_value();
}

size_t palo_packed_bytes() {
  return palo::backend::WeightMemory::total_bytes();
}

const char* palo_status() {
  thread_local std::string text;
  text = palo::backend::status();
  return text.c_str();
}
