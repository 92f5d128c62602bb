// The Python module palo_cpp._core: checks, docs, GIL; no arithmetic.
#include <ggml.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <filesystem>
#include <functional>

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include "cpm_bee_bindings.h"
#include "numpy_array.h"
#include "peaks/multiply_peaks.h"
#include "pixel_bindings.h"
#include "raw_tensors.h"
#include "vision/vision_encoder.h"

namespace nb = nanobind;

namespace palo {
namespace {

using FloatArray = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

TowerKind to_tower_kind(const std::string& name) {
  if (name == "clip") return TowerKind::CLIP;
  if (name == "beit3") return TowerKind::BEIT3;
  throw FormatError("tower: expected clip or beit3, got \"" + name + "\"; convert the checkpoint again");
}

ProjectorKind to_projector_kind(const std::string& name) {
  if (name == "identity") return ProjectorKind::IDENTITY;
  if (name == "mlp") return ProjectorKind::MLP;
  if (name == "ldp") return ProjectorKind::LDP;
  if (name == "ldpv2") return ProjectorKind::LDPV2;
  throw FormatError("projector: expected identity, mlp, ldp or ldpv2, got \"" + name +
                    "\"; convert the checkpoint again");
}

// "3, 336, 336"
std::string join(const std::vector<int64_t>& sizes) {
  std::string text;
  for (const int64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return text;
}

void check_shape(const FloatArray& array, const std::string& what, const std::vector<int64_t>& shape) {
  std::vector<int64_t> got;
  for (size_t i = 0; i < array.ndim(); ++i) got.push_back(static_cast<int64_t>(array.shape(i)));
  if (got.size() == shape.size() + 1 && std::equal(shape.begin(), shape.end(), got.begin() + 1)) return;
  throw std::invalid_argument(what + ": expected shape [n, " + join(shape) + "], got [" + join(got) +
                              "]; pass a batch of that shape");
}

// Runs `stage` on all images of `input` [n, ...] -> [n, n_rows, n_cols].
using Stage = std::function<void(const VisionEncoder&, float*, const float*, int64_t)>;
NumpyArray run_stage(const VisionEncoder& encoder, const Stage& stage, const FloatArray& input, int64_t n_rows,
                     int64_t n_cols) {
  const auto n_images = static_cast<int64_t>(input.shape(0));
  checked_product(checked_product(n_images, n_rows, "result"), n_cols, "result");
  NumpyArray result = new_array({input.shape(0), static_cast<size_t>(n_rows), static_cast<size_t>(n_cols)});
  const nb::gil_scoped_release release;
  stage(encoder, result.data(), input.data(), n_images);
  return result;
}

void new_encoder(VisionEncoder* self, const nb::dict& tensors, const std::string& tower, int64_t image_size,
                 int64_t patch_size, int64_t n_embd, int64_t n_head, int64_t n_ff, int64_t n_layer, int64_t n_query,
                 float eps, bool use_gelu, bool is_square_ffn_swapped, const std::string& projector,
                 int64_t n_projector_layers, int n_threads, bool is_int8) {
  const VisionConfig config{.tower = to_tower_kind(tower),
                            .image_size = image_size,
                            .patch_size = patch_size,
                            .n_embd = n_embd,
                            .n_head = n_head,
                            .n_ff = n_ff,
                            .n_layer = n_layer,
                            .n_query = n_query,
                            .eps = eps,
                            .use_gelu = use_gelu,
                            .is_square_ffn_swapped = is_square_ffn_swapped,
                            .projector = to_projector_kind(projector),
                            .n_projector_layers = n_projector_layers};
  const TensorMap map = to_tensor_map(tensors);
  const nb::gil_scoped_release release;
  new (self) VisionEncoder(
      config, map,
      {.n_threads = n_threads, .precision = is_int8 ? Precision::INT8 : Precision::FLOAT, .is_file_mapping = true});
}

NumpyArray run_pixel_stage(const VisionEncoder& encoder, const Stage& stage, const FloatArray& pixels, int64_t n_rows,
                           int64_t n_cols) {
  const int64_t size = encoder.config().image_size;
  check_shape(pixels, "pixels", {3, size, size});
  return run_stage(encoder, stage, pixels, n_rows, n_cols);
}

NumpyArray patch_embeddings(const VisionEncoder& encoder, const FloatArray& pixels) {
  const VisionConfig& config = encoder.config();
  return run_pixel_stage(encoder, &VisionEncoder::patch_embeddings, pixels, config.n_patches(), config.n_embd);
}

NumpyArray hidden_states(const VisionEncoder& encoder, const FloatArray& pixels) {
  const VisionConfig& config = encoder.config();
  return run_pixel_stage(encoder, &VisionEncoder::hidden_states, pixels, config.n_hidden(), config.n_embd);
}

NumpyArray residual_stream(const VisionEncoder& encoder, const FloatArray& pixels, int64_t n_run) {
  const VisionConfig& config = encoder.config();
  const auto stage = [n_run](const VisionEncoder& self, float* out, const float* values, int64_t n_images) {
    self.residual_stream(out, values, n_images, n_run);
  };
  return run_pixel_stage(encoder, stage, pixels, config.n_tokens(), config.n_embd);
}

NumpyArray encode(const VisionEncoder& encoder, const FloatArray& pixels) {
  return run_pixel_stage(encoder, &VisionEncoder::encode, pixels, encoder.config().n_image_tokens(), encoder.n_embd());
}

NumpyArray project(const VisionEncoder& encoder, const FloatArray& hidden) {
  check_shape(hidden, "hidden", {encoder.config().n_hidden(), encoder.config().n_embd});
  return run_stage(encoder, &VisionEncoder::project, hidden, encoder.config().n_image_tokens(), encoder.n_embd());
}

// Throws if the loader found another ggml than llama-cpp-python's (LD_LIBRARY_PATH, LD_PRELOAD): llama.cpp's own
// libraries would use it too, and mix structures of two versions.
void check_ggml() {
#ifndef _WIN32
  Dl_info ours, ggml;
  if (dladdr(reinterpret_cast<void*>(&check_ggml), &ours) == 0) return;
  if (dladdr(reinterpret_cast<void*>(&ggml_version), &ggml) == 0) return;
  const auto expected = std::filesystem::path(ours.dli_fname).parent_path().parent_path() / "llama_cpp" / "lib";
  std::error_code error;
  const auto found = std::filesystem::path(ggml.dli_fname).parent_path();
  if (std::filesystem::equivalent(found, expected, error)) return;
  throw nb::import_error(("palo_cpp._core: expected ggml from " + expected.string() + ", got " + ggml.dli_fname +
                          "; unset LD_LIBRARY_PATH and LD_PRELOAD, or reinstall palo-cpp and llama-cpp-python together")
                             .c_str());
#endif
}

void bind_vision_encoder(nb::module_& m) {
  nb::class_<VisionEncoder>(m, "VisionEncoder",
                            "Vision tower and projector; use palo_cpp.vision.encoder.VisionEncoder.")
      .def("__init__", &new_encoder, nb::arg("tensors"), nb::kw_only(), nb::arg("tower"), nb::arg("image_size"),
           nb::arg("patch_size"), nb::arg("n_embd"), nb::arg("n_head"), nb::arg("n_ff"), nb::arg("n_layer"),
           nb::arg("n_query"), nb::arg("eps"), nb::arg("use_gelu"), nb::arg("is_square_ffn_swapped"),
           nb::arg("projector"), nb::arg("n_projector_layers"), nb::arg("n_threads"), nb::arg("is_int8"),
           "tensors: name -> (ggml type, shape row-major, bytes uint8 of a file mapped read-only: its pages are "
           "released once read); raises FormatError for a bad file.")
      .def("patch_embeddings", &patch_embeddings, nb::arg("pixels").noconvert(),
           "[n, 3, size, size] -> [n, n_patches, n_embd of the tower]")
      .def("hidden_states", &hidden_states, nb::arg("pixels").noconvert(),
           "[n, 3, size, size] -> [n, n_hidden, n_embd of the tower]: patches at the select layer, or queries")
      .def("residual_stream", &residual_stream, nb::arg("pixels").noconvert(), nb::arg("n_run"),
           "[n, 3, size, size] -> [n, n_tokens, n_embd of the tower]: all tokens after the first n_run layers")
      .def("project", &project, nb::arg("hidden").noconvert(),
           "[n, n_hidden, n_embd of the tower] -> [n, n_image_tokens, n_embd]")
      .def("encode", &encode, nb::arg("pixels").noconvert(), "[n, 3, size, size] -> [n, n_image_tokens, n_embd]")
      .def_prop_ro("n_hidden", [](const VisionEncoder& self) { return self.config().n_hidden(); })
      .def_prop_ro("n_image_tokens", [](const VisionEncoder& self) { return self.config().n_image_tokens(); })
      .def_prop_ro("n_embd", &VisionEncoder::n_embd)
      .def_prop_ro("n_threads", &VisionEncoder::n_threads)
      .def_prop_ro("isa", [](const VisionEncoder& self) { return std::string(self.isa()); });
}

}  // namespace

}  // namespace palo

NB_MODULE(_core, m) {
  palo::check_ggml();
  m.doc() = "palo_cpp's C++ core; use palo_cpp.vision.encoder instead.";
  nb::exception<palo::FormatError>(m, "FormatError", PyExc_ValueError);
  m.def("ggml_version", [] { return std::string(ggml_version()); }, "Version of the ggml in this process.");
  m.def("available_isas", &palo::available_isas, "Instruction sets that this machine can run, best first.");
  m.def(
      "isa", [] { return std::string(palo::kernels().isa); }, "The instruction set in use (PALO_CPP_ISA forces one).");
  m.def("int8_peak", &palo::peak_int8, nb::arg("isa"), nb::call_guard<nb::gil_scoped_release>(),
        "Operations per second of one core's int8 multiply-adds in registers, measured now; 0 where there is no "
        "measurement for the instruction set.");
  palo::bind_vision_encoder(m);
  palo::bind_cpm_bee(m);
  palo::bind_pixels(m);
}
