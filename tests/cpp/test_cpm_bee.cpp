// CPM-Bee: its bias and cells by hand-worked cases; a small random model step by step against the whole at once, on our
// backend and on ggml's; and everything about a file that must be refused.
#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cpm_bee/cpm_bee.h"
#include "ggml_backend/device.h"
#include "ggml_backend/settings.h"

namespace {

using palo::BeePrompt;
using palo::BeeResult;
using palo::BeeRows;
using palo::CpmBee;
using palo::CpmBeeConfig;
using palo::FormatError;
using palo::PathCells;
using palo::position_bucket;
using palo::RawTensor;
using palo::TensorMap;

CpmBeeConfig small_config() {
  return {.n_vocab = 40,
          .n_embd = 64,
          .n_head = 2,
          .n_layer = 2,
          .n_ff = 96,
          .eps = 1e-6f,
          .embedding_scale = 0.125f,
          .logit_scale = 0.125f,
          .residual_divisor = 1.05f,
          .rotary_scale = 16.0f,
          .rotary_base = 10000.0f,
          .n_position_buckets = 256,
          .n_segment_buckets = 256,
          .max_distance = 2048};
}

// Owns the bytes of a random model's tensors.
class SmallFile {
 public:
  explicit SmallFile(ggml_type type) : config(small_config()) {
    const int64_t e = config.n_embd, f = config.n_ff;
    add("token_embd.weight", type, {config.n_vocab, e}, 1.0f);
    add("output_norm.weight", GGML_TYPE_F32, {e}, 1.0f);
    add("rel_attn_bias", GGML_TYPE_F16, {config.n_bias_rows(), config.n_head}, 1.0f);
    for (int64_t i = 0; i < config.n_layer; ++i) {
      const std::string block = "blk." + std::to_string(i) + ".";
      for (const char* name : {"attn_norm.weight", "ffn_norm.weight"}) add(block + name, GGML_TYPE_F32, {e}, 1.0f);
      for (const char* name : {"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"}) {
        add(block + name, type, {e, e}, 0.125f);
      }
      for (const char* name : {"ffn_gate.weight", "ffn_up.weight"}) add(block + name, type, {f, e}, 0.125f);
      add(block + "ffn_down.weight", type, {e, f}, 0.1f);
    }
  }

  CpmBee load(ggml_backend_dev_t device, int64_t n_cells = 64, int n_threads = 1) const {
    return CpmBee(config, tensors, {.n_cells = n_cells, .n_threads = n_threads, .device = device});
  }

  CpmBeeConfig config;
  TensorMap tensors;

 private:
  void add(const std::string& name, ggml_type type, const std::vector<int64_t>& shape, float std_dev) {
    std::mt19937 random(static_cast<unsigned>(bytes_.size()));
    std::normal_distribution<float> normal(0.0f, std_dev);
    const int64_t n_cols = shape.back(), n_rows = shape.size() == 2 ? shape[0] : 1;
    std::vector<float> values(static_cast<size_t>(n_rows * n_cols));
    for (float& value : values) value = normal(random);
    std::vector<std::byte>& bytes = bytes_.emplace_back(static_cast<size_t>(n_rows) * ggml_row_size(type, n_cols));
    if (type == GGML_TYPE_F32) {
      std::memcpy(bytes.data(), values.data(), bytes.size());
    } else {
      ggml_quantize_chunk(type, values.data(), bytes.data(), 0, n_rows, n_cols, nullptr);
    }
    tensors[name] = {.type = type, .shape = shape, .data = bytes.data(), .n_bytes = bytes.size()};
  }

