#include "cpm_bee/cpm_bee.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>

namespace palo {
namespace {

constexpr int64_t MAX_CELLS = 1 << 20;
constexpr int64_t MAX_PROMPT = 1 << 14;  // its mask takes 2 * n_head * n^2 bytes
constexpr int64_t MAX_EXTRA = 1 << 14;
constexpr int64_t MAX_SEGMENTS = 1 << 12;
constexpr int MAX_THREADS = 512;
// Rows times layers of a piece of a prompt: a second or so on two cores with layers of VisCPM's size.
constexpr int64_t PIECE_ROWS = 512;

void check_range(const std::string& what, int64_t value, int64_t least, int64_t most) {
  if (least <= value && value <= most) return;
  throw std::invalid_argument(what + ": expected " + std::to_string(least) + " to " + std::to_string(most) + ", got " +
                              std::to_string(value));
}

// Gives a graph's tensor memory of the caller's, until the result is freed.
ggml_backend_buffer_ptr lend(ggml_tensor* tensor, const uint8_t* data) {
  auto* memory = const_cast<uint8_t*>(data);  // an input: nothing writes it
  ggml_backend_buffer_ptr buffer(ggml_backend_cpu_buffer_from_ptr(memory, ggml_nbytes(tensor)));
  if (buffer == nullptr || ggml_backend_tensor_alloc(buffer.get(), tensor, memory) != GGML_STATUS_SUCCESS) {
    throw std::bad_alloc();
  }
  return buffer;
}

const CpmBeeConfig& checked(const CpmBeeConfig& config) {
  check_config(config);
  return config;
}

const CpmBee::Options& checked(const CpmBee::Options& options, const CpmBeeConfig& config) {
  check_range("n_cells", options.n_cells, 1, MAX_CELLS);
  check_range("n_threads", options.n_threads, 1, MAX_THREADS);
  checked_product(checked_product(options.n_cells, 8 * config.n_layer, "keys and values"), config.n_embd,
                  "keys and values");
  return options;
}

}  // namespace

CpmBee::CpmBee(const CpmBeeConfig& config, const TensorMap& tensors, const Options& options)
    : config_(checked(config)),
      weights_(config_, tensors, checked(options, config_).device),
      bias_(config_, weights_.relation_bias),
      kv_(config_, options.n_cells, options.is_kv_f32),
      cells_(options.n_cells),
      embedding_(config_, weights_.token_embd),
      runner_(options.device, options.n_threads, max_graph_nodes(config_)) {}

BeeResult CpmBee::prefill(const BeePrompt& prompt, int64_t n_hidden, const std::function<void()>& between) {
  check_prompt(prompt, n_hidden);
  const auto n_rows = static_cast<int64_t>(prompt.rows.tokens.size());
  Buffer rows = embedded(prompt.rows);
  for (size_t i = 0; i < prompt.image_rows.size(); ++i) {
    std::copy_n(prompt.image_embeddings + static_cast<int64_t>(i) * config_.n_embd, config_.n_embd,
                rows.data() + prompt.image_rows[i] * config_.n_embd);
  }
  const ByteBuffer mask = prompt_mask(prompt);
  std::vector<int64_t> cells(static_cast<size_t>(n_rows));
  std::iota(cells.begin(), cells.end(), 0);
  cells_.forget();  // its keys and values are overwritten
  make_extra(prompt.extra);
  relations_ = prompt.relations;
  const GraphSize size{.n_rows = n_rows, .n_cells = n_rows, .n_hidden = n_hidden, .n_logits = 1};
  BeeResult result = run(std::move(rows), cells, mask, size, between);
  prompt_places_ = prompt.rows.places;
  cells_.reset(prompt_places_);
  return result;
}

void CpmBee::rewind() {
  if (cells_.n_paths() == 0) throw std::invalid_argument("rewind: expected a prompt first, got none");
  cells_.reset(prompt_places_);  // paths take free cells alone, so the prompt's are as they were
}

BeeResult CpmBee::step(const std::vector<int32_t>& parents, const BeeRows& rows) {
  const auto n = static_cast<int64_t>(parents.size());
  check_range("paths", n, 1, PathCells::MAX_PATHS);
  if (cells_.n_paths() == 0) throw std::invalid_argument("step: expected a prompt first, got none");
  if (rows.tokens.size() != parents.size()) throw std::invalid_argument("step: expected a token for each path");
  for (const int32_t parent : parents) check_range("parent", parent, 0, cells_.n_paths() - 1);
  check_rows(rows, relations_);
  PathCells extended = cells_;
  const std::vector<int64_t> cells = extended.extend(parents, rows.places);
  if (cells.empty()) {
    throw std::invalid_argument("context: expected room for " + std::to_string(n) + " more tokens, got all " +
                                std::to_string(cells_.n_cells()) + " cells in use; shorten the question or the answer");
  }
  const GraphSize size{.n_rows = n, .n_cells = extended.end(), .n_hidden = n, .n_logits = n};
  BeeResult result = run(embedded(rows), cells, step_mask(rows, extended), size, [] {});
  cells_ = std::move(extended);
  return result;
}

// A piece of the layers at a time, so that a long prompt can be given up between two of them.
BeeResult CpmBee::run(Buffer rows, const std::vector<int64_t>& cells, const ByteBuffer& mask, const GraphSize& size,
                      const std::function<void()>& between) {
  const int64_t n_layers = std::max<int64_t>(1, PIECE_ROWS / size.n_rows);
  for (int64_t begin = 0;; begin += n_layers) {
    const LayerRange layers{begin, std::min(config_.n_layer, begin + n_layers)};
    const BeeGraph graph = build_graph(config_, weights_, kv_, size, layers);
    const ggml_backend_buffer_ptr mask_memory = lend(graph.mask, mask.data());
    runner_.allocate(graph.graph);
    std::memcpy(graph.rows->data, rows.data(), ggml_nbytes(graph.rows));
    std::copy(cells.begin(), cells.end(), static_cast<int64_t*>(graph.cells->data));
    runner_.compute(graph.graph);
    if (layers.end == config_.n_layer) return results_of(graph);
    std::memcpy(rows.data(), graph.next->data, ggml_nbytes(graph.next));
    between();
  }
}

void CpmBee::check_rows(const BeeRows& rows, const SegmentRelations& relations) const {
  if (rows.places.size() != rows.tokens.size()) throw std::invalid_argument("rows: expected a place for each token");
  for (const BeeToken& token : rows.tokens) {
    check_range("token", token.base, 0, config_.n_vocab - 1);
    check_range("sub id", token.sub, 0, TokenEmbedding::MAX_SUB);
  }
  for (const TokenPlace& place : rows.places) check_range("segment", place.segment, 0, relations.n_segments - 1);
}

void CpmBee::check_prompt(const BeePrompt& prompt, int64_t n_hidden) const {
  const auto n_rows = static_cast<int64_t>(prompt.rows.tokens.size());
  check_range("prompt", n_rows, 1, std::min(cells_.n_cells(), MAX_PROMPT));
  check_range("hidden states", n_hidden, 1, n_rows);
  check_range("segments", prompt.relations.n_segments, 1, MAX_SEGMENTS);
  if (prompt.relations.codes.size() != static_cast<size_t>(prompt.relations.n_segments * prompt.relations.n_segments)) {
    throw std::invalid_argument("relations: expected one for each two segments");
  }
  for (const int32_t code : prompt.relations.codes) check_range("relation", code, 0, config_.n_segment_buckets);
  check_rows(prompt.rows, prompt.relations);
  if (prompt.is_context.size() != prompt.rows.tokens.size()) {
    throw std::invalid_argument("contexts: expected one for each token");
  }
  for (const int64_t row : prompt.image_rows) check_range("image row", row, 0, n_rows - 1);
  check_range("unknown words", static_cast<int64_t>(prompt.extra.size()), 0, MAX_EXTRA);
  for (const BeeToken& token : prompt.extra) {
    check_range("unknown word", token.base, 0, config_.n_vocab - 1);
    check_range("sub id", token.sub, 0, TokenEmbedding::MAX_SUB);
  }
}

Buffer CpmBee::embedded(const BeeRows& rows) const {
  Buffer result(static_cast<int64_t>(rows.tokens.size()) * config_.n_embd);
  for (size_t i = 0; i < rows.tokens.size(); ++i) {
    embedding_.embed(result.data() + static_cast<int64_t>(i) * config_.n_embd, rows.tokens[i]);
  }
  return result;
}

ByteBuffer CpmBee::prompt_mask(const BeePrompt& prompt) const {
  const auto n = static_cast<int64_t>(prompt.rows.places.size());
  const std::vector<TokenPlace>& places = prompt.rows.places;
  ByteBuffer mask(static_cast<int64_t>(sizeof(uint16_t)) * config_.n_head * n * n);
  std::vector<int32_t> rows(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const bool is_visible = prompt.is_context[j] != 0 || (prompt.is_context[i] == 0 && j <= i);
      rows[j] = is_visible ? bias_.row(places[i], places[j], prompt.relations) : RelationBias::HIDDEN;
    }
    bias_.fill(reinterpret_cast<uint16_t*>(mask.data()), rows.data(), i, n, n);
  }
  return mask;
}

