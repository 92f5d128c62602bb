// The Python module palo_cpp._test_kernels: each kernel on numpy arrays. Tests compare them with formulas; nothing else
// imports it.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/linear.h"
#include "numpy_array.h"

namespace nb = nanobind;

namespace palo {
namespace {

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Grid = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;  // [height, width, n_channels]

int64_t size_of(const auto& array, size_t dimension) {
  return static_cast<int64_t>(array.shape(dimension));
}

void check_equal(const char* what, int64_t expected, int64_t got) {
  if (expected == got) return;
  throw std::invalid_argument(std::string(what) + ": expected " + std::to_string(expected) + ", got " +
                              std::to_string(got) + "; pass arrays whose shapes agree");
}

void check_not_empty(const auto& array) {
  if (array.size() != 0) return;
  throw std::invalid_argument("array: expected values, got an empty one; pass at least one value");
}

Buffer copy_of(const Vector& values) {
  Buffer result(static_cast<int64_t>(values.size()));
  std::copy_n(values.data(), values.size(), result.data());
  return result;
}

NumpyArray copy_as_array(const float* values, const std::vector<size_t>& shape) {
  NumpyArray result = new_array(shape);
  std::copy_n(values, result.size(), result.data());
  return result;
}

// Threads and scratch memory for one call.
struct Machine {
  explicit Machine(int n_threads) : pool(n_threads), scratch(n_threads) {}
  Compute compute() { return {kernels(), pool, scratch}; }

