// palo_cpp._core.kernels: each kernel on numpy arrays with a number of threads, for tests against formulas.
#include <algorithm>

#include "bindings.h"
#include "kernels/threaded.h"

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
                              std::to_string(got));
}

void check_not_empty(const auto& array) {
  if (array.size() == 0) throw std::invalid_argument("array: expected values, got an empty one");
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

LinearWeights pack(const Matrix& weight, const Vector& bias) {
  const KernelTable& table = kernels();
  const int64_t n_out = size_of(weight, 0), n_in = size_of(weight, 1);
  LinearWeights result{
      .panels = Buffer(packed_size(table, n_out, n_in)), .bias = copy_of(bias), .n_out = n_out, .n_in = n_in};
  for (int64_t o = 0; o < n_out; o += table.panel_width) {
    table.pack_panel(result.panels.data() + o * n_in, weight.data() + o * n_in, std::min(table.panel_width, n_out - o),
                     n_in, n_in, 1);
  }
  return result;
}

NumpyArray run_linear(const Matrix& x, const Matrix& weight, const Vector& bias, int n_threads) {
  check_not_empty(x);
  check_not_empty(weight);
  check_equal("columns of x", size_of(weight, 1), size_of(x, 1));
  if (bias.size() != 0) check_equal("bias", size_of(weight, 0), size_of(bias, 0));
  NumpyArray out = new_array({x.shape(0), weight.shape(0)});
  const nb::gil_scoped_release release;
  ThreadPool pool(n_threads);
  linear({kernels(), pool}, out.data(), x.data(), pack(weight, bias), size_of(x, 0));
  return out;
}

NumpyArray run_layer_norm(const Matrix& x, const Vector& weight, const Vector& bias, float eps, int n_threads) {
  check_not_empty(x);
  check_equal("weight", size_of(x, 1), size_of(weight, 0));
  check_equal("bias", size_of(x, 1), size_of(bias, 0));
  NumpyArray out = new_array({x.shape(0), x.shape(1)});
  ThreadPool pool(n_threads);
  layer_norm({kernels(), pool}, out.data(), x.data(), {copy_of(weight), copy_of(bias)}, size_of(x, 0), size_of(x, 1),
             eps);
  return out;
}

NumpyArray run_softmax(const Matrix& x, float scale) {
  check_not_empty(x);
  NumpyArray out = copy_as_array(x.data(), {x.shape(0), x.shape(1)});
  kernels().softmax(out.data(), size_of(x, 0), size_of(x, 1), size_of(x, 1), scale);
  return out;
}

NumpyArray run_attention(const Matrix& q, const Matrix& k, const Matrix& v, int64_t n_head, int n_threads) {
  check_not_empty(q);
  for (const Matrix* other : {&k, &v}) {
    check_equal("rows", size_of(q, 0), size_of(*other, 0));
    check_equal("columns", size_of(q, 1), size_of(*other, 1));
  }
  if (n_head < 1 || size_of(q, 1) % n_head != 0)
    throw std::invalid_argument("n_head: expected a divisor of the columns");
  NumpyArray out = new_array({q.shape(0), q.shape(1)});
  ThreadPool pool(n_threads);
  const Compute compute{kernels(), pool};
  AttentionScratch scratch(compute, size_of(q, 0), n_head, size_of(q, 1) / n_head);
  attention(compute, out.data(), q.data(), k.data(), v.data(), scratch, size_of(q, 0), n_head, size_of(q, 1) / n_head);
  return out;
}

NumpyArray run_elementwise(Activation activation, const Vector& x, int n_threads) {
  NumpyArray out = copy_as_array(x.data(), {x.shape(0)});
  ThreadPool pool(n_threads);
  apply({kernels(), pool}, out.data(), static_cast<int64_t>(x.size()), activation);
  return out;
}

NumpyArray run_add(const Vector& a, const Vector& b, int n_threads) {
  check_equal("b", size_of(a, 0), size_of(b, 0));
  NumpyArray out = new_array({a.shape(0)});
  ThreadPool pool(n_threads);
  add({kernels(), pool}, out.data(), a.data(), b.data(), size_of(a, 0));
  return out;
}

NumpyArray run_depthwise_conv3x3(const Grid& x, const Matrix& weight, const Vector& bias, int64_t stride,
                                 int n_threads) {
  check_not_empty(x);
  check_equal("rows of weight", 9, size_of(weight, 0));
  check_equal("columns of weight", size_of(x, 2), size_of(weight, 1));
  if (bias.size() != 0) check_equal("bias", size_of(x, 2), size_of(bias, 0));
  if (stride < 1 || stride > 2) throw std::invalid_argument("stride: expected 1 or 2");
  const size_t step = static_cast<size_t>(stride);
  NumpyArray out = new_array({(x.shape(0) + step - 1) / step, (x.shape(1) + step - 1) / step, x.shape(2)});
  ThreadPool pool(n_threads);
  depthwise_conv3x3({kernels(), pool}, out.data(), x.data(), weight.data(), bias.size() == 0 ? nullptr : bias.data(),
                    size_of(x, 0), size_of(x, 1), size_of(x, 2), stride);
  return out;
}

NumpyArray run_average_pool2x2(const Grid& x, int n_threads) {
  NumpyArray out = new_array({x.shape(0) / 2, x.shape(1) / 2, x.shape(2)});
  ThreadPool pool(n_threads);
  average_pool2x2({kernels(), pool}, out.data(), x.data(), size_of(x, 0), size_of(x, 1), size_of(x, 2));
  return out;
}

NumpyArray run_column_means(const Matrix& x, int n_threads) {
  check_not_empty(x);
  NumpyArray out = new_array({x.shape(1)});
  ThreadPool pool(n_threads);
  column_means({kernels(), pool}, out.data(), x.data(), size_of(x, 0), size_of(x, 1));
  return out;
}

NumpyArray run_scale_columns(const Matrix& x, const Vector& scale, int n_threads) {
  check_equal("scale", size_of(x, 1), size_of(scale, 0));
  NumpyArray out = copy_as_array(x.data(), {x.shape(0), x.shape(1)});
  ThreadPool pool(n_threads);
  scale_columns({kernels(), pool}, out.data(), scale.data(), size_of(x, 0), size_of(x, 1));
  return out;
}

void bind_elementwise(nb::module_& m, const char* name, Activation KernelTable::* kernel) {
  m.def(
      name, [kernel](const Vector& x, int n_threads) { return run_elementwise(kernels().*kernel, x, n_threads); },
      nb::arg("x").noconvert(), nb::arg("n_threads") = 1);
}

}  // namespace