  std::deque<std::vector<std::byte>> bytes_;
};

// A prompt of three segments, the last of which is the answer's: n_answer rows that are no context.
BeePrompt make_prompt(int64_t n_prompt, int64_t n_answer) {
  BeePrompt prompt;
  for (int32_t i = 0; i < n_prompt + n_answer; ++i) {
    const bool is_answer = i >= n_prompt;
    const auto place = static_cast<int32_t>(is_answer ? i - n_prompt : i);
    prompt.rows.tokens.push_back({.base = 11 + i % 20, .sub = i == 3 ? 2 : 0});
    prompt.rows.places.push_back({.segment = is_answer ? 2 : i < n_prompt / 2 ? 0 : 1, .position = place});
    prompt.is_context.push_back(is_answer ? 0 : 1);
  }
  prompt.relations = {.n_segments = 3, .codes = {0, 2, 3, 9, 0, 10, 17, 18, 0}};
  prompt.extra = {{.base = 1, .sub = 1}, {.base = 1, .sub = 2}};
  return prompt;
}

BeeRows row_of(const BeePrompt& prompt, int64_t i) {
  return {.tokens = {prompt.rows.tokens[static_cast<size_t>(i)]},
          .places = {prompt.rows.places[static_cast<size_t>(i)]}};
}

double difference(const float* a, const float* b, int64_t n) {
  double square = 0, size = 0;
  for (int64_t i = 0; i < n; ++i) {
    CHECK(std::isfinite(a[i]));
    square += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    size += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(square / size);
}

// --- bias

TEST(cpm_bee_buckets_are_those_of_the_specification) {
  const std::pair<int64_t, int32_t> CASES[] = {{-1, 1},    {0, 0},      {1, 129},     {-63, 63},    {-64, 64},
                                               {-67, 64},  {-68, 65},   {-100, 72},   {-512, 102},  {-1000, 114},
                                               {100, 200}, {2048, 255}, {-2047, 127}, {-4000, 127}, {63, 191}};
  for (const auto& [distance, bucket] : CASES) CHECK(position_bucket(distance, 256, 2048) == bucket);
}

TEST(cpm_bee_bias_takes_relation_or_distance_and_hides) {
  const SmallFile file(GGML_TYPE_F32);
  const int64_t n_head = 2, n_rows = 512;
  std::vector<uint16_t> table(static_cast<size_t>(n_rows * n_head));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<uint16_t>(i);
  const palo::RelationBias bias(file.config, table);
  const palo::SegmentRelations relations{.n_segments = 2, .codes = {0, 2, 9, 0}};
  CHECK(bias.row({0, 5}, {1, 900}, relations) == 257);
  CHECK(bias.row({1, 900}, {0, 5}, relations) == 264);
  CHECK(bias.row({1, 7}, {1, 8}, relations) == 129);
  CHECK(bias.row({1, std::numeric_limits<int32_t>::max()}, {1, std::numeric_limits<int32_t>::min()}, relations) == 127);
  const int32_t rows[] = {257, palo::RelationBias::HIDDEN, 3};
  std::vector<uint16_t> mask(2 * 2 * 3, 7);
  bias.fill(mask.data(), rows, 1, 2, 3);
  CHECK((mask == std::vector<uint16_t>{7, 7, 7, 514, 0xFC00, 6, 7, 7, 7, 515, 0xFC00, 7}));
}

// --- cells

TEST(cpm_bee_paths_share_cells_and_free_them) {
  PathCells cells(6);
  cells.reset({{0, 0}, {0, 1}});
  CHECK(cells.n_paths() == 1 && cells.end() == 2);
  CHECK((cells.extend({0, 0}, {{1, 0}, {1, 0}}) == std::vector<int64_t>{2, 3}));
  CHECK(cells.is_of_path(0, 0) && cells.is_of_path(0, 1) && cells.is_of_path(3, 1) && !cells.is_of_path(3, 0));
  CHECK((cells.extend({1, 1}, {{1, 1}, {1, 1}}) == std::vector<int64_t>{2, 4}));  // path 0 and its cell are gone
  CHECK(cells.is_of_path(3, 0) && cells.is_of_path(3, 1) && cells.place(2).position == 1);
  CHECK((cells.extend({0}, {{1, 2}}) == std::vector<int64_t>{4}));
  CHECK(cells.end() == 5);
  CHECK(cells.extend({0, 0}, {{1, 3}, {1, 3}}).empty());
}

TEST(cpm_bee_paths_that_do_not_fit_change_nothing) {
  PathCells cells(3);
  cells.reset({{0, 0}, {0, 1}});
  CHECK(cells.extend({0, 0}, {{1, 0}, {1, 0}}).empty());
  CHECK(cells.n_paths() == 1 && cells.end() == 2 && cells.is_of_path(1, 0));
  CHECK(cells.extend({0}, {{1, 0}}).size() == 1);
}

// --- model

// Hidden states of the answer computed token by token, against all at once; observed 2e-6 (f32), 1e-4 (f16).
void check_steps_equal_whole(const SmallFile& file, ggml_backend_dev_t device, double tolerance) {
  constexpr int64_t N_PROMPT = 20, N_ANSWER = 6;
  CpmBee model = file.load(device);
  const BeePrompt whole = make_prompt(N_PROMPT, N_ANSWER);
  const BeeResult expected = model.prefill(whole, N_PROMPT + N_ANSWER);
  BeeResult found = model.prefill(make_prompt(N_PROMPT, 1), N_PROMPT + 1);
  const int64_t n = file.config.n_embd;
  CHECK(difference(found.hidden.data(), expected.hidden.data(), (N_PROMPT + 1) * n) <= tolerance);
  for (int64_t i = N_PROMPT + 1; i < N_PROMPT + N_ANSWER; ++i) {
    found = model.step({0}, row_of(whole, i));
    CHECK(difference(found.hidden.data(), expected.hidden.data() + i * n, n) <= tolerance);
  }
  CHECK(found.logits.size() == static_cast<size_t>(file.config.n_vocab + 2));
  CHECK(difference(found.logits.data(), expected.logits.data(), file.config.n_vocab + 2) <= tolerance);
}

TEST(cpm_bee_steps_equal_the_whole) {
  CHECK(palo_set_mode("palo"));
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q4_0, GGML_TYPE_Q8_0}) {
    check_steps_equal_whole(SmallFile(type), palo::backend::weight_device(), type == GGML_TYPE_Q4_0 ? 0.05 : 0.02);
  }
  check_steps_equal_whole(SmallFile(GGML_TYPE_F32), nullptr, 0.01);
}

