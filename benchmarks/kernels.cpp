// Speed of each kernel on one core, for every instruction set of this machine, at the shapes of ViT-L/14-336 and LDP:
//   cmake -S . -B build/benchmark -DPALO_CPP_TESTS=ON -DPALO_CPP_KERNELS_ONLY=ON && cmake --build build/benchmark
//   build/benchmark/palo_cpp_kernel_benchmark [ISA ...]
// GOP/s counts a multiply-add as two; "peak" is what the units for it could do at the clock measured at the start.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <new>
#include <random>
#include <vector>

#include "kernels/kernel_table.h"

namespace {

using palo::KernelTable;
using palo::Q8_GROUP;

// Time this process has computed: other processes' share of the core does not count.
double now_s() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

// The best of many runs: what the machine can do when nothing else wants it.
double best_s(const std::function<void()>& run) {
  double best = 1e9;
  const double end = now_s() + 0.4;
  for (int i = 0; i < 3 || now_s() < end; ++i) {
    const double start = now_s();
    run();
    best = std::min(best, now_s() - start);
  }
  return best;
}

// Cycles per second, from a chain of additions that take one cycle each.
double clock_hz() {
  constexpr int64_t N = 20'000'000;
  const double seconds = best_s([] {
    uint64_t x = 1;
    for (int64_t i = 0; i < N; i += 8) {
      for (int k = 0; k < 8; ++k) {
        x += 3;
        asm volatile("" : "+r"(x));
      }
    }
  });
  return static_cast<double>(N) / seconds;
}

// Operations per cycle of one core with two multiply-add units: lanes * 2 * 2, for int8 times inputs per lane.
struct Peak {
  const char* isa;
  double f32, int8;
};
// avx2: vpmaddwd, 16 int16. avx512vnni: cores with two 512-bit units (servers), half on others.
constexpr Peak PEAKS[] = {
    {"avx512vnni", 64, 256}, {"avxvnni", 32, 128}, {"avx2", 32, 64}, {"neon", 16, 64}, {"ref", 16, 0}};

struct Bench {
  const KernelTable& kernels;
  double peak_f32, peak_int8;  // GOP/s

