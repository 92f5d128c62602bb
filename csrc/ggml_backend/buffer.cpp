#include "ggml_backend/buffer.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "ggml_backend/device.h"
#include "ggml_backend/file_pages.h"
#include "ggml_backend/ggml_abi.h"
#include "ggml_backend/log.h"
#include "ggml_backend/packed_matrix.h"
#include "ggml_backend/parallel.h"
#include "ggml_backend/weight_memory.h"

namespace palo::backend {
namespace {

constexpr size_t ALIGNMENT = 64;  // of panels, see block_kernels.h

const WeightMemory& memory_of(ggml_backend_buffer_t buffer) {
  return *static_cast<WeightMemory*>(buffer->context);
}

// A tensor that owns its bytes, and the offset in it where a view of it starts: a view has no panels of its own.
struct Place {
  const ggml_tensor* tensor;
  size_t offset;
  std::optional<PackedMatrix> matrix;

  uint8_t* data() const { return static_cast<uint8_t*>(tensor->data); }
};

Place place_of(const ggml_tensor* tensor, size_t offset) {
  const bool is_view = tensor->view_src != nullptr;  // ggml never nests views
  const ggml_tensor* owner = is_view ? tensor->view_src : tensor;
  return {owner, offset + (is_view ? tensor->view_offs : 0), packed_matrix(*owner)};
}

void free_buffer(ggml_backend_buffer_t buffer) {
  delete static_cast<WeightMemory*>(buffer->context);
}

void* get_base(ggml_backend_buffer_t buffer) {
  return memory_of(buffer).data();
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
  const Place place = place_of(tensor, offset);
  if (place.matrix) {
    write_range(place.data(), *place.matrix, static_cast<const uint8_t*>(data), static_cast<int64_t>(place.offset),
                static_cast<int64_t>(size), default_n_threads());
  } else {
    std::memcpy(place.data() + place.offset, data, size);
  }
  release_file_pages(data, size);
}

void get_tensor(ggml_backend_buffer_t, const ggml_tensor* tensor, void* data, size_t offset, size_t size) {
  const Place place = place_of(tensor, offset);
  if (place.matrix) {
    read_range(static_cast<uint8_t*>(data), *place.matrix, place.data(), static_cast<int64_t>(place.offset),
               static_cast<int64_t>(size), default_n_threads());
  } else {
    std::memcpy(data, place.data() + place.offset, size);
  }
}

void memset_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor, uint8_t value, size_t offset, size_t size) {
  uint8_t bytes[4096];
  std::memset(bytes, value, sizeof(bytes));
  for (size_t done = 0; done < size; done += sizeof(bytes)) {
    set_tensor(buffer, tensor, bytes, offset + done, std::min(sizeof(bytes), size - done));
  }
}

void clear(ggml_backend_buffer_t buffer, uint8_t value) {
  std::memset(memory_of(buffer).data(), value, buffer->size);
}

const char* get_name(ggml_backend_buffer_type_t) {
  return "PALO";
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
  static constexpr ggml_backend_buffer_i BUFFER = {
      .free_buffer = free_buffer,
      .get_base = get_base,
      .init_tensor = nullptr,
      .memset_tensor = memset_tensor,
      .set_tensor = set_tensor,
      .get_tensor = get_tensor,
      .set_tensor_2d = nullptr,
      .get_tensor_2d = nullptr,
      .cpy_tensor = nullptr,
      .clear = clear,
      .reset = nullptr,
  };
  auto* memory = new (std::nothrow) WeightMemory(size);
  if (memory == nullptr || memory->data() == nullptr) {
    delete memory;
    log(GGML_LOG_LEVEL_ERROR, "weights: could not allocate " + std::to_string(size >> 20) +
                                  " MiB: the system refused; use a smaller quantization");
    return nullptr;  // llama.cpp reports that the model could not be loaded
  }
  return ggml_backend_buffer_init(type, BUFFER, memory, size);
}

size_t get_alignment(ggml_backend_buffer_type_t) {
  return ALIGNMENT;
}

size_t get_alloc_size(ggml_backend_buffer_type_t, const ggml_tensor* tensor) {
  const std::optional<PackedMatrix> matrix = packed_matrix(*tensor);
  return std::max(ggml_nbytes(tensor), matrix ? static_cast<size_t>(matrix->n_bytes()) : 0);
}

bool is_host(ggml_backend_buffer_type_t) {
  return false;
}

}  // namespace

ggml_backend_buffer_type_t weight_buffer_type() {
  static ggml_backend_buffer_type type = {
      .get_name = get_name,
      .alloc_buffer = alloc_buffer,
      .get_alignment = get_alignment,
      .get_max_size = nullptr,
      .get_alloc_size = get_alloc_size,
      .is_host = is_host,
      .device = weight_device(),
      .context = nullptr,
  };
  return &type;
}

}  // namespace palo::backend
