#include "ggml_backend/stream.h"

#include <algorithm>
#include <exception>
#include <new>
#include <string>

#include "ggml_backend/ggml_abi.h"
#include "ggml_backend/log.h"
#include "ggml_backend/ops/operations.h"
#include "kernels/thread_pool.h"

namespace palo::backend {
namespace {

struct Stream {
  explicit Stream(const ggml_backend_device& prototype) : device(prototype) { device.context = this; }

  ggml_backend_device device;
  bool has_computed = false;
  Plan plan;
  std::vector<ggml_tensor*> nodes;  // of the current graph, those that compute something
};

const char* get_name(ggml_backend_t) {
  return "PALO";
}

void free_stream(ggml_backend_t backend) {
  delete static_cast<Stream*>(backend->context);
  delete backend;
}

void collect_nodes(std::vector<ggml_tensor*>& nodes, ggml_cgraph* graph) {
  nodes.clear();
  for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
    ggml_tensor* node = ggml_graph_node(graph, i);
    if ((node->flags & GGML_TENSOR_FLAG_COMPUTE) != 0 && !is_view(node->op)) nodes.push_back(node);
  }
}

// Number of consecutive nodes of one operation, from nodes[first] on.
int run_length(const std::vector<ggml_tensor*>& nodes, size_t first, const Operation& operation) {
  size_t end = first + 1;
  while (end < nodes.size() && operation_for(*nodes[end]) == &operation) ++end;
  return static_cast<int>(end - first);
}

ggml_status compute(Stream& stream, ggml_cgraph* graph) {
  collect_nodes(stream.nodes, graph);
  int64_t scratch_bytes = 0;
  for (const ggml_tensor* node : stream.nodes) {
    const Operation* operation = operation_for(*node);
    if (operation == nullptr) {
      log(GGML_LOG_LEVEL_ERROR,
          std::string("graph: expected supported operations, got ") + ggml_op_desc(node) + "; report this as a bug");
      return GGML_STATUS_FAILED;
    }
    scratch_bytes = std::max(scratch_bytes, operation->scratch_bytes(*node, stream.plan.n_threads));
  }
  Plan& plan = stream.plan;
  plan.begin();
  plan.scratch.at_least(scratch_bytes);
  for (size_t i = 0; i < stream.nodes.size();) {
    const Operation& operation = *operation_for(*stream.nodes[i]);
    i += operation.plan(plan, stream.nodes.data() + i, run_length(stream.nodes, i, operation));
  }
  run_phases(plan.phases, plan.n_threads);
  stream.has_computed = true;
  return GGML_STATUS_SUCCESS;
}

ggml_status graph_compute(ggml_backend_t backend, ggml_cgraph* graph) {
  try {
    return compute(*static_cast<Stream*>(backend->context), graph);
  } catch (const std::bad_alloc&) {
    return GGML_STATUS_ALLOC_FAILED;
  } catch (const std::exception& error) {
    log(GGML_LOG_LEVEL_ERROR, std::string("graph: ") + error.what());
    return GGML_STATUS_FAILED;
  }
}

// Arbitrary, the same for all streams: ggml distinguishes kinds of backends by it.
ggml_guid_t guid() {
  static ggml_guid value = {'p', 'a', 'l', 'o', '_', 'c', 'p', 'p', 0x8d, 0x1f, 0x52, 0xc0, 0x3b, 0x77, 0xe4, 0x96};
  return &value;
}

}  // namespace

ggml_backend_t make_stream(const ggml_backend_device& device) {
  static constexpr ggml_backend_i STREAM = {
      .get_name = get_name,
      .free = free_stream,
      .set_tensor_async = nullptr,
      .get_tensor_async = nullptr,
      .set_tensor_2d_async = nullptr,
      .get_tensor_2d_async = nullptr,
      .cpy_tensor_async = nullptr,
      .synchronize = nullptr,
      .graph_plan_create = nullptr,
      .graph_plan_free = nullptr,
      .graph_plan_update = nullptr,
      .graph_plan_compute = nullptr,
      .graph_compute = graph_compute,
      .event_record = nullptr,
      .event_wait = nullptr,
      .graph_optimize = nullptr,
  };
  auto* stream = new (std::nothrow) Stream(device);
  if (stream == nullptr) return nullptr;
  stream->plan.n_threads = GGML_DEFAULT_N_THREADS;  // until set_n_threads is called, like ggml's own backends
  return new ggml_backend{guid(), STREAM, &stream->device, stream};
}

bool has_computed(ggml_backend_dev_t device) {
  return device->context != nullptr && static_cast<const Stream*>(device->context)->has_computed;
}

void set_n_threads(ggml_backend_t stream, int n_threads) {
  static_cast<Stream*>(stream->context)->plan.n_threads = std::clamp(n_threads, 1, ThreadPool::MAX_THREADS);
}

}  // namespace palo::backend
