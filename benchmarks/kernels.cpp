// Speed of each kernel on one core, for every instruction set of this machine, at the shapes of ViT-L/14-336 and LDP:
//   cmake -S . -B build/benchmark -DPALO_CPP_TESTS=ON -DPALO_CPP_KERNELS_ONLY=ON && cmake --build build/benchmark
//   build/benchmark/palo_cpp_kernel_benchmark [ISA ...]
// GOP/s counts a multiply-add as two. Shares are of what peaks.h measures on the same core at the start: products
// against multiply-adds in registers, all else against a memcpy that moves as many bytes.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "kernels/format.h"
#include "peaks.h"

namespace {

using palo::best_s;
using palo::KernelTable;
using palo::Q8Kernels;

struct Bench {
  const KernelTable& kernels;
  double peak_f32, peak_int8;  // operations per second

  void product(const char* name, const char* shape, double n_operations, double peak,
               const std::function<void()>& run) const {
    print(name, shape, best_s(run), n_operations, "GOP", peak);
  }

  // A pass that reads and writes n_bytes in all.
  void pass(const char* name, const char* shape, int64_t n_bytes, const std::function<void()>& run) const {
    print(name, shape, best_s(run), static_cast<double>(n_bytes), "GB", palo::copy_speed(n_bytes));
  }