TEST(cpm_bee_backends_agree) {
  const SmallFile file(GGML_TYPE_F16);
  const BeePrompt prompt = make_prompt(30, 2);
  const BeeResult ours = file.load(palo::backend::weight_device()).prefill(prompt, 32);
  const BeeResult theirs = file.load(nullptr).prefill(prompt, 32);
  CHECK(difference(ours.hidden.data(), theirs.hidden.data(), 32 * file.config.n_embd) <= 0.01);  // observed 0.002
}

TEST(cpm_bee_paths_are_independent) {
  const SmallFile file(GGML_TYPE_F16);
  CpmBee model = file.load(palo::backend::weight_device());
  const BeePrompt prompt = make_prompt(20, 1);
  const auto n = static_cast<int64_t>(file.config.n_vocab + 2);
  const auto tokens = [](std::vector<int32_t> bases, int32_t position) {
    BeeRows rows;
    for (const int32_t base : bases) {
      rows.tokens.push_back({.base = base});
      rows.places.push_back({.segment = 2, .position = position});
    }
    return rows;
  };
  model.prefill(prompt, 1);
  model.step({0, 0, 0}, tokens({12, 13, 14}, 1));
  model.step({2, 0, 2}, tokens({15, 16, 17}, 2));  // path 1 is dropped, path 2 continued twice
  const BeeResult together = model.step({1, 2}, tokens({18, 19}, 3));
  for (const auto& [path, answer] :
       {std::pair{0, std::vector<int32_t>{12, 16, 18}}, std::pair{1, std::vector<int32_t>{14, 17, 19}}}) {
    model.prefill(prompt, 1);
    BeeResult alone;
    for (size_t i = 0; i < answer.size(); ++i)
      alone = model.step({0}, tokens({answer[i]}, static_cast<int32_t>(i) + 1));
    CHECK(difference(together.logits.data() + path * n, alone.logits.data(), n) <= 1e-5);  // observed 1e-6
  }
}

TEST(cpm_bee_is_the_same_bit_for_bit_on_any_number_of_threads) {
  const SmallFile file(GGML_TYPE_Q8_0);
  const BeePrompt prompt = make_prompt(30, 2);
  const BeeResult one = file.load(palo::backend::weight_device(), 64, 1).prefill(prompt, 32);
  for (const int n_threads : {2, 5}) {
    CpmBee model = file.load(palo::backend::weight_device(), 64, n_threads);
    CHECK(model.prefill(prompt, 32).hidden == one.hidden);
    CHECK(model.prefill(prompt, 32).hidden == one.hidden);
  }
}

TEST(cpm_bee_image_rows_take_the_place_of_tokens) {
  const SmallFile file(GGML_TYPE_F16);
  CpmBee model = file.load(palo::backend::weight_device());
  BeePrompt prompt = make_prompt(20, 1);
  const BeeResult without = model.prefill(prompt, 21);
  std::vector<float> embeddings(static_cast<size_t>(2 * file.config.n_embd), 0.5f);
  prompt.image_rows = {4, 5};
  prompt.image_embeddings = embeddings.data();
  const BeeResult with = model.prefill(prompt, 21);
  CHECK(with.hidden != without.hidden);
  prompt.rows.tokens[4].base = prompt.rows.tokens[5].base = 39;
  CHECK(model.prefill(prompt, 21).hidden == with.hidden);
}

