#include "ggml_backend/device.h"

#include <cstring>

#include "ggml_backend/buffer.h"
#include "ggml_backend/ggml_abi.h"
#include "ggml_backend/ops/operations.h"
#include "ggml_backend/read_speed.h"
#include "ggml_backend/settings.h"
#include "ggml_backend/stream.h"

namespace palo::backend {
namespace {

const char* get_name(ggml_backend_dev_t) {
  return "PALO";
}

const char* get_description(ggml_backend_dev_t) {
  return "palo_cpp's packed matrix kernels for the CPU";
}

void get_memory(ggml_backend_dev_t, size_t* free, size_t* total) {
  *free = *total = 0;  // the memory is the host's
}

enum ggml_backend_dev_type get_type(ggml_backend_dev_t) {
  return GGML_BACKEND_DEVICE_TYPE_ACCEL;
}

void get_props(ggml_backend_dev_t device, ggml_backend_dev_props* props) {
  *props = {};
  props->name = get_name(device);
  props->description = get_description(device);
  props->type = get_type(device);
  // Weights must pass through set_tensor, so no buffer may be made from a mapped file. Mapping the file to read from it
  // is fine.
  props->caps = {
      .async = false, .host_buffer = false, .buffer_from_host_ptr = false, .events = false, .mmap_support = true};
}

ggml_backend_t init_backend(ggml_backend_dev_t, const char*) {
  return make_stream(*compute_device());
}

ggml_backend_buffer_type_t weight_device_buffer_type(ggml_backend_dev_t) {
  return weight_buffer_type();
}

ggml_backend_buffer_type_t compute_device_buffer_type(ggml_backend_dev_t) {
  return ggml_backend_cpu_buffer_type();
}

// To place a weight, llama.cpp asks about an operation on it while its buffer is empty; the weights of a graph have
// bytes.
bool is_question_about_weight(const ggml_tensor& op) {
  const ggml_tensor* w = op.src[0];
  return w != nullptr && w->buffer != nullptr && ggml_backend_buffer_get_size(w->buffer) == 0;
}

bool supports_op(ggml_backend_dev_t device, const ggml_tensor* op) {
  if (is_view(op->op)) return true;
  if (operation_for(*op) == nullptr) return false;
  if (op->op != GGML_OP_MUL_MAT) return has_computed(device);
  return !is_question_about_weight(*op) || accepts_weights(op->src[0]->type);
}

bool supports_buft(ggml_backend_dev_t, ggml_backend_buffer_type_t type) {
  return type == weight_buffer_type() || ggml_backend_buft_is_host(type);
}

ggml_backend_device make_device(ggml_backend_buffer_type_t (*get_buffer_type)(ggml_backend_dev_t)) {
  return {{
              .get_name = get_name,
              .get_description = get_description,
              .get_memory = get_memory,
              .get_type = get_type,
              .get_props = get_props,
              .init_backend = init_backend,
              .get_buffer_type = get_buffer_type,
              .get_host_buffer_type = nullptr,
              .buffer_from_host_ptr = nullptr,
              .supports_op = supports_op,
              .supports_buft = supports_buft,
              .offload_op = nullptr,
              .event_new = nullptr,
              .event_free = nullptr,
              .event_synchronize = nullptr,
          },
          registry_entry(),
          nullptr};
}

size_t get_device_count(ggml_backend_reg_t) {
  return 1;
}

ggml_backend_dev_t get_device(ggml_backend_reg_t, size_t) {
  return weight_device();
}

const char* get_registry_name(ggml_backend_reg_t) {
  return "PALO";
}

void* get_proc_address(ggml_backend_reg_t, const char* name) {
  if (std::strcmp(name, "ggml_backend_set_n_threads") == 0) return reinterpret_cast<void*>(set_n_threads);
  if (std::strcmp(name, "palo_set_mode") == 0) return reinterpret_cast<void*>(palo_set_mode);
  if (std::strcmp(name, "palo_read_speed") == 0) return reinterpret_cast<void*>(palo_read_speed);
  if (std::strcmp(name, "palo_packed_bytes") == 0) return reinterpret_cast<void*>(palo_packed_bytes);
  if (std::strcmp(name, "palo_status") == 0) return reinterpret_cast<void*>(palo_status);
  return nullptr;
}

}  // namespace

ggml_backend_dev_t weight_device() {
  static ggml_backend_device device = make_device(weight_device_buffer_type);
  return &device;
}

ggml_backend_dev_t compute_device() {
  static ggml_backend_device device = make_device(compute_device_buffer_type);
  return &device;
}

ggml_backend_reg_t registry_entry() {
  static ggml_backend_reg entry = {
      .api_version = GGML_API_VERSION,
      .get_name = get_registry_name,
      .get_device_count = get_device_count,
      .get_device = get_device,
      .get_proc_address = get_proc_address,
      .context = nullptr,
  };
  return &entry;
}

}  // namespace palo::backend
