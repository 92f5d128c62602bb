#include "ggml_backend/abi_check.h"

#include <cstring>
#include <memory>

#include "ggml_backend/buffer.h"
#include "ggml_backend/device.h"
#include "ggml_backend/ggml_abi.h"

namespace palo::backend {
namespace {

constexpr const char* FIX = "; use the version of llama.cpp that palo_cpp was built with";

std::string differing(const std::string& what) {
  return what + ": expected the layout of ggml's backend interface 2, got another one" + FIX;
}

// Each field is compared before anything after it in memory is trusted, and no function pointer is called before a
// neighbour with a known value has been compared.

std::string check_registry(ggml_backend_reg_t reg) {
  if (reg->api_version != GGML_API_VERSION) {
    return "ggml's backend interface: expected version " + std::to_string(GGML_API_VERSION) + ", got " +
           std::to_string(reg->api_version) + FIX;
  }
  if (reg->get_name == nullptr || reg->get_device_count == nullptr || reg->get_device == nullptr ||
      reg->get_name(reg) != ggml_backend_reg_name(reg) ||
      reg->get_device_count(reg) != ggml_backend_reg_dev_count(reg)) {
    return differing("registry entry");
  }
  return "";
}

std::string check_device(ggml_backend_dev_t device) {
  // The device's function table ends where `reg` begins: with one slot more or less this pointer would differ.
  if (device->reg != ggml_backend_dev_backend_reg(device) ||
      device->iface.get_name(device) != ggml_backend_dev_name(device) ||
      device->iface.get_type(device) != ggml_backend_dev_type(device) ||
      device->iface.get_buffer_type(device) != ggml_backend_dev_buffer_type(device)) {
    return differing("device");
  }
  ggml_backend_dev_props props = {};
  ggml_backend_dev_get_props(device, &props);
  if (props.type != GGML_BACKEND_DEVICE_TYPE_CPU || !props.caps.buffer_from_host_ptr || props.caps.events ||
      std::strcmp(props.name, ggml_backend_dev_name(device)) != 0) {
    return differing("device properties");
  }
  return "";
}

std::string check_buffer(ggml_backend_buffer_type_t type) {
  if (type->get_name(type) != ggml_backend_buft_name(type) || !type->is_host(type) ||
      type->get_alignment(type) != ggml_backend_buft_get_alignment(type) ||
      type->device != ggml_backend_buft_get_device(type)) {
    return differing("buffer type");
  }
  constexpr size_t SIZE = 4096;
  const std::unique_ptr<ggml_backend_buffer, decltype(&ggml_backend_buffer_free)> buffer(
      ggml_backend_buft_alloc_buffer(type, SIZE), ggml_backend_buffer_free);
  if (buffer == nullptr) return "buffer: could not allocate 4096 bytes: ggml returned none; free some memory";
  ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  if (buffer->buft != type || buffer->size != ggml_backend_buffer_get_size(buffer.get()) ||
      buffer->usage != GGML_BACKEND_BUFFER_USAGE_WEIGHTS || buffer->iface.reset != nullptr ||
      buffer->iface.set_tensor_2d != nullptr || buffer->iface.set_tensor == nullptr ||
      buffer->iface.get_base(buffer.get()) != ggml_backend_buffer_get_base(buffer.get())) {
    return differing("buffer");
  }
  return "";
}

std::string check_stream(ggml_backend_dev_t device) {
  const std::unique_ptr<ggml_backend, decltype(&ggml_backend_free)> stream(ggml_backend_dev_init(device, nullptr),
                                                                           ggml_backend_free);
  if (stream == nullptr) return "CPU backend: could not create it: ggml returned none; reinstall llama.cpp";
  if (stream->device != device || stream->guid != ggml_backend_guid(stream.get()) ||
      stream->iface.event_record != nullptr || stream->iface.graph_compute == nullptr ||
      stream->iface.get_name(stream.get()) != ggml_backend_name(stream.get())) {
    return differing("backend");
  }
  return "";
}

// The other direction: ggml reads our structures. Even if it mistook one slot for another, it would call a function of
// ours.
std::string check_ours() {
  const ggml_backend_reg_t reg = registry_entry();
  const ggml_backend_dev_t device = weight_device();
  const ggml_backend_buffer_type_t type = weight_buffer_type();
  if (ggml_backend_dev_backend_reg(device) != reg || ggml_backend_buft_get_device(type) != device ||
      ggml_backend_reg_dev_get(reg, 0) != device || ggml_backend_dev_buffer_type(device) != type ||
      ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_ACCEL || ggml_backend_buft_is_host(type)) {
    return differing("our device");
  }
  return "";
}

// Tensors are public, but their header is the one of the build.
std::string check_tensors() {
  if (ggml_tensor_overhead() < sizeof(ggml_tensor) || ggml_tensor_overhead() > sizeof(ggml_tensor) + 64 ||
      std::strcmp(ggml_op_name(GGML_OP_MUL_MAT), "MUL_MAT") != 0 ||
      std::strcmp(ggml_type_name(GGML_TYPE_Q6_K), "q6_K") != 0) {
    return differing("tensors");
  }
  return "";
}

}  // namespace

std::string abi_difference() {
  const ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (device == nullptr) return "ggml: expected a registered CPU backend, got none; reinstall llama.cpp";
  std::string found = check_tensors();
  if (found.empty()) found = check_registry(ggml_backend_dev_backend_reg(device));
  if (found.empty()) found = check_device(device);
  if (found.empty()) found = check_buffer(ggml_backend_dev_buffer_type(device));
  if (found.empty()) found = check_stream(device);
  if (found.empty()) found = check_ours();
  return found;
}

}  // namespace palo::backend
