// Kernels on buffers of exactly the promised sizes: a read or write beyond them is the sanitizer's to find.
#include <algorithm>
#include <cmath>
#include <random>

#include "check.h"
#include "kernels/threaded.h"

namespace {

using palo::Buffer;
using palo::Compute;
using palo::LinearWeights;
using palo::ThreadPool;

constexpr int64_t SIZES[] = {1, 2, 7, 8, 9, 16, 17, 65};
constexpr int THREADS[] = {1, 2, 7};

Buffer draw(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Buffer result(n);
  for (int64_t i = 0; i < n; ++i) result.data()[i] = normal(random);
  return result;
}

LinearWeights pack(const Buffer& weight, Buffer bias, int64_t n_out, int64_t n_in) {
  const palo::KernelTable& kernels = palo::kernels();
  LinearWeights result{Buffer(palo::packed_size(kernels, n_out, n_in)), std::move(bias), n_out, n_in};
  for (int64_t o = 0; o < n_out; o += kernels.panel_width) {
    kernels.pack_panel(result.panels.data() + o * n_in, weight.data() + o * n_in,
                       std::min(kernels.panel_width, n_out - o), n_in, n_in, 1);
  }
  return result;
}

bool are_close(double a, double b) {
  return std::abs(a - b) <= 1e-5 * (1.0 + std::abs(b));
}

TEST(linear_of_all_sizes_and_threads) {
  for (const int64_t n_rows : SIZES) {
    for (const int64_t n_out : SIZES) {
      const int64_t n_in = n_rows == 17 ? 300 : n_out;
      const Buffer x = draw(n_rows * n_in, 1), weight = draw(n_out * n_in, 2);
      const LinearWeights packed = pack(weight, draw(n_out, 3), n_out, n_in);
      for (const int n_threads : THREADS) {
        ThreadPool pool(n_threads);
        Buffer out(n_rows * n_out);
        linear({palo::kernels(), pool}, out.data(), x.data(), packed, n_rows);
        for (int64_t r = 0; r < n_rows; ++r) {
          double sum = packed.bias.data()[n_out - 1];
          for (int64_t i = 0; i < n_in; ++i)
            sum += double{x.data()[r * n_in + i]} * weight.data()[(n_out - 1) * n_in + i];
          CHECK(are_close(out.data()[r * n_out + n_out - 1], sum));
        }
      }
    }
  }
}

TEST(attention_of_equal_keys_is_the_mean_of_the_values) {
  for (const int64_t n_tokens : SIZES) {
    for (const int64_t head_size : {1, 7, 16}) {
      const int64_t n_head = 3, n_embd = n_head * head_size;
      Buffer keys(n_tokens * n_embd), out(n_tokens * n_embd);
      std::fill_n(keys.data(), keys.size(), 0.5f);
      const Buffer values = draw(n_tokens * n_embd, 1), queries = draw(n_tokens * n_embd, 2);
      ThreadPool pool(3);
      const Compute compute{palo::kernels(), pool};
      palo::AttentionScratch scratch(compute, n_tokens, n_head, head_size);
      attention(compute, out.data(), queries.data(), keys.data(), values.data(), scratch, n_tokens, n_head, head_size);
      double mean = 0.0;
      for (int64_t t = 0; t < n_tokens; ++t) mean += values.data()[t * n_embd + n_embd - 1] / n_tokens;
      CHECK(are_close(out.data()[out.size() - 1], mean));
    }
  }
}

TEST(convolution_of_ones_counts_the_taps_inside) {
  for (const int64_t side : {1, 2, 5, 9}) {
    for (const int64_t stride : {1, 2}) {
      const int64_t n_channels = 5, out_side = (side + stride - 1) / stride;
      Buffer in(side * side * n_channels), weight(9 * n_channels), out(out_side * out_side * n_channels);
      std::fill_n(in.data(), in.size(), 1.0f);
      std::fill_n(weight.data(), weight.size(), 1.0f);
      ThreadPool pool(2);
      palo::depthwise_conv3x3({palo::kernels(), pool}, out.data(), in.data(), weight.data(), nullptr, side, side,
                              n_channels, stride);
      CHECK(out.data()[0] == (side == 1 ? 1.0f : 4.0f));
      Buffer pooled((side / 2) * (side / 2) * n_channels);
      palo::average_pool2x2({palo::kernels(), pool}, pooled.data(), in.data(), side, side, n_channels);
      for (int64_t i = 0; i < pooled.size(); ++i) CHECK(pooled.data()[i] == 1.0f);
    }
  }
}

TEST(parallel_for_runs_each_task_once_and_passes_exceptions_on) {
  for (const int n_threads : THREADS) {
    ThreadPool pool(n_threads);
    for (int repeat = 0; repeat < 200; ++repeat) {
      std::vector<int> counts(repeat, 0);
      pool.parallel_for(repeat, [&](int64_t task, int worker) { counts[task] += worker >= 0 && worker < n_threads; });
      for (const int count : counts) CHECK(count == 1);
    }
    const auto failing = [](int64_t task, int) {
      if (task == 3) throw std::runtime_error("task three");
    };
    CHECK_THROWS(pool.parallel_for(10, failing), std::runtime_error, "task three");
    pool.parallel_for(10, [](int64_t, int) {});  // still works
  }
  CHECK_THROWS(ThreadPool(0), std::invalid_argument, "n_threads: expected 1 to 512, got 0");
}

}  // namespace
