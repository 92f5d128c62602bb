#include "cpm_bee_bindings.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "cpm_bee/cpm_bee.h"
#include "numpy_array.h"
#include "raw_tensors.h"

namespace nb = nanobind;

namespace palo {
namespace {

using FloatMatrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::vector<int32_t> to_vector(const Integers& array) {
  return {array.data(), array.data() + array.size()};
}

// Columns of `rows`: token, sub id, segment, position.
BeeRows to_rows(const IntegerMatrix& rows) {
  if (rows.shape(1) != 4) throw std::invalid_argument("rows: expected token, sub id, segment and position of each");
  BeeRows result;
  for (size_t i = 0; i < rows.shape(0); ++i) {
    const int32_t* row = rows.data() + 4 * i;
    result.tokens.push_back({row[0], row[1]});
    result.places.push_back({row[2], row[3]});
  }
  return result;
}

std::vector<BeeToken> to_tokens(const IntegerMatrix& tokens) {
  if (tokens.shape(1) != 2) throw std::invalid_argument("unknown words: expected token and sub id of each");
  std::vector<BeeToken> result;
  for (size_t i = 0; i < tokens.shape(0); ++i) result.push_back({tokens.data()[2 * i], tokens.data()[2 * i + 1]});
  return result;
}

SegmentRelations to_relations(const IntegerMatrix& codes) {
  return {.n_segments = static_cast<int64_t>(codes.shape(0)), .codes = {codes.data(), codes.data() + codes.size()}};
}

NumpyArray to_array(const std::vector<float>& values, int64_t n_rows) {
  const auto n = static_cast<size_t>(n_rows);
  NumpyArray result = new_array({n, values.size() / n});
  std::copy(values.begin(), values.end(), result.data());
  return result;
}

// (logits, hidden states)
nb::tuple to_tuple(const BeeResult& result) {
  return nb::make_tuple(to_array(result.logits, result.n_logits), to_array(result.hidden, result.n_hidden));
}

void new_model(CpmBee* self, const nb::dict& tensors, int64_t n_vocab, int64_t n_embd, int64_t n_head, int64_t n_layer,
               int64_t n_ff, float eps, float embedding_scale, float logit_scale, float residual_divisor,
               float rotary_scale, float rotary_base, int64_t n_position_buckets, int64_t n_segment_buckets,
               int64_t max_distance, int64_t n_cells, int n_threads, const std::string& backend, bool is_kv_f32) {
  const CpmBeeConfig config{.n_vocab = n_vocab,
                            .n_embd = n_embd,
                            .n_head = n_head,
                            .n_layer = n_layer,
                            .n_ff = n_ff,
                            .eps = eps,
                            .embedding_scale = embedding_scale,
                            .logit_scale = logit_scale,
                            .residual_divisor = residual_divisor,
                            .rotary_scale = rotary_scale,
                            .rotary_base = rotary_base,
                            .n_position_buckets = n_position_buckets,
                            .n_segment_buckets = n_segment_buckets,
                            .max_distance = max_distance};
  const TensorMap map = to_tensor_map(tensors);
  ggml_backend_reg_t registry = backend.empty() ? nullptr : ggml_backend_reg_by_name(backend.c_str());
  ggml_backend_dev_t device = registry == nullptr ? nullptr : ggml_backend_reg_dev_get(registry, 0);
  const nb::gil_scoped_release release;
  new (self)
      CpmBee(config, map, {.n_cells = n_cells, .n_threads = n_threads, .device = device, .is_kv_f32 = is_kv_f32});
}

nb::tuple prefill(CpmBee& self, const IntegerMatrix& rows, const Integers& is_context, const IntegerMatrix& relations,
                  const Integers& image_rows, const FloatMatrix& image_embeddings, const IntegerMatrix& extra,
                  int64_t n_hidden, const nb::callable& between) {
  const auto n_embd = static_cast<size_t>(self.config().n_embd);
  if (image_embeddings.shape(0) != image_rows.size() || image_embeddings.shape(1) != n_embd) {
    throw std::invalid_argument("image embeddings: expected [" + std::to_string(image_rows.size()) + ", " +
                                std::to_string(n_embd) + "], got [" + std::to_string(image_embeddings.shape(0)) + ", " +
                                std::to_string(image_embeddings.shape(1)) + "]");
  }
  BeePrompt prompt{.rows = to_rows(rows),
                   .is_context = {},
                   .relations = to_relations(relations),
                   .image_rows = {image_rows.data(), image_rows.data() + image_rows.size()},
                   .image_embeddings = image_embeddings.data(),
                   .extra = to_tokens(extra)};
  for (const int32_t value : to_vector(is_context)) prompt.is_context.push_back(value != 0 ? 1 : 0);
  BeeResult result;
  {
    const nb::gil_scoped_release release;
    result = self.prefill(prompt, n_hidden, [&] {
      const nb::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals() != 0) throw nb::python_error();  // Ctrl-C
      between();
    });
  }
  return to_tuple(result);
}

nb::tuple step(CpmBee& self, const Integers& parents, const IntegerMatrix& rows) {
  const std::vector<int32_t> checked_parents = to_vector(parents);
  const BeeRows checked_rows = to_rows(rows);
  BeeResult result;
  {
    const nb::gil_scoped_release release;
    result = self.step(checked_parents, checked_rows);
  }
  return to_tuple(result);
}

}  // namespace

void bind_cpm_bee(nb::module_& m) {
  nb::class_<CpmBee>(m, "CpmBee", "The language model of VisCPM; use palo_cpp.llm.cpm_bee_model.CpmBeeModel.")
      .def("__init__", &new_model, nb::arg("tensors"), nb::kw_only(), nb::arg("n_vocab"), nb::arg("n_embd"),
           nb::arg("n_head"), nb::arg("n_layer"), nb::arg("n_ff"), nb::arg("eps"), nb::arg("embedding_scale"),
           nb::arg("logit_scale"), nb::arg("residual_divisor"), nb::arg("rotary_scale"), nb::arg("rotary_base"),
           nb::arg("n_position_buckets"), nb::arg("n_segment_buckets"), nb::arg("max_distance"), nb::arg("n_cells"),
           nb::arg("n_threads"), nb::arg("backend"), nb::arg("is_kv_f32"),
           "tensors: as for VisionEncoder; backend: name in ggml's registry of what multiplies, or \"\" for ggml's CPU "
           "backend alone; raises FormatError for a bad file.")
      .def("prefill", &prefill, nb::arg("rows").noconvert(), nb::arg("is_context").noconvert(),
           nb::arg("relations").noconvert(), nb::arg("image_rows").noconvert(), nb::arg("image_embeddings").noconvert(),
           nb::arg("extra").noconvert(), nb::arg("n_hidden"), nb::arg("between"),
           "rows int32 [n, 4]: token, sub id, segment, position; is_context int32 [n]; relations int32 [n_segments, "
           "n_segments]; image_rows int32 [m]; image_embeddings [m, n_embd]; extra int32 [x, 2]; between is called "
           "every few layers and may raise -> (logits [1, n_vocab "
           "+ x], hidden states [n_hidden, n_embd])")
      .def("step", &step, nb::arg("parents").noconvert(), nb::arg("rows").noconvert(),
           "parents int32 [n]; rows int32 [n, 4] -> (logits [n, n_vocab + x], hidden states [n, n_embd])")
      .def("rewind", &CpmBee::rewind, "Back to the prompt, to begin another answer.")
      .def_prop_ro("n_cells", &CpmBee::n_cells)
      .def_prop_ro("n_used_cells", &CpmBee::n_used_cells);
}

}  // namespace palo