  ThreadPool pool;
  Scratch scratch;
};

Precision to_precision(const std::string& name) {
  if (name == "float") return Precision::FLOAT;
  if (name == "int8") return Precision::INT8;
  throw std::invalid_argument("precision: expected int8 or float, got \"" + name +
                              "\"; no other precision is implemented");
}

Linear pack(const Matrix& weight, const Vector& bias, Precision precision) {
  Linear w{.precision = precision,
           .n_out = size_of(weight, 0),
           .n_in = size_of(weight, 1),
           .panels = {},
           .bias = copy_of(bias)};
  const Format format = w.format(kernels());
  w.panels = ByteBuffer(format.panels_bytes(w.n_out, w.n_in));
  format.pack_panels(w.panels.data(), weight.data(), w.n_out, w.n_in, w.n_in, 1);
  return w;
}

void check_linear(const Matrix& x, const Matrix& weight, const Vector& bias) {
  check_not_empty(x);
  check_not_empty(weight);
  check_equal("columns of x", size_of(weight, 1), size_of(x, 1));
  if (bias.size() != 0) check_equal("bias", size_of(weight, 0), size_of(bias, 0));
}

NumpyArray run_linear(const Matrix& x, const Matrix& weight, const Vector& bias, int n_threads,
                      const std::string& precision) {
  check_linear(x, weight, bias);
  NumpyArray out = new_array({x.shape(0), weight.shape(0)});
  const Linear w = pack(weight, bias, to_precision(precision));
  const nb::gil_scoped_release release;
  Machine machine(n_threads);
  Rows rows;
  const ImageRows all{1, size_of(x, 0), size_of(x, 0)};
  write_rows(machine.compute(), rows, w, x.data(), all);
  linear(machine.compute(), out.data(), rows, w, all);
  return out;
}

NumpyArray run_layer_norm_linear(const Matrix& x, const Vector& ln_weight, const Vector& ln_bias, float eps,
                                 const Matrix& weight, const Vector& bias, int n_threads,
                                 const std::string& precision) {
  check_linear(x, weight, bias);
  check_equal("ln_weight", size_of(x, 1), size_of(ln_weight, 0));
  check_equal("ln_bias", size_of(x, 1), size_of(ln_bias, 0));
  NumpyArray out = new_array({x.shape(0), weight.shape(0)});
  const Linear w = pack(weight, bias, to_precision(precision));
  Machine machine(n_threads);
  Rows rows;
  const ImageRows all{1, size_of(x, 0), size_of(x, 0)};
  layer_norm(machine.compute(), rows, w, x.data(), {copy_of(ln_weight), copy_of(ln_bias)}, all, eps);
  linear(machine.compute(), out.data(), rows, w, all);
  return out;
}

NumpyArray run_layer_norm(const Matrix& x, const Vector& weight, const Vector& bias, float eps) {
  check_not_empty(x);
  check_equal("weight", size_of(x, 1), size_of(weight, 0));
  check_equal("bias", size_of(x, 1), size_of(bias, 0));
  NumpyArray out = new_array({x.shape(0), x.shape(1)});
  kernels().layer_norm(out.data(), x.data(), weight.data(), bias.data(), size_of(x, 0), size_of(x, 1), eps);
  return out;
}

NumpyArray run_softmax(const Matrix& x, float scale) {
  check_not_empty(x);
  NumpyArray out = copy_as_array(x.data(), {x.shape(0), x.shape(1)});
  kernels().softmax(out.data(), size_of(x, 0), size_of(x, 1), size_of(x, 1), scale);
  return out;
}

// qkv [n_tokens, 3 * n_head * head_size] -> [n_tokens, n_head * head_size]
NumpyArray run_attention(const Matrix& qkv, int64_t n_head, int n_threads, const std::string& precision) {
  check_not_empty(qkv);
  if (n_head < 1 || size_of(qkv, 1) % (3 * n_head) != 0) {
    throw std::invalid_argument("n_head: expected a divisor of a third of the columns, got " + std::to_string(n_head) +
                                "; qkv has 3 * n_head * head_size columns");
  }
  const int64_t n_tokens = size_of(qkv, 0);
  const AttentionSizes sizes{.n_images = 1,
                             .n_tokens = n_tokens,
                             .n_queries = n_tokens,
                             .n_head = n_head,
                             .head_size = size_of(qkv, 1) / (3 * n_head)};
  NumpyArray out = new_array({qkv.shape(0), static_cast<size_t>(sizes.n_embd())});
  Machine machine(n_threads);
  PackedHeads heads;
  pack_heads(machine.compute(), to_precision(precision), heads, qkv.data(), sizes);
  attention(machine.compute(), out.data(), heads);
  return out;
}

NumpyArray run_elementwise(Activation activation, const Vector& x) {
  NumpyArray out = copy_as_array(x.data(), {x.shape(0)});
  activation(out.data(), static_cast<int64_t>(x.size()));
  return out;
}

NumpyArray run_add(const Vector& a, const Vector& b) {
  check_equal("b", size_of(a, 0), size_of(b, 0));
  NumpyArray out = new_array({a.shape(0)});
  kernels().add(out.data(), a.data(), b.data(), size_of(a, 0));
  return out;
}

NumpyArray run_depthwise_conv3x3(const Grid& x, const Matrix& weight, const Vector& bias, int64_t stride) {
  check_not_empty(x);
  check_equal("rows of weight", 9, size_of(weight, 0));
  check_equal("columns of weight", size_of(x, 2), size_of(weight, 1));
  if (bias.size() != 0) check_equal("bias", size_of(x, 2), size_of(bias, 0));
  if (stride < 1 || stride > 2) {
    throw std::invalid_argument("stride: expected 1 or 2, got " + std::to_string(stride) +
                                "; no other stride is implemented");
  }
  const size_t step = static_cast<size_t>(stride);
  NumpyArray out = new_array({(x.shape(0) + step - 1) / step, (x.shape(1) + step - 1) / step, x.shape(2)});
  kernels().depthwise_conv3x3(out.data(), x.data(), weight.data(), bias.size() == 0 ? nullptr : bias.data(), 0,
                              size_of(out, 0), size_of(x, 0), size_of(x, 1), size_of(x, 2), stride);
  return out;
}

NumpyArray run_average_pool2x2(const Grid& x) {
  NumpyArray out = new_array({x.shape(0) / 2, x.shape(1) / 2, x.shape(2)});
  kernels().average_pool2x2(out.data(), x.data(), 0, size_of(out, 0), size_of(x, 1), size_of(x, 2));
  return out;
}

NumpyArray run_column_means(const Matrix& x) {
  check_not_empty(x);
  NumpyArray out = new_array({x.shape(1)});
  kernels().column_means(out.data(), x.data(), 0, size_of(x, 1), size_of(x, 0), size_of(x, 1));
  return out;
}

NumpyArray run_scale_columns(const Matrix& x, const Vector& scale) {
  check_equal("scale", size_of(x, 1), size_of(scale, 0));
  NumpyArray out = copy_as_array(x.data(), {x.shape(0), x.shape(1)});
  kernels().scale_columns(out.data(), scale.data(), size_of(x, 0), size_of(x, 1));
  return out;
}

void bind_elementwise(nb::module_& m, const char* name, Activation KernelTable::* kernel) {
  m.def(name, [kernel](const Vector& x) { return run_elementwise(kernels().*kernel, x); }, nb::arg("x").noconvert());
}

void bind_products(nb::module_& m) {
  const auto threads = [] { return nb::arg("n_threads") = 1; };
  const auto precision = [] { return nb::arg("precision") = "float"; };
  m.def("linear", &run_linear, nb::arg("x").noconvert(), nb::arg("weight").noconvert(), nb::arg("bias").noconvert(),
        threads(), precision());
  m.def("layer_norm_linear", &run_layer_norm_linear, nb::arg("x").noconvert(), nb::arg("ln_weight").noconvert(),
        nb::arg("ln_bias").noconvert(), nb::arg("eps"), nb::arg("weight").noconvert(), nb::arg("bias").noconvert(),
        threads(), precision());
  m.def("attention", &run_attention, nb::arg("qkv").noconvert(), nb::arg("n_head"), threads(), precision());
}

void bind_rows_and_grids(nb::module_& m) {
  m.def("layer_norm", &run_layer_norm, nb::arg("x").noconvert(), nb::arg("weight").noconvert(),
        nb::arg("bias").noconvert(), nb::arg("eps"));
  m.def("softmax", &run_softmax, nb::arg("x").noconvert(), nb::arg("scale") = 1.0f);
  m.def("add", &run_add, nb::arg("a").noconvert(), nb::arg("b").noconvert());
  m.def("depthwise_conv3x3", &run_depthwise_conv3x3, nb::arg("x").noconvert(), nb::arg("weight").noconvert(),
        nb::arg("bias").noconvert(), nb::arg("stride"));
  m.def("average_pool2x2", &run_average_pool2x2, nb::arg("x").noconvert());
  m.def("column_means", &run_column_means, nb::arg("x").noconvert());
  m.def("scale_columns", &run_scale_columns, nb::arg("x").noconvert(), nb::arg("scale").noconvert());
}

}  // namespace
}  // namespace palo

NB_MODULE(_test_kernels, m) {
  m.doc() = "The kernels one by one, for tests.";
  m.def("available_isas", &palo::available_isas);
  palo::bind_products(m);
  palo::bind_rows_and_grids(m);
  palo::bind_elementwise(m, "gelu_quick", &palo::KernelTable::gelu_quick);
  palo::bind_elementwise(m, "gelu_erf", &palo::KernelTable::gelu_erf);
  palo::bind_elementwise(m, "relu", &palo::KernelTable::relu);
  palo::bind_elementwise(m, "hardswish", &palo::KernelTable::hardswish);
  palo::bind_elementwise(m, "hardsigmoid", &palo::KernelTable::hardsigmoid);
}
