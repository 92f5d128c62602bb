// Weights of BEiT-3's vision tower with learned queries, as VisCPM has it, unpacked from an mmproj file. Names:
// convert/families/viscpm/tensor_rows.py.
#pragma once

#include <string>
#include <vector>

#include "kernels/linear.h"
#include "vision/config.h"
#include "vision/tensor_reader.h"

namespace palo {

// One of the two parameter sets of a layer: set a is the image tokens', set b the queries'.
struct Beit3Set {
  LayerNormWeights ln1, attn_ln, ln2, ffn_ln;
  Linear attn_qkv;  // [3 * n_embd, n_embd]: q, k, v
  Linear attn_out;  // [n_embd, n_embd]
  Linear ffn_up;    // [n_ff, n_embd]
  Linear ffn_down;  // [n_embd, n_ff]
};

struct Beit3Layer {
  Beit3Set image;  // of the last layer only ln1 and attn_qkv [2 * n_embd, n_embd]: k, v
  Beit3Set query;
};

struct Beit3Weights {
  Linear patch_embd;       // [n_embd, 3 * patch_size * patch_size]
  Buffer class_row;        // [n_embd]: with its position
  Buffer patch_positions;  // [n_patches, n_embd]
  Buffer query_rows;       // [n_query, n_embd]: with their positions
  std::vector<Beit3Layer> layers;
  LayerNormWeights post_ln;  // the queries'
};

std::vector<std::string> beit3_names(const VisionConfig& config);
Beit3Weights read_beit3(const VisionConfig& config, const TensorReader& reader);

}  // namespace palo
