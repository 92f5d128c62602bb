// Speed of the products with GGUF's block types on one core, for every instruction set of this machine, at the shapes
// of a 1.4B and a 7B language model; and, for one row, of reading weights that no cache holds, compared with a plain
// read.
//   cmake -S . -B build/benchmark -DPALO_CPP_TESTS=ON -DPALO_CPP_KERNELS_ONLY=ON && cmake --build build/benchmark
//   build/benchmark/palo_cpp_block_benchmark [--read [--one-thread]] [--types Q4_0,Q6_K] [ISA ...]
// GOP/s counts a multiply-add as two. --read: GB/s of weights that no cache holds, half of the panels per thread.
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
  for (const int64_t n_rows : {1, 2, 3, 4, 6, 8, 16, 90}) {
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

// The XOR of all bytes, prefetched as far ahead as in the kernels.
uint64_t plain_read(const uint8_t* p, int64_t n) {
  using Words [[gnu::vector_size(16)]] = uint64_t;
  Words a{}, b{}, c{}, d{};
  for (int64_t i = 0; i < n; i += 64) {
    __builtin_prefetch(p + i + 8192);
    Words words[4];
    std::memcpy(words, p + i, sizeof(words));
    a ^= words[0];
    b ^= words[1];
    c ^= words[2];
    d ^= words[3];
  }
  const Words sum = (a ^ b) ^ (c ^ d);
  return sum[0] ^ sum[1];
}

// Matrices of n_out outputs, one after the other as the layers of a model: 256 MiB that no cache holds, half of the
// outputs per thread in tasks of TASK. GB/s of a plain read and of few rows, GOP/s of many, in turn, the best of all.
constexpr int64_t TASK = 512;

class ColdMatrices {
 public:
  ColdMatrices(const BlockKernels& kernels, int64_t n_in, int64_t n_out, int n_threads)
      : k_(kernels),
        n_in_(n_in),
        n_out_(n_out),
        n_threads_(n_threads),
        matrix_bytes_(n_out / kernels.panel_width * kernels.panel_bytes(n_in)),
        n_matrices_(std::max(int64_t{2}, (int64_t{1} << 28) / matrix_bytes_)),
        panels_(n_matrices_ * matrix_bytes_),
        rows_(MAX_ROWS * kernels.row_bytes(n_in)),
        out_(MAX_ROWS * n_out) {
    fill(panels_.data(), panels_.size());
    k_.quantize_rows(rows_.data(), draw(MAX_ROWS * n_in).data(), MAX_ROWS, n_in, n_in);
  }
  static constexpr int64_t MAX_ROWS = 640;

  double gigabytes() const { return static_cast<double>(panels_.size()) / 1e9; }
  double operations() const { return 2.0 * static_cast<double>(n_matrices_ * n_out_ * n_in_); }

  double read_s() {
    const int64_t half = panels_.size() / 2 / 64 * 64;
    return time([&](int thread) { sums_[thread] = plain_read(panels_.data() + thread * half, half); });
  }
  double multiply_s(int64_t n_rows) {
    return time([&](int thread) {
      for (int64_t m = 0; m < n_matrices_; ++m) {
        const int64_t end = (thread + 1) * n_out_ / 2;
        for (int64_t o = thread * n_out_ / 2; o < end; o += TASK) {
          k_.multiply(out_.data() + o, rows_.data(),
                      panels_.data() + m * matrix_bytes_ + o / k_.panel_width * k_.panel_bytes(n_in_), n_rows,
                      std::min(TASK, end - o), n_in_, n_out_);
        }
      }
    });
  }

 private:
  double time(const std::function<void(int)>& part) const {
    const double start = now_s();
    n_threads_ == 2 ? on_two_threads(part) : (part(0), part(1));
    return now_s() - start;
  }

  const BlockKernels& k_;
  int64_t n_in_, n_out_;
  int n_threads_;
  int64_t matrix_bytes_, n_matrices_;
  ByteBuffer panels_, rows_;
  std::vector<float> out_;
  uint64_t sums_[2];
};

void bench_read(const KernelTable& kernels, const Type& type, int64_t n_in, int64_t n_out, int n_threads) {
  ColdMatrices matrices(palo::block_kernels(kernels, type.type), n_in, n_out, n_threads);
  constexpr int64_t ROWS[] = {1, 2, 3, 4, 5, 8, 16, 144, 640};
  double read_s = 1e9, best[std::size(ROWS)];
  std::fill(std::begin(best), std::end(best), 1e9);
  const double end = now_s() + 3;
  for (int turn = 0; turn < 3; ++turn) {
    for (int i = 0; i < 3; ++i) read_s = std::min(read_s, matrices.read_s());
    for (size_t r = 0; r < std::size(ROWS); ++r) {
      for (int i = 0; i < (ROWS[r] <= 16 ? 2 : 1); ++i) {
        if (turn == 0 || now_s() < end) best[r] = std::min(best[r], matrices.multiply_s(ROWS[r]));
      }
    }
  }
  std::printf("%-11s %-5s %5lldx%-5lld %d threads, GB/s: plain read %5.1f", kernels.isa, type.name,
              static_cast<long long>(n_in), static_cast<long long>(n_out), n_threads, matrices.gigabytes() / read_s);
  for (size_t r = 0; r < std::size(ROWS); ++r) {
    const bool is_many = ROWS[r] > 4;
    const double speed = is_many ? static_cast<double>(ROWS[r]) * matrices.operations() / 1e9 : matrices.gigabytes();
    std::printf("%s  %lld: %.*f", ROWS[r] == 5 ? "; GOP/s:" : "", static_cast<long long>(ROWS[r]), is_many ? 0 : 1,
                speed / best[r]);
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  bool is_read = false;
  double min_s = 0.1;
  int n_threads = 2;
  std::string types;
  std::vector<std::string> isas;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--read") == 0) {
      is_read = true;
    } else if (std::strcmp(argv[i], "--one-thread") == 0) {
      n_threads = 1;
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
        bench_read(kernels, type, 4096, 4096, n_threads);
        bench_read(kernels, type, 11008, 4096, n_threads);
        bench_read(kernels, type, 2048, 5632, n_threads);
      } else {
        bench_rows(kernels, type, 2048, 512, min_s);
        bench_rows(kernels, type, 4096, 512, min_s);
        bench_rows(kernels, type, 11008, 512, min_s);
      }
    }
  }
}