// --- refusals

TEST(cpm_bee_refuses_prompts_and_steps_and_keeps_what_it_has) {
  const SmallFile file(GGML_TYPE_F16);
  CpmBee model = file.load(palo::backend::weight_device(), 24);
  const BeePrompt good = make_prompt(20, 1);
  CHECK_THROWS(model.step({0}, row_of(good, 20)), std::invalid_argument, "expected a prompt first");
  model.prefill(good, 1);
  const auto refused = [&](const char* part, const auto& change) {
    BeePrompt prompt = good;
    change(prompt);
    CHECK_THROWS(model.prefill(prompt, 1), std::invalid_argument, part);
  };
  refused("token: expected 0 to 39, got 40", [](BeePrompt& p) { p.rows.tokens[2].base = 40; });
  refused("sub id", [](BeePrompt& p) { p.rows.tokens[2].sub = -1; });
  refused("segment: expected 0 to 2, got 3", [](BeePrompt& p) { p.rows.places[2].segment = 3; });
  refused("relation: expected 0 to 256", [](BeePrompt& p) { p.relations.codes[1] = 257; });
  refused("relations", [](BeePrompt& p) { p.relations.codes.pop_back(); });
  refused("contexts", [](BeePrompt& p) { p.is_context.pop_back(); });
  refused("image row", [](BeePrompt& p) { p.image_rows = {21}; });
  refused("unknown word", [](BeePrompt& p) { p.extra[0].base = 40; });
  CHECK_THROWS(model.prefill(make_prompt(24, 1), 1), std::invalid_argument, "prompt: expected 1 to 24, got 25");
  CHECK_THROWS(model.prefill(good, 22), std::invalid_argument, "hidden states");
  CHECK_THROWS(model.step({1}, row_of(good, 20)), std::invalid_argument, "parent: expected 0 to 0, got 1");
  CHECK_THROWS(model.step({}, {}), std::invalid_argument, "paths");
  const BeeResult first = model.step({0}, row_of(good, 20));
  model.step({0}, row_of(good, 20));
  model.step({0}, row_of(good, 20));
  CHECK_THROWS(model.step({0}, row_of(good, 20)), std::invalid_argument, "all 24 cells in use");
  model.prefill(good, 1);
  CHECK(model.step({0}, row_of(good, 20)).logits == first.logits);
}

TEST(cpm_bee_refuses_bad_files) {
  const auto refused = [](const char* part, const auto& change) {
    SmallFile file(GGML_TYPE_F16);
    change(file);
    CHECK_THROWS(file.load(palo::backend::weight_device()), FormatError, part);
  };
  refused("blk.1.ffn_up.weight: expected it in the file", [](SmallFile& f) { f.tensors.erase("blk.1.ffn_up.weight"); });
  refused("expected shape [64, 64]", [](SmallFile& f) { f.tensors["blk.0.attn_q.weight"].shape = {32, 128}; });
  refused("got ggml type 26", [](SmallFile& f) { f.tensors["blk.0.attn_q.weight"].type = GGML_TYPE_I32; });
  refused("got ggml type 999", [](SmallFile& f) { f.tensors["token_embd.weight"].type = 999; });
  refused("whole blocks of 256", [](SmallFile& f) { f.tensors["blk.0.attn_q.weight"].type = GGML_TYPE_Q4_K; });
  refused("expected 8192 bytes, got 8191", [](SmallFile& f) { --f.tensors["blk.0.attn_v.weight"].n_bytes; });
  refused("expected type f32", [](SmallFile& f) { f.tensors["output_norm.weight"].type = GGML_TYPE_F16; });
  refused("expected type f16", [](SmallFile& f) { f.tensors["rel_attn_bias"].type = GGML_TYPE_F32; });
  refused("block_count: expected 1 to 512, got 513", [](SmallFile& f) { f.config.n_layer = 513; });
  refused("16 numbers for each head", [](SmallFile& f) { f.config.n_head = 3; });
  refused("residual_divisor: expected a positive number", [](SmallFile& f) { f.config.residual_divisor = 0; });
  refused("max_distance", [](SmallFile& f) { f.config.max_distance = 64; });
  const SmallFile file(GGML_TYPE_F16);
  CHECK_THROWS(file.load(nullptr, 0), std::invalid_argument, "n_cells");
  CHECK_THROWS(file.load(nullptr, 64, 0), std::invalid_argument, "n_threads");
}

}  // namespace