void bind_kernels(nb::module_& m) {
  const auto threads = [] { return nb::arg("n_threads") = 1; };
  m.def("linear", &run_linear, nb::arg("x").noconvert(), nb::arg("weight").noconvert(), nb::arg("bias").noconvert(),
        threads());
  m.def("layer_norm", &run_layer_norm, nb::arg("x").noconvert(), nb::arg("weight").noconvert(),
        nb::arg("bias").noconvert(), nb::arg("eps"), threads());
  m.def("softmax", &run_softmax, nb::arg("x").noconvert(), nb::arg("scale") = 1.0f);
  m.def("attention", &run_attention, nb::arg("q").noconvert(), nb::arg("k").noconvert(), nb::arg("v").noconvert(),
        nb::arg("n_head"), threads());
  m.def("add", &run_add, nb::arg("a").noconvert(), nb::arg("b").noconvert(), threads());
  m.def("depthwise_conv3x3", &run_depthwise_conv3x3, nb::arg("x").noconvert(), nb::arg("weight").noconvert(),
        nb::arg("bias").noconvert(), nb::arg("stride"), threads());
  m.def("average_pool2x2", &run_average_pool2x2, nb::arg("x").noconvert(), threads());
  m.def("column_means", &run_column_means, nb::arg("x").noconvert(), threads());
  m.def("scale_columns", &run_scale_columns, nb::arg("x").noconvert(), nb::arg("scale").noconvert(), threads());
  bind_elementwise(m, "gelu_quick", &KernelTable::gelu_quick);
  bind_elementwise(m, "gelu_erf", &KernelTable::gelu_erf);
  bind_elementwise(m, "relu", &KernelTable::relu);
  bind_elementwise(m, "hardswish", &KernelTable::hardswish);
  bind_elementwise(m, "hardsigmoid", &KernelTable::hardsigmoid);
}

}  // namespace palo
