// Memory of keys and values.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpp.h>

#include <memory>
#include <vector>

#include "cpm_bee/config.h"

namespace palo {

// Keys and values of every layer, binary16 or f32. The system gives pages as cells are first written, lowest cells
// first, so a context that is never filled takes no memory for the rest.
class KvCells {
 public:
  // Throws std::bad_alloc.
  KvCells(const CpmBeeConfig& config, int64_t n_cells, bool is_f32);

  struct Layer {
    ggml_tensor *keys, *values;  // [n_cells, n_embd]
  };
  const Layer& layer(int64_t i) const { return layers_[static_cast<size_t>(i)]; }

 private:
  std::unique_ptr<void, void (*)(void*)> memory_;
  ggml_context_ptr context_;
  ggml_backend_buffer_ptr buffer_;
  std::vector<Layer> layers_;
};

}  // namespace palo
