// The forward pass of CPM-Bee as a ggml graph.
#pragma once

#include <ggml-cpp.h>
#include <ggml.h>

#include "cpm_bee/kv_cells.h"
#include "cpm_bee/weights.h"

namespace palo {

struct BeeGraph {
  ggml_context_ptr context;
  ggml_cgraph* graph = nullptr;
  // Inputs, which have no memory yet.
  ggml_tensor* rows = nullptr;   // [n_rows, n_embd] f32: embeddings, or what the layers before made of them
  ggml_tensor* cells = nullptr;  // [n_rows] i64, where their keys and values go
  ggml_tensor* mask = nullptr;   // [n_head, n_rows, n_cells] f16: the bias, or minus infinity
  // Results: after the last layer, of the last rows; else what the next layer takes.
  ggml_tensor* hidden = nullptr;  // [n_hidden, n_embd] f32, after the last norm
  ggml_tensor* logits = nullptr;  // [n_logits, n_vocab] f32
  ggml_tensor* next = nullptr;    // [n_rows, n_embd] f32
};

// Layers [begin, end).
struct LayerRange {
  int64_t begin, end;
};

// How many rows come in, how many cells they look at, of how many of the last rows there are hidden states and logits
// (n_logits <= n_hidden <= n_rows).
struct GraphSize {
  int64_t n_rows, n_cells, n_hidden, n_logits;
};

// Nodes and leaves at most.
int64_t max_graph_nodes(const CpmBeeConfig& config);

// Throws std::bad_alloc.
BeeGraph build_graph(const CpmBeeConfig& config, const CpmBeeWeights& weights, const KvCells& kv, const GraphSize& size,
                     LayerRange layers);

}  // namespace palo
