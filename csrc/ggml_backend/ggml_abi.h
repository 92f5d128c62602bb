// ggml's interface between its registry and a backend, declared here, because ggml installs the headers that a program
// needs, not those that a backend needs. Facts from ggml/src/ggml-backend-impl.h of llama.cpp as in llama-cpp-python
// 0.3.36, API version 2: the order of the slots. Slots that this backend leaves empty are declared without their types.
//
// Nothing here may be trusted before abi_check.h has confirmed that the loaded ggml has this layout.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <cstddef>
#include <cstdint>

namespace palo::backend {
constexpr int GGML_API_VERSION = 2;
using EmptySlot = void (*)();
}  // namespace palo::backend

// The tags are those that ggml-backend.h leaves incomplete.

// A kind of memory. `device` is its owner; nullptr for the CPU's own plain type.
struct ggml_backend_buffer_type {
  const char* (*get_name)(ggml_backend_buffer_type_t);
  ggml_backend_buffer_t (*alloc_buffer)(ggml_backend_buffer_type_t, size_t size);
  size_t (*get_alignment)(ggml_backend_buffer_type_t);
  size_t (*get_max_size)(ggml_backend_buffer_type_t);
  size_t (*get_alloc_size)(ggml_backend_buffer_type_t, const ggml_tensor*);  // nullptr: ggml_nbytes
  bool (*is_host)(ggml_backend_buffer_type_t);                               // nullptr: no
  ggml_backend_dev_t device;
  void* context;
};

// The operations on one allocation. set_tensor and the like may be called for any range of a tensor's bytes.
struct ggml_backend_buffer_i {
  void (*free_buffer)(ggml_backend_buffer_t);
  void* (*get_base)(ggml_backend_buffer_t);
  ggml_status (*init_tensor)(ggml_backend_buffer_t, ggml_tensor*);
  void (*memset_tensor)(ggml_backend_buffer_t, ggml_tensor*, uint8_t value, size_t offset, size_t size);
  void (*set_tensor)(ggml_backend_buffer_t, ggml_tensor*, const void* data, size_t offset, size_t size);
  void (*get_tensor)(ggml_backend_buffer_t, const ggml_tensor*, void* data, size_t offset, size_t size);
  palo::backend::EmptySlot set_tensor_2d;
  palo::backend::EmptySlot get_tensor_2d;
  bool (*cpy_tensor)(ggml_backend_buffer_t, const ggml_tensor* source, ggml_tensor* target);
  void (*clear)(ggml_backend_buffer_t, uint8_t value);
  palo::backend::EmptySlot reset;
};

struct ggml_backend_buffer {
  ggml_backend_buffer_i iface;
  ggml_backend_buffer_type_t buft;
  void* context;
  size_t size;
  ggml_backend_buffer_usage usage;
};

// One stream of work, made by a device; only graph_compute is mandatory.
struct ggml_backend_i {
  const char* (*get_name)(ggml_backend_t);
  void (*free)(ggml_backend_t);
  palo::backend::EmptySlot set_tensor_async, get_tensor_async, set_tensor_2d_async, get_tensor_2d_async;
  palo::backend::EmptySlot cpy_tensor_async, synchronize;
  palo::backend::EmptySlot graph_plan_create, graph_plan_free, graph_plan_update, graph_plan_compute;
  ggml_status (*graph_compute)(ggml_backend_t, ggml_cgraph*);
  palo::backend::EmptySlot event_record, event_wait, graph_optimize;
};

struct ggml_backend {
  ggml_guid_t guid;
  ggml_backend_i iface;
  ggml_backend_dev_t device;
  void* context;
};

struct ggml_backend_device_i {
  const char* (*get_name)(ggml_backend_dev_t);
  const char* (*get_description)(ggml_backend_dev_t);
  void (*get_memory)(ggml_backend_dev_t, size_t* free, size_t* total);
  enum ggml_backend_dev_type (*get_type)(ggml_backend_dev_t);
  void (*get_props)(ggml_backend_dev_t, ggml_backend_dev_props*);
  ggml_backend_t (*init_backend)(ggml_backend_dev_t, const char* parameters);
  ggml_backend_buffer_type_t (*get_buffer_type)(ggml_backend_dev_t);
  palo::backend::EmptySlot get_host_buffer_type, buffer_from_host_ptr;
  bool (*supports_op)(ggml_backend_dev_t, const ggml_tensor*);
  bool (*supports_buft)(ggml_backend_dev_t, ggml_backend_buffer_type_t);
  palo::backend::EmptySlot offload_op, event_new, event_free, event_synchronize;
};

struct ggml_backend_device {
  ggml_backend_device_i iface;
  ggml_backend_reg_t reg;
  void* context;
};

// A library's entry in the registry.
struct ggml_backend_reg {
  int api_version;
  const char* (*get_name)(ggml_backend_reg_t);
  size_t (*get_device_count)(ggml_backend_reg_t);
  ggml_backend_dev_t (*get_device)(ggml_backend_reg_t, size_t index);
  void* (*get_proc_address)(ggml_backend_reg_t, const char* name);
  void* context;
};

// Exported by libggml-base, declared in none of its installed headers. Buffers must come from here, because ggml
// deletes them itself.
extern "C" ggml_backend_buffer_t ggml_backend_buffer_init(ggml_backend_buffer_type_t, ggml_backend_buffer_i,
                                                          void* context, size_t size);
