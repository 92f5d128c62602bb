// Computes graphs: matrices in a device's memory there, what the device does not take on ggml's CPU backend.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpp.h>

#include <cstdint>

namespace palo {

class GraphRunner {
 public:
  // device may be nullptr. Throws std::bad_alloc.
  GraphRunner(ggml_backend_dev_t device, int n_threads, int64_t max_nodes);

  // Gives the graph's tensors memory, until the next graph. Throws std::bad_alloc.
  void allocate(ggml_cgraph* graph);

  // Computes the graph that was allocated last. Throws std::bad_alloc and std::runtime_error.
  void compute(ggml_cgraph* graph);

 private:
  ggml_backend_ptr new_backend(ggml_backend_dev_t device, int n_threads) const;
  void warm_up(ggml_backend_dev_t device);

  ggml_backend_ptr device_, cpu_;
  ggml_backend_sched_ptr scheduler_;
};

}  // namespace palo
