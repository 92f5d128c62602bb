#include "cpm_bee/graph_runner.h"

#include <new>
#include <stdexcept>
#include <vector>

namespace palo {

GraphRunner::GraphRunner(ggml_backend_dev_t device, int n_threads, int64_t max_nodes)
    : cpu_(new_backend(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), n_threads)) {
  std::vector<ggml_backend_t> backends;
  if (device != nullptr) {
    device_ = new_backend(device, n_threads);
    warm_up(device);
    backends.push_back(device_.get());
  }
  backends.push_back(cpu_.get());  // the scheduler wants it last
  scheduler_.reset(ggml_backend_sched_new(backends.data(), nullptr, static_cast<int>(backends.size()),
                                          static_cast<size_t>(max_nodes), false, false));
  if (scheduler_ == nullptr) throw std::bad_alloc();
}

ggml_backend_ptr GraphRunner::new_backend(ggml_backend_dev_t device, int n_threads) const {
  ggml_backend_ptr backend(device == nullptr ? nullptr : ggml_backend_dev_init(device, nullptr));
  if (backend == nullptr) throw std::bad_alloc();
  ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(device);
  const auto set_n_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
      ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
  if (set_n_threads != nullptr) set_n_threads(backend.get(), n_threads);
  return backend;
}

// Our backend takes the steps between products only once it has computed a product (csrc/ggml_backend/stream.h).
// Without this one the first prompt would be computed by other means than the next, with other bits.
void GraphRunner::warm_up(ggml_backend_dev_t device) {
  constexpr int64_t SIZE = 32;
  const ggml_context_ptr of_weight(ggml_init({ggml_tensor_overhead(), nullptr, true}));
  const ggml_context_ptr context(ggml_init({4 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
  if (of_weight == nullptr || context == nullptr) throw std::bad_alloc();
  ggml_tensor* w = ggml_new_tensor_2d(of_weight.get(), GGML_TYPE_F16, SIZE, SIZE);
  ggml_tensor* x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, SIZE, 1);
  ggml_cgraph* graph = ggml_new_graph(context.get());
  ggml_build_forward_expand(graph, ggml_mul_mat(context.get(), w, x));
  const ggml_backend_buffer_ptr weight_memory(
      ggml_backend_alloc_ctx_tensors_from_buft(of_weight.get(), ggml_backend_dev_buffer_type(device)));
  const ggml_backend_buffer_ptr memory(
      ggml_backend_alloc_ctx_tensors_from_buft(context.get(), ggml_backend_cpu_buffer_type()));
  if (weight_memory == nullptr || memory == nullptr) throw std::bad_alloc();
  ggml_backend_tensor_memset(w, 0, 0, ggml_nbytes(w));
  ggml_backend_tensor_memset(x, 0, 0, ggml_nbytes(x));
  if (ggml_backend_supports_op(device_.get(), ggml_graph_node(graph, 0))) {
    ggml_backend_graph_compute(device_.get(), graph);
  }
}

void GraphRunner::allocate(ggml_cgraph* graph) {
  ggml_backend_sched_reset(scheduler_.get());
  if (!ggml_backend_sched_alloc_graph(scheduler_.get(), graph)) throw std::bad_alloc();
}

void GraphRunner::compute(ggml_cgraph* graph) {
  const ggml_status status = ggml_backend_sched_graph_compute(scheduler_.get(), graph);
  if (status == GGML_STATUS_ALLOC_FAILED) throw std::bad_alloc();
  if (status != GGML_STATUS_SUCCESS) throw std::runtime_error("graph: could not compute it");
}

}  // namespace palo