ByteBuffer CpmBee::step_mask(const BeeRows& step, const PathCells& cells) const {
  const auto n_paths = static_cast<int64_t>(step.places.size());
  const int64_t n_cells = cells.end();
  ByteBuffer mask(static_cast<int64_t>(sizeof(uint16_t)) * config_.n_head * n_paths * n_cells);
  std::vector<int32_t> rows(static_cast<size_t>(n_cells));
  for (int64_t path = 0; path < n_paths; ++path) {
    for (int64_t cell = 0; cell < n_cells; ++cell) {
      rows[cell] = cells.is_of_path(cell, path) ? bias_.row(step.places[path], cells.place(cell), relations_)
                                                : RelationBias::HIDDEN;
    }
    bias_.fill(reinterpret_cast<uint16_t*>(mask.data()), rows.data(), path, n_paths, n_cells);
  }
  return mask;
}

void CpmBee::make_extra(const std::vector<BeeToken>& extra) {
  n_extra_ = static_cast<int64_t>(extra.size());
  extra_.resize(static_cast<size_t>(n_extra_ * config_.n_embd));
  for (int64_t i = 0; i < n_extra_; ++i) embedding_.embed(extra_.data() + i * config_.n_embd, extra[i]);
}

BeeResult CpmBee::results_of(const BeeGraph& graph) const {
  BeeResult result{.n_hidden = graph.hidden->ne[1], .n_logits = graph.logits->ne[1]};
  const int64_t n_embd = config_.n_embd, n_vocab = config_.n_vocab, n_columns = n_vocab + n_extra_;
  const auto* hidden = static_cast<const float*>(graph.hidden->data);
  const auto* logits = static_cast<const float*>(graph.logits->data);
  result.hidden.assign(hidden, hidden + result.n_hidden * n_embd);
  result.logits.resize(static_cast<size_t>(result.n_logits * n_columns));
  for (int64_t i = 0; i < result.n_logits; ++i) {
    float* row = result.logits.data() + i * n_columns;
    std::copy_n(logits + i * n_vocab, n_vocab, row);
    const float* state = hidden + (result.n_hidden - result.n_logits + i) * n_embd;
    for (int64_t e = 0; e < n_extra_; ++e) {
      double sum = 0.0;
      for (int64_t k = 0; k < n_embd; ++k) sum += static_cast<double>(state[k]) * extra_[e * n_embd + k];
      row[n_vocab + e] = static_cast<float>(sum);
    }
  }
  return result;
}

}  // namespace palo
