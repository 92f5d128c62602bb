// Speed of the products with GGUF's block types on one core, for every instruction set of this machine, at the shapes
// of a 1.4B and a 7B language model; and, for one row, of reading weights that no cache holds beside a plain read.
//   cmake -S . -B build/benchmark -DPALO_CPP_TESTS=ON -DPALO_CPP_KERNELS_ONLY=ON && cmake --build build/benchmark
//   build/benchmark/palo_cpp_block_benchmark [--read] [--types Q4_0,Q6_K] [ISA ...]
// GOP/s counts a multiply-add as two. --read: two threads, each with half of the panels.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/block_kernels.h"
#include "kernels/buffer.h"

namespace {

using palo::BlockKernels;
using palo::BlockType;
using palo::ByteBuffer;
using palo::KernelTable;

struct Type {
  const char* name;
  BlockType type;
  double bits;  // per weight
};
constexpr Type TYPES[] = {{"Q4_0", BlockType::Q4_0, 4.5},    {"Q8_0", BlockType::Q8_0, 8.5},
                          {"Q4_K", BlockType::Q4_K, 4.5},    {"Q5_K", BlockType::Q5_K, 5.5},
                          {"Q6_K", BlockType::Q6_K, 6.5625}, {"F16", BlockType::F16, 16}};

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double best_s(double min_s, const std::function<void()>& run) {
  double best = 1e9;
  const double end = now_s() + min_s;
  for (int i = 0; i < 3 || now_s() < end; ++i) {
    const double start = now_s();
    run();
    best = std::min(best, now_s() - start);
  }
  return best;
}

// Random bytes whose pairs are all small f16, so that no scale is infinite.
void fill(uint8_t* p, int64_t n) {
  uint64_t x = 1;
  for (int64_t i = 0; i + 8 <= n; i += 8) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    const uint64_t bytes = (x ^ x >> 31) & 0xBFFFBFFFBFFFBFFFu;
    std::memcpy(p + i, &bytes, 8);
  }
}

std::vector<float> draw(int64_t n) {
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

// n_rows rows of activations, panels as a task of the backend has them: a slice of the outputs that it takes at once.
void bench_rows(const KernelTable& kernels, const Type& type, int64_t n_in, int64_t n_out, double min_s) {
  const BlockKernels& k = palo::block_kernels(kernels, type.type);
  ByteBuffer panels(n_out / k.panel_width * k.panel_bytes(n_in));
  fill(panels.data(), panels.size());
  const std::vector<float> x = draw(640 * n_in);
  ByteBuffer rows(640 * k.row_bytes(n_in));
  std::vector<float> out(640 * n_out);
  std::printf("%-11s %-5s %5lldx%-5lld", kernels.isa, type.name, static_cast<long long>(n_in),
              static_cast<long long>(n_out));
  for (const int64_t n_rows : {1, 2, 4, 16, 144, 640}) {
    k.quantize_rows(rows.data(), x.data(), n_rows, n_in, n_in);
    const double seconds =
        best_s(min_s, [&] { k.multiply(out.data(), rows.data(), panels.data(), n_rows, n_out, n_in, n_out); });
    std::printf("  %lld: %6.1f", static_cast<long long>(n_rows), 2.0 * n_rows * n_out * n_in / seconds / 1e9);
  }
  const double quantize_s = best_s(min_s / 4, [&] { k.quantize_rows(rows.data(), x.data(), 144, n_in, n_in); });
  std::printf(" GOP/s  quantize %.1f G/s\n", 144 * n_in / quantize_s / 1e9);
}

// Both threads run `part(thread)`.
void on_two_threads(const std::function<void(int)>& part) {
  std::thread other(part, 1);
  part(0);
  other.join();
}

uint64_t plain_read(const uint8_t* p, int64_t n) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < n; i += 64) {
    __builtin_prefetch(p + i + 8192);
    uint64_t words[8];
    std::memcpy(words, p + i, 64);
    for (int k = 0; k < 8; ++k) sums[k] ^= words[k];
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums) sum += part;
  return sum;
}

// GB/s of one row against about a GiB of panels and of a plain read of the same bytes, in turn.
void bench_read(const KernelTable& kernels, const Type& type, int64_t n_in, int n_threads) {
  const BlockKernels& k = palo::block_kernels(kernels, type.type);
  const int64_t n_panels = (int64_t{1} << 29) / k.panel_bytes(n_in) / 2 * 2;
  ByteBuffer panels(n_panels * k.panel_bytes(n_in)), row(k.row_bytes(n_in));
  fill(panels.data(), panels.size());
  k.quantize_rows(row.data(), draw(n_in).data(), 1, n_in, n_in);
  std::vector<float> out(n_panels * k.panel_width);
  const auto run = [&](const std::function<void(int)>& part) {
    n_threads == 2 ? on_two_threads(part) : (part(0), part(1));
  };
  uint64_t sums[2];
  double read_s = 1e9, multiply_s = 1e9;
  for (int i = 0; i < 5; ++i) {
    const int64_t half = n_panels / 2 * k.panel_bytes(n_in), n_out = n_panels / 2 * k.panel_width;
    read_s = std::min(read_s, best_s(0, [&] {
                        run([&](int thread) { sums[thread] = plain_read(panels.data() + thread * half, half); });
                      }));
    multiply_s = std::min(multiply_s, best_s(0, [&] {
                            run([&](int thread) {
                              k.multiply(out.data() + thread * n_out, row.data(), panels.data() + thread * half, 1,
                                         n_out, n_in, n_out);
                            });
                          }));
  }
  const double gigabytes = static_cast<double>(panels.size()) / 1e9;
  std::printf("%-11s %-5s one row, %lld inputs, %d threads: %5.1f GB/s, plain read %5.1f GB/s (%d)\n", kernels.isa,
              type.name, static_cast<long long>(n_in), n_threads, gigabytes / multiply_s, gigabytes / read_s,
              static_cast<int>((sums[0] ^ sums[1]) & 1));
}

}  // namespace

int main(int argc, char** argv) {
  bool is_read = false;
  double min_s = 0.1;
  std::string types;
  std::vector<std::string> isas;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--read") == 0) {
      is_read = true;
    } else if (std::strcmp(argv[i], "--types") == 0 && i + 1 < argc) {
      types = std::string(",") + argv[++i] + ",";
    } else {
      isas.push_back(argv[i]);
    }
  }
  if (isas.empty()) isas = palo::available_isas();
  for (const std::string& isa : isas) {
    const KernelTable& kernels = palo::kernels_of(isa);
    for (const Type& type : TYPES) {
      if (!types.empty() && types.find(std::string(",") + type.name + ",") == std::string::npos) continue;
      if (is_read) {
        for (const int n_threads : {1, 2}) bench_read(kernels, type, 4096, n_threads);
      } else {
        bench_rows(kernels, type, 2048, 512, min_s);
        bench_rows(kernels, type, 4096, 512, min_s);
        bench_rows(kernels, type, 11008, 512, min_s);
      }
    }
  }
}
