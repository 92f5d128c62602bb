// The operations that the backend can compute. Each of them decides whether it supports a node, and then plans the
// node's work as phases of independent tasks.
#pragma once

#include <ggml.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "ggml_backend/parallel.h"
#include "kernels/buffer.h"

namespace palo::backend {

// Work for one call of graph_compute, and memory that it needs, kept from call to call.
struct Plan {
  std::vector<Phase> phases;
  ByteBuffer scratch;  // the first phase of a node or group of nodes writes it, the last one reads it
  int n_threads = 1;

  // The rotary angles of the graph, once a node has planned them.
  const ggml_tensor* angles_of = nullptr;
  const float* angles = nullptr;

  void begin();
  // Appends a phase. A phase of a single task is merged into the previous one if that has a single task too, so that no
  // thread waits between them.
  void add(Phase phase);
  // Appends one phase that calls body(r) for each r in [0, n_rows), n_values being the size of a row. A task has about
  // TASK_VALUES, so that fetching the next task costs little in comparison.
  template <typename Body>
  void add_rows(int64_t n_rows, int64_t n_values, const Body& body) {
    const int64_t n_task_rows = std::max<int64_t>(1, TASK_VALUES / n_values);
    add({(n_rows + n_task_rows - 1) / n_task_rows, [=](int64_t task) {
           const int64_t end = std::min(n_rows, (task + 1) * n_task_rows);
           for (int64_t r = task * n_task_rows; r < end; ++r) body(r);
         }});
  }
  // Memory for n floats that keeps its contents until the graph is done.
  float* table(int64_t n);

 private:
  static constexpr int64_t TASK_VALUES = 16 << 10;

  std::deque<Buffer> tables_;
  size_t n_tables_ = 0;
};

struct Operation {
  ggml_op op;

  // Whether `plan` supports the shape and the memory of `node`. Called for every node of every graph, so it must be
  // cheap.
  bool (*supports)(const ggml_tensor& node);

  // Bytes of Plan::scratch that `plan` needs for these nodes.
  int64_t (*scratch_bytes)(const ggml_tensor& node, int n_threads);

  // Appends the phases of nodes[0] and of as many nodes after it as can run together with it; returns how many nodes
  // these are. nodes[0, n_nodes) are all of this operation.
  int (*plan)(Plan& plan, ggml_tensor* const* nodes, int n_nodes);
};

// Operation::scratch_bytes of operations that need none.
inline int64_t no_scratch(const ggml_tensor&, int) {
  return 0;
}

// The operation of a node, if there is one and it supports the node; else nullptr.
const Operation* operation_for(const ggml_tensor& node);

// Nodes that compute nothing: a name for the memory of another tensor.
bool is_view(ggml_op op);

}  // namespace palo::backend
