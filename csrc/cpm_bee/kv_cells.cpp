#include "cpm_bee/kv_cells.h"

#include <cstdint>
#include <cstdlib>
#include <new>

namespace palo {

KvCells::KvCells(const CpmBeeConfig& config, int64_t n_cells, bool is_f32)
    : memory_(nullptr, std::free),
      context_(ggml_init({static_cast<size_t>(2 * config.n_layer) * ggml_tensor_overhead(), nullptr, true})) {
  if (context_ == nullptr) throw std::bad_alloc();
  const ggml_type type = is_f32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
  for (int64_t i = 0; i < config.n_layer; ++i) {
    ggml_tensor* keys = ggml_new_tensor_2d(context_.get(), type, config.n_embd, n_cells);
    layers_.push_back({keys, ggml_new_tensor_2d(context_.get(), type, config.n_embd, n_cells)});
  }
  constexpr size_t ALIGNMENT = 64;  // of the kernels that read them; ggml asks for half of it
  const size_t n_tensor_bytes = (ggml_nbytes(layers_[0].keys) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  const size_t n_bytes = 2 * layers_.size() * n_tensor_bytes;
  memory_.reset(std::calloc(n_bytes + ALIGNMENT, 1));  // zeros: a masked cell's number times weight 0 must not be NaN
  if (memory_ == nullptr) throw std::bad_alloc();
  const auto start = (reinterpret_cast<uintptr_t>(memory_.get()) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  buffer_.reset(ggml_backend_cpu_buffer_from_ptr(reinterpret_cast<void*>(start), n_bytes));
  if (buffer_ == nullptr) throw std::bad_alloc();
  auto* place = reinterpret_cast<std::byte*>(start);
  for (const Layer& layer : layers_) {
    for (ggml_tensor* tensor : {layer.keys, layer.values}) {
      if (ggml_backend_tensor_alloc(buffer_.get(), tensor, place) != GGML_STATUS_SUCCESS) throw std::bad_alloc();
      place += n_tensor_bytes;
    }
  }
}

}  // namespace palo