 private:
  void print(const char* name, const char* shape, double seconds, double amount, const char* unit, double peak) const {
    std::printf("%-11s %-20s %-16s %9.3f ms %8.1f %3s/s", kernels.isa, name, shape, seconds * 1e3,
                amount / seconds / 1e9, unit);
    if (peak > 0) std::printf("  %3.0f %%", 100 * amount / seconds / peak);
    std::printf("\n");
  }
};

std::vector<float> draw(int64_t n) {
  static std::mt19937 random(0);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

// Bytes at an address that 64 divides, as panels need.
class Bytes {
 public:
  explicit Bytes(int64_t n) : data_(static_cast<uint8_t*>(::operator new(n, std::align_val_t{64}))) {}
  ~Bytes() { ::operator delete(data_, std::align_val_t{64}); }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  uint8_t* data() { return data_; }
  float* floats() { return reinterpret_cast<float*>(data_); }

 private:
  uint8_t* data_;
};

int64_t divide_up(int64_t n, int64_t size) {
  return (n + size - 1) / size;
}

// Outputs, inputs: q, k and v apart, ffn up, ffn down, the projector's last layers, scores and values of attention.
struct Shape {
  int64_t n_out, n_in;
  const char* name;
};
constexpr Shape SHAPES[] = {{1024, 1024, "577x1024x1024"}, {4096, 1024, "577x4096x1024"}, {1024, 4096, "577x1024x4096"},
                            {2048, 2048, "577x2048x2048"}, {577, 64, "577x577x64"},       {64, 577, "577x64x577"}};

// Rows in blocks of 48, as the encoder's tasks have them: a block of inputs stays in the second-level cache.
constexpr int64_t BLOCK = 48;

void bench_linear_q8(const Bench& bench, const Q8Kernels& k, int64_t n_rows, int64_t n_out, int64_t n_in,
                     const char* shape) {
  const int64_t n_groups = divide_up(n_in, k.group);
  const int64_t panel_bytes = n_groups * k.panel_group_bytes, row_bytes = n_groups * k.row_group_bytes;
  const std::vector<float> w = draw(n_out * n_in), x = draw(n_rows * n_in);
  Bytes panels(divide_up(n_out, k.panel_width) * panel_bytes), rows(n_rows * row_bytes);
  std::vector<float> out(n_rows * n_out);
  const auto pack = [&](int64_t stride_out, int64_t stride_in) {
    for (int64_t o = 0; o < n_out; o += k.panel_width) {
      k.pack_panel(panels.data() + o / k.panel_width * panel_bytes, w.data() + o * stride_out,
                   std::min(k.panel_width, n_out - o), n_in, stride_out, stride_in);
    }
  };
  const std::string group = " /" + std::to_string(k.group);
  bench.pass("pack_q8 by outputs", shape, 5 * n_out * n_in, [&] { pack(1, n_out); });
  bench.pass("pack_q8 by inputs", shape, 5 * n_out * n_in, [&] { pack(n_in, 1); });
  bench.pass(("quantize_rows" + group).c_str(), shape, 5 * n_rows * n_in,
             [&] { k.quantize_rows(rows.data(), x.data(), n_rows, n_in, n_in); });
  bench.product(("linear_q8" + group).c_str(), shape, 2.0 * n_rows * n_out * n_in, bench.peak_int8, [&] {
    for (int64_t r = 0; r < n_rows; r += BLOCK) {
      k.linear(out.data() + r * n_out, rows.data() + r * row_bytes, panels.data(), nullptr, std::min(BLOCK, n_rows - r),
               n_out, n_in, n_out, {});
    }
  });
}

// Products of queries and keys, softmax, int8; operations are those of the products.
void bench_attention_weights(const Bench& bench) {
  constexpr int64_t N = 577, HEAD = 64;
  const palo::Format format(bench.kernels, palo::Precision::INT8);
  const std::vector<float> w = draw(N * HEAD), x = draw(N * HEAD);
  Bytes panels(format.panels_bytes(N, HEAD)), rows(N * format.row_bytes(HEAD)), out(N * format.row_bytes(N));
  std::vector<float> scratch(BLOCK * (N + 32));
  format.write_rows(rows.data(), x.data(), N, HEAD, HEAD);
  format.pack_panels(panels.data(), w.data(), N, HEAD, HEAD, 1);
  bench.product("attention_weights", "577x577x64", 2.0 * N * N * HEAD, bench.peak_int8, [&] {
    for (int64_t r = 0; r < N; r += BLOCK) {
      format.attention_weights(out.data() + r * format.row_bytes(N), rows.data() + r * format.row_bytes(HEAD),
                               panels.data(), scratch.data(), std::min(BLOCK, N - r), N, HEAD, 0.125f);
    }
  });
}

void bench_linear(const Bench& bench, int64_t n_rows, int64_t n_out, int64_t n_in, const char* shape) {
  const KernelTable& k = bench.kernels;
  const std::vector<float> w = draw(n_out * n_in), x = draw(n_rows * n_in);
  Bytes panels(divide_up(n_out, k.panel_width) * k.panel_width * n_in * 4);
  std::vector<float> out(n_rows * n_out);
  bench.pass("pack_panel", shape, 8 * n_out * n_in, [&] {
    for (int64_t o = 0; o < n_out; o += k.panel_width) {
      k.pack_panel(panels.floats() + o * n_in, w.data() + o * n_in, std::min(k.panel_width, n_out - o), n_in, n_in, 1);
    }
  });
  bench.product("linear", shape, 2.0 * n_rows * n_out * n_in, bench.peak_f32, [&] {
    for (int64_t r = 0; r < n_rows; r += BLOCK) {
      k.linear(out.data() + r * n_out, x.data() + r * n_in, panels.floats(), nullptr, std::min(BLOCK, n_rows - r),
               n_out, n_in, n_out, n_in);
    }
  });
}

void bench_rows(const Bench& bench) {
  const KernelTable& k = bench.kernels;
  const std::vector<float> weight = draw(1024), bias = draw(1024);
  std::vector<float> x = draw(577 * 1024), out(577 * 1024), scores = draw(577 * 577);
  Bytes rows(577 * 16 * k.q8.row_group_bytes);
  bench.pass("layer_norm", "577x1024", 8 * 577 * 1024,
             [&] { k.layer_norm(out.data(), x.data(), weight.data(), bias.data(), 577, 1024, 1e-5f); });
  bench.pass("layer_norm_q8", "577x1024", 5 * 577 * 1024,
             [&] { k.q8_wide.layer_norm(rows.data(), x.data(), weight.data(), bias.data(), 577, 1024, 1e-5f); });
  bench.pass("softmax", "577x577", 8 * 577 * 577, [&] { k.softmax(scores.data(), 577, 577, 577, 0.125f); });
  bench.pass("add", "577x1024", 12 * 577 * 1024, [&] { k.add(out.data(), out.data(), x.data(), 577 * 1024); });
}

void bench_elementwise(const Bench& bench) {
  const KernelTable& k = bench.kernels;
  const std::vector<float> values = draw(48 * 1024);
  std::vector<float> x = values;
  const auto run = [&](const char* name, void (*kernel)(float*, int64_t)) {
    x = values;
    bench.pass(name, "48x1024", 8 * 48 * 1024, [&] { kernel(x.data(), 48 * 1024); });
  };
  run("gelu_quick", k.gelu_quick);
  run("gelu_erf", k.gelu_erf);
  run("hardswish", k.hardswish);
}

void bench_ldp(const Bench& bench) {
  const KernelTable& k = bench.kernels;
  constexpr int64_t SIDE = 24, CHANNELS = 2048, N = SIDE * SIDE * CHANNELS;
  std::vector<float> x = draw(N), out(N), weight = draw(9 * CHANNELS), row(CHANNELS);
  for (const int64_t stride : {1, 2}) {
    const int64_t out_side = SIDE / stride;
    bench.product("depthwise_conv3x3", stride == 1 ? "24x24x2048" : "24x24x2048 / 2",
                  2.0 * 9 * out_side * out_side * CHANNELS, bench.peak_f32, [&] {
                    k.depthwise_conv3x3(out.data(), x.data(), weight.data(), nullptr, 0, out_side, SIDE, SIDE, CHANNELS,
                                        stride);
                  });
  }
  bench.pass("average_pool2x2", "24x24x2048", 5 * N,
             [&] { k.average_pool2x2(out.data(), x.data(), 0, SIDE / 2, SIDE, CHANNELS); });
  bench.pass("column_means", "576x2048", 4 * N, [&] {
    for (int64_t c = 0; c < CHANNELS; c += 64) k.column_means(row.data(), x.data(), c, c + 64, SIDE * SIDE, CHANNELS);
  });
  bench.pass("scale_columns", "576x2048", 8 * N,
             [&] { k.scale_columns(out.data(), row.data(), SIDE * SIDE, CHANNELS); });
  std::vector<float> pixels = draw(3 * 336 * 336), patches(576 * 588);
  bench.pass("patch_row", "24x24x588", 8 * 576 * 588, [&] {
    for (int64_t py = 0; py < 24; ++py) k.patch_row(patches.data() + py * 24 * 588, pixels.data(), py, 24, 14);
  });
}

void bench_isa(const std::string& isa) {
  const Bench bench{palo::kernels_of(isa), palo::peak_f32(isa), palo::peak_int8(isa)};
  std::printf("%s in registers: f32 %.0f GOP/s, int8 %.0f GOP/s\n", isa.c_str(), bench.peak_f32 / 1e9,
              bench.peak_int8 / 1e9);
  for (const auto& [n_out, n_in, shape] : SHAPES) {
    bench_linear_q8(bench, bench.kernels.q8, 577, n_out, n_in, shape);
    if (n_in % palo::Q8_WIDE_GROUP == 0) bench_linear_q8(bench, bench.kernels.q8_wide, 577, n_out, n_in, shape);
  }
  for (const auto& [n_out, n_in, shape] : SHAPES) bench_linear(bench, 577, n_out, n_in, shape);
  bench_attention_weights(bench);
  bench_rows(bench);
  bench_elementwise(bench);
  bench_ldp(bench);
}

void print_machine() {
  std::printf("one core at %.2f GHz", palo::clock_hz() / 1e9);
  for (const int64_t n_bytes : {int64_t{32} << 10, int64_t{512} << 10, int64_t{256} << 20}) {
    std::printf("; %lld KiB: copies %.0f GB/s, reads %.0f GB/s", static_cast<long long>(n_bytes >> 10),
                palo::copy_speed(n_bytes) / 1e9, palo::read_speed(n_bytes) / 1e9);
  }
  std::printf("\nshapes are rows x outputs x inputs, or rows x columns\n");
}

}  // namespace

int main(int argc, char** argv) {
  print_machine();
  std::vector<std::string> isas(argv + 1, argv + argc);
  if (isas.empty()) isas = palo::available_isas();
  for (const std::string& isa : isas) bench_isa(isa);
}
