// CPM-Bee: prompts and paths of answers to logits.
#pragma once

#include <ggml-backend.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "cpm_bee/config.h"
#include "cpm_bee/graph.h"
#include "cpm_bee/graph_runner.h"
#include "cpm_bee/kv_cells.h"
#include "cpm_bee/path_cells.h"
#include "cpm_bee/relation_bias.h"
#include "cpm_bee/token_embedding.h"
#include "cpm_bee/weights.h"
#include "kernels/buffer.h"

namespace palo {

// Tokens and where they are; all of one length.
struct BeeRows {
  std::vector<BeeToken> tokens;
  std::vector<TokenPlace> places;
};

struct BeePrompt {
  BeeRows rows;
  // Whether a token is context: every token sees it. Others are seen by those after them that are no context either.
  std::vector<uint8_t> is_context;
  SegmentRelations relations;
  // Rows whose embeddings are given, ascending: an image's, [n_image_rows, n_embd].
  std::vector<int64_t> image_rows;
  const float* image_embeddings = nullptr;
  // The request's unknown words: columns of the logits after the vocabulary's.
  std::vector<BeeToken> extra;
};

// [n_hidden, n_embd] after the last norm, and [n_logits, n_vocab + n_extra] of the last rows.
struct BeeResult {
  int64_t n_hidden = 0, n_logits = 0;
  std::vector<float> hidden{}, logits{};
};

class CpmBee {
 public:
  struct Options {
    int64_t n_cells;  // tokens that a prompt and all paths of its answer may take together
    int n_threads;
    ggml_backend_dev_t device = nullptr;  // whose memory weights go to; nullptr for ggml's CPU backend alone
    bool is_kv_f32 = false;               // keys and values in f32, for comparisons; else binary16
  };

  // Copies the tensors. Throws FormatError for a bad file, std::invalid_argument for bad options, std::bad_alloc.
  CpmBee(const CpmBeeConfig& config, const TensorMap& tensors, const Options& options);

  // Takes a whole prompt, for its tokens see each other in both directions; what was held is forgotten. Logits of the
  // last token, hidden states of the last n_hidden. Calls `between` every few layers, which may throw: then nothing is
  // held. Throws std::invalid_argument; then what was held stays.
  BeeResult prefill(const BeePrompt& prompt, int64_t n_hidden, const std::function<void()>& between = [] {});

  // Path i becomes path parents[i] (of the last step; the prompt is path 0) with one more token, which sees the prompt
  // and its path. Logits and hidden states of each. Throws std::invalid_argument; then what was held stays.
  BeeResult step(const std::vector<int32_t>& parents, const BeeRows& rows);

  // Back to the prompt, to begin another answer: the paths are forgotten. Throws std::invalid_argument without one.
  void rewind();

  const CpmBeeConfig& config() const { return config_; }
  int64_t n_cells() const { return cells_.n_cells(); }
  // Cells up to the last one in use.
  int64_t n_used_cells() const { return cells_.end(); }

 private:
  void check_rows(const BeeRows& rows, const SegmentRelations& relations) const;
  void check_prompt(const BeePrompt& prompt, int64_t n_hidden) const;
  Buffer embedded(const BeeRows& rows) const;
  ByteBuffer prompt_mask(const BeePrompt& prompt) const;
  ByteBuffer step_mask(const BeeRows& rows, const PathCells& cells) const;
  BeeResult run(Buffer rows, const std::vector<int64_t>& cells, const ByteBuffer& mask, const GraphSize& size,
                const std::function<void()>& between);
  BeeResult results_of(const BeeGraph& graph) const;
  void make_extra(const std::vector<BeeToken>& extra);

  const CpmBeeConfig config_;
  const CpmBeeWeights weights_;
  const RelationBias bias_;
  KvCells kv_;
  PathCells cells_;
  std::vector<TokenPlace> prompt_places_;  // of the prompt that is held
  const TokenEmbedding embedding_;
  GraphRunner runner_;
  SegmentRelations relations_;  // of the prompt that is held
  int64_t n_extra_ = 0;
  std::vector<float> extra_;  // [n_extra, n_embd]: their embeddings
};

}  // namespace palo