  void report(const char* name, const char* shape, double n_operations, double peak, const std::function<void()>& run) {
    const double seconds = best_s(run);
    const double speed = n_operations / seconds / 1e9;
    std::printf("%-11s %-20s %-16s %9.3f ms %8.1f G%s/s", kernels.isa, name, shape, seconds * 1e3, speed,
                peak > 0 ? "OP" : "element");
    if (peak > 0) std::printf("  %3.0f %% of peak", 100 * speed / peak);
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

// Bytes at an address that 64 divides, as panels ask.
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

// Rows in blocks of 48, as the encoder's tasks have them: a block of inputs stays in the second-level cache.
constexpr int64_t BLOCK = 48;

void bench_linear_q8(Bench& bench, int64_t n_rows, int64_t n_out, int64_t n_in, const char* shape) {
  const KernelTable& k = bench.kernels;
  if (k.linear_q8 == nullptr) return;
  const int64_t n_groups = divide_up(n_in, Q8_GROUP);
  const int64_t panel_bytes = n_groups * k.q8_panel_group_bytes, row_bytes = n_groups * k.q8_row_group_bytes;
  const std::vector<float> w = draw(n_out * n_in), x = draw(n_rows * n_in);
  Bytes panels(divide_up(n_out, k.q8_panel_width) * panel_bytes), rows(n_rows * row_bytes);
  std::vector<float> out(n_rows * n_out);
  const auto pack = [&](int64_t stride_out, int64_t stride_in) {
    for (int64_t o = 0; o < n_out; o += k.q8_panel_width) {
      k.pack_q8_panel(panels.data() + o / k.q8_panel_width * panel_bytes, w.data() + o * stride_out,
                      std::min(k.q8_panel_width, n_out - o), n_in, stride_out, stride_in);
    }
  };
  bench.report("pack_q8 by outputs", shape, n_out * n_in, 0, [&] { pack(1, n_out); });
  bench.report("pack_q8 by inputs", shape, n_out * n_in, 0, [&] { pack(n_in, 1); });
  bench.report("quantize_rows", shape, n_rows * n_in, 0,
               [&] { k.quantize_rows(rows.data(), x.data(), n_rows, n_in, n_in); });
  bench.report("linear_q8", shape, 2.0 * n_rows * n_out * n_in, bench.peak_int8, [&] {
    for (int64_t r = 0; r < n_rows; r += BLOCK) {
      k.linear_q8(out.data() + r * n_out, rows.data() + r * row_bytes, panels.data(), nullptr,
                  std::min(BLOCK, n_rows - r), n_out, n_in, n_out);
    }
  });
}

void bench_linear(Bench& bench, int64_t n_rows, int64_t n_out, int64_t n_in, const char* shape) {
  const KernelTable& k = bench.kernels;
  const std::vector<float> w = draw(n_out * n_in), x = draw(n_rows * n_in);
  Bytes panels(divide_up(n_out, k.panel_width) * k.panel_width * n_in * 4);
  std::vector<float> out(n_rows * n_out);
  bench.report("pack_panel", shape, n_out * n_in, 0, [&] {
    for (int64_t o = 0; o < n_out; o += k.panel_width) {
      k.pack_panel(panels.floats() + o * n_in, w.data() + o * n_in, std::min(k.panel_width, n_out - o), n_in, n_in, 1);
    }
  });
  bench.report("linear", shape, 2.0 * n_rows * n_out * n_in, bench.peak_f32, [&] {
    for (int64_t r = 0; r < n_rows; r += BLOCK) {
      k.linear(out.data() + r * n_out, x.data() + r * n_in, panels.floats(), nullptr, std::min(BLOCK, n_rows - r),
               n_out, n_in, n_out, n_in);
    }
  });
}

void bench_rows(Bench& bench) {
  const KernelTable& k = bench.kernels;
  const std::vector<float> weight = draw(1024), bias = draw(1024);
  std::vector<float> x = draw(577 * 1024), out(577 * 1024), scores = draw(577 * 577);
  Bytes rows(k.layer_norm_q8 == nullptr ? 1 : 577 * 16 * k.q8_row_group_bytes);
  bench.report("layer_norm", "577x1024", 577 * 1024, 0,
               [&] { k.layer_norm(out.data(), x.data(), weight.data(), bias.data(), 577, 1024, 1e-5f); });
  if (k.layer_norm_q8 != nullptr) {
    bench.report("layer_norm_q8", "577x1024", 577 * 1024, 0,
                 [&] { k.layer_norm_q8(rows.data(), x.data(), weight.data(), bias.data(), 577, 1024, 1e-5f); });
  }
  bench.report("softmax", "577x577", 577 * 577, 0, [&] { k.softmax(scores.data(), 577, 577, 577, 0.125f); });
  bench.report("add", "577x1024", 577 * 1024, 0, [&] { k.add(out.data(), out.data(), x.data(), 577 * 1024); });
}

void bench_elementwise(Bench& bench) {
  const KernelTable& k = bench.kernels;
  const std::vector<float> values = draw(48 * 1024);
  std::vector<float> x = values;
  const auto run = [&](const char* name, void (*kernel)(float*, int64_t)) {
    x = values;
    bench.report(name, "48x1024", 48 * 1024, 0, [&] { kernel(x.data(), 48 * 1024); });
  };
  run("gelu_quick", k.gelu_quick);
  run("gelu_erf", k.gelu_erf);
  run("hardswish", k.hardswish);
}

void bench_ldp(Bench& bench) {
  const KernelTable& k = bench.kernels;
  constexpr int64_t SIDE = 24, CHANNELS = 2048, N = SIDE * SIDE * CHANNELS;
  std::vector<float> x = draw(N), out(N), weight = draw(9 * CHANNELS), row(CHANNELS);
  for (const int64_t stride : {1, 2}) {
    const int64_t out_side = SIDE / stride;
    bench.report("depthwise_conv3x3", stride == 1 ? "24x24x2048" : "24x24x2048 / 2",
                 2.0 * 9 * out_side * out_side * CHANNELS, bench.peak_f32, [&] {
                   k.depthwise_conv3x3(out.data(), x.data(), weight.data(), nullptr, 0, out_side, SIDE, SIDE, CHANNELS,
                                       stride);
                 });
  }
  bench.report("average_pool2x2", "24x24x2048", N, 0,
               [&] { k.average_pool2x2(out.data(), x.data(), 0, SIDE / 2, SIDE, CHANNELS); });
  bench.report("column_means", "576x2048", N, 0, [&] {
    for (int64_t c = 0; c < CHANNELS; c += 64) k.column_means(row.data(), x.data(), c, c + 64, SIDE * SIDE, CHANNELS);
  });
  bench.report("scale_columns", "576x2048", N, 0,
               [&] { k.scale_columns(out.data(), row.data(), SIDE * SIDE, CHANNELS); });
  std::vector<float> pixels = draw(3 * 336 * 336), patches(576 * 588);
  bench.report("patch_row", "24x24x588", 576 * 588, 0, [&] {
    for (int64_t py = 0; py < 24; ++py) k.patch_row(patches.data() + py * 24 * 588, pixels.data(), py, 24, 14);
  });
}

void bench_isa(const std::string& isa, double ghz) {
  const Peak* peak = std::find_if(std::begin(PEAKS), std::end(PEAKS), [&](const Peak& p) { return isa == p.isa; });
  Bench bench{palo::kernels_of(isa), peak->f32 * ghz, peak->int8 * ghz};
  bench_linear_q8(bench, 577, 1024, 1024, "577x1024x1024");
  bench_linear_q8(bench, 577, 4096, 1024, "577x4096x1024");
  bench_linear_q8(bench, 577, 1024, 4096, "577x1024x4096");
  bench_linear_q8(bench, 577, 577, 64, "577x577x64");
  bench_linear_q8(bench, 577, 64, 577, "577x64x577");
  bench_linear(bench, 577, 1024, 1024, "577x1024x1024");
  bench_linear(bench, 577, 1024, 4096, "577x1024x4096");
  bench_linear(bench, 577, 577, 64, "577x577x64");
  bench_linear(bench, 577, 64, 577, "577x64x577");
  bench_rows(bench);
  bench_elementwise(bench);
  bench_ldp(bench);
}

}  // namespace

int main(int argc, char** argv) {
  const double ghz = clock_hz() / 1e9;
  std::printf("one core at %.2f GHz; shapes are rows x outputs x inputs, or rows x columns\n", ghz);
  std::vector<std::string> isas(argv + 1, argv + argc);
  if (isas.empty()) isas = palo::available_isas();
  for (const std::string& isa : isas) bench_isa(isa, ghz);
}
