// Kernels on buffers of exactly the promised sizes: the sanitizers find any access beyond them.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>

#include "check.h"
#include "kernels/attention.h"
#include "kernels/linear.h"
#include "kernels/weights_ahead.h"

namespace {

using palo::Buffer;
using palo::Compute;
using palo::ImageRows;
using palo::Linear;
using palo::Precision;
using palo::Rows;
using palo::ThreadPool;

constexpr int64_t SIZES[] = {1, 2, 7, 8, 9, 16, 17, 65};
constexpr int THREADS[] = {1, 2, 7};
constexpr Precision PRECISIONS[] = {Precision::FLOAT, Precision::INT8};

struct Machine {
  explicit Machine(int n_threads) : pool(n_threads), scratch(n_threads) {}
  Compute compute() { return {palo::kernels(), pool, scratch}; }
  ThreadPool pool;
  palo::Scratch scratch;
};

Buffer draw(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Buffer result(n);
  for (int64_t i = 0; i < n; ++i) result.data()[i] = normal(random);
  return result;
}

Linear pack(const Buffer& weight, Buffer bias, int64_t n_out, int64_t n_in, Precision precision) {
  Linear w{.precision = precision, .n_out = n_out, .n_in = n_in, .panels = {}, .bias = std::move(bias)};
  const palo::Format format = w.format(palo::kernels());
  w.panels = palo::ByteBuffer(format.panels_bytes(n_out, n_in));
  format.pack_panels(w.panels.data(), weight.data(), n_out, n_in, n_in, 1);
  return w;
}

bool are_close(double a, double b, Precision precision, double size = 1.0) {
  return std::abs(a - b) <= (precision == Precision::INT8 ? 0.05 : 1e-5) * (size + std::abs(b));
}

TEST(linear_of_all_sizes_and_threads) {
  for (const Precision precision : PRECISIONS) {
    for (const int64_t n_rows : SIZES) {
      for (const int64_t n_out : SIZES) {
        const int64_t n_in = n_rows == 17 ? 300 : n_out;
        const Buffer x = draw(n_rows * n_in, 1), weight = draw(n_out * n_in, 2);
        const Linear w = pack(weight, draw(n_out, 3), n_out, n_in, precision);
        for (const int n_threads : THREADS) {
          Machine machine(n_threads);
          Buffer out(n_rows * n_out);
          Rows rows;
          write_rows(machine.compute(), rows, w, x.data(), {1, n_rows, n_rows});
          linear(machine.compute(), out.data(), rows, w, {1, n_rows, n_rows});
          for (int64_t r = 0; r < n_rows; ++r) {
            double sum = w.bias.data()[n_out - 1];
            for (int64_t i = 0; i < n_in; ++i) {
              sum += double{x.data()[r * n_in + i]} * weight.data()[(n_out - 1) * n_in + i];
            }
            CHECK(are_close(out.data()[r * n_out + n_out - 1], sum, precision, std::sqrt(n_in)));
          }
        }
      }
    }
  }
}

// Two images with unused rows between them; the result of one layer goes into the next without f32 in between.
TEST(chained_linears_of_a_batch) {
  const int64_t n_in = 70, n_middle = 130, n_out = 9, stride = 60;
  for (const Precision precision : PRECISIONS) {
    const Linear first = pack(draw(n_middle * n_in, 1), draw(n_middle, 2), n_middle, n_in, precision);
    const Linear second = pack(draw(n_out * n_middle, 3), Buffer(), n_out, n_middle, precision);
    const Buffer x = draw(2 * stride * n_in, 4), residual = draw(2 * stride * n_out, 5);
    const ImageRows rows{2, 57, stride};
    std::vector<float> expected;
    for (const int n_threads : THREADS) {
      Machine machine(n_threads);
      const Compute compute = machine.compute();
      Rows a, b;
      Buffer middle(rows.end() * n_middle), out(rows.end() * n_out), stepwise(rows.end() * n_out);
      write_rows(compute, a, first, x.data(), rows);
      linear(compute, middle.data(), a, first, rows, {.activation = compute.kernels.relu});
      linear(compute, b, second, a, first, rows, compute.kernels.relu);
      linear(compute, out.data(), b, second, rows, {.residual = residual.data()});
      write_rows(compute, b, second, middle.data(), rows);
      linear(compute, stepwise.data(), b, second, rows);
      for (int64_t r = 0; r < rows.end(); ++r) {
        if (r % stride >= rows.n_rows) continue;
        for (int64_t i = r * n_out; i < (r + 1) * n_out; ++i) {
          CHECK(out.data()[i] == stepwise.data()[i] + residual.data()[i]);
          if (n_threads == 1) expected.push_back(out.data()[i]);
        }
      }
      CHECK(expected.back() == out.data()[out.size() - 1]);
    }
  }
}

TEST(blocks_cover_all_rows_once_and_are_the_same_in_every_image) {
  for (int64_t n_rows = 1; n_rows < 700; ++n_rows) {
    for (const int64_t size : {1, 16, 24, 48}) {
      const palo::RowBlocks one({1, n_rows, n_rows}, size), three({3, n_rows, n_rows + 5}, size);
      CHECK(three.size() == 3 * one.size());
      int64_t row = 0;
      for (int64_t i = 0; i < one.size(); ++i) {
        CHECK(one[i].row == row && one[i].n_rows > 0 && one[i].n_rows <= 2 * size);
        const auto other = three[2 * one.size() + i];
        CHECK(other.image == 2 && other.row == row + 2 * (n_rows + 5) && other.n_rows == one[i].n_rows);
        row += one[i].n_rows;
      }
      CHECK(row == n_rows);
    }
  }
}

TEST(blocks_of_steps_start_at_multiples_and_cover_all_rows) {
  for (int64_t n_rows = 1; n_rows < 700; ++n_rows) {
    const auto blocks = palo::RowBlocks::of_steps({3, n_rows, n_rows}, 64);
    int64_t row = 0;
    for (int64_t i = 0; i < blocks.size(); ++i) {
      CHECK(blocks[i].row == row && blocks[i].n_rows > 0 && blocks[i].n_rows < 128);
      CHECK(blocks[i].image == row / n_rows && row % n_rows % 64 == 0);
      row += blocks[i].n_rows;
    }
    CHECK(row == 3 * n_rows);
  }
}

// Workers that take turns: what each has asked for before it comes to a block of columns.
TEST(weights_of_a_block_of_columns_are_asked_for_before_a_worker_comes_to_it) {
  constexpr int64_t COLUMN_BYTES = 60, N_COLUMNS = 9, N_BYTES = N_COLUMNS * COLUMN_BYTES - 10;
  const std::vector<uint8_t> weights(N_BYTES);
  for (const int64_t n_tasks : {1, 2, 3, 5, 12}) {
    for (const int n_workers : {1, 2, 3, 4, 16}) {
      const palo::WeightsAhead ahead(weights.data(), N_BYTES, COLUMN_BYTES, n_tasks, n_workers);
      for (int64_t worker = 0; worker < n_workers; ++worker) {
        std::vector<int> n_asked(N_BYTES);
        const int64_t first = worker / n_tasks;
        for (int64_t task = worker, last = first; task < n_tasks * N_COLUMNS; task += n_workers) {
          const int64_t column = task / n_tasks, begin = column * COLUMN_BYTES;
          const int64_t end = std::min(begin + COLUMN_BYTES, N_BYTES);
          // The worker's first task asks for its own weights instead of a part of the next ones.
          const int expected = last == first ? 0 : 1;
          for (int64_t i = begin; i < end && column > last; ++i) CHECK(n_asked[i] == expected || n_asked[i] == 1);
          const palo::Ahead piece = ahead.of_task(task);
          CHECK(piece.n_bytes >= 0 && piece.at - weights.data() <= N_BYTES - piece.n_bytes);
          if (task == worker && end < N_BYTES) CHECK(piece.at == &weights[begin + 15] && piece.n_bytes == 45);
          for (int64_t i = 0; i < piece.n_bytes; ++i) ++n_asked[piece.at - weights.data() + i];
          last = column;
        }
      }
    }
  }
}

// Heads that a product is written to against those of the same product in f32, two images each.
TEST(heads_of_a_product_are_those_of_its_f32_values) {
  for (const Precision precision : PRECISIONS) {
    for (const int64_t n_tokens : {1, 63, 64, 200}) {
      for (const int64_t head_size : {7, 16, 64, 80}) {
        const int64_t n_head = 3, n_embd = n_head * head_size, n_rows = 2 * n_tokens;
        const palo::AttentionSizes sizes{
            .n_images = 2, .n_tokens = n_tokens, .n_queries = n_tokens, .n_head = n_head, .head_size = head_size};
        const Linear w = pack(draw(3 * n_embd * n_embd, 1), draw(3 * n_embd, 2), 3 * n_embd, n_embd, precision);
        const Buffer x = draw(n_rows * n_embd, 3);
        for (const int n_threads : THREADS) {
          Machine machine(n_threads);
          const Compute compute = machine.compute();
          const ImageRows all{2, n_tokens, n_tokens};
          Rows rows;
          palo::PackedHeads heads, expected_heads;
          Buffer qkv(n_rows * 3 * n_embd), out(n_rows * n_embd), expected(n_rows * n_embd);
          write_rows(compute, rows, w, x.data(), all);
          linear(compute, heads, rows, w, sizes);
          attention(compute, out.data(), heads);
          linear(compute, qkv.data(), rows, w, all);
          pack_heads(compute, precision, expected_heads, qkv.data(), sizes);
          attention(compute, expected.data(), expected_heads);
          CHECK(std::equal(out.data(), out.data() + out.size(), expected.data()));
        }
      }
    }
  }
}

TEST(attention_of_equal_keys_is_the_mean_of_the_values) {
  for (const Precision precision : PRECISIONS) {
    for (const int64_t n_tokens : SIZES) {
      for (const int64_t head_size : {1, 7, 16, 64, 65}) {
        const int64_t n_head = 3, n_embd = n_head * head_size, n_queries = n_tokens - n_tokens / 2;
        Buffer qkv = draw(2 * n_tokens * 3 * n_embd, 1);
        for (int64_t t = 0; t < 2 * n_tokens; ++t) std::fill_n(qkv.data() + (3 * t + 1) * n_embd, n_embd, 0.5f);
        Buffer out(2 * n_tokens * n_embd);
        Machine machine(3);
        palo::PackedHeads heads;
        pack_heads(
            machine.compute(), precision, heads, qkv.data(),
            {.n_images = 2, .n_tokens = n_tokens, .n_queries = n_queries, .n_head = n_head, .head_size = head_size});
        attention(machine.compute(), out.data(), heads);
        double mean = 0.0;
        for (int64_t t = n_tokens; t < 2 * n_tokens; ++t) {
          mean += qkv.data()[(3 * t + 3) * n_embd - 1] / static_cast<double>(n_tokens);
        }
        CHECK(are_close(out.data()[(n_tokens + n_queries) * n_embd - 1], mean, precision));
      }
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
      palo::kernels().depthwise_conv3x3(out.data(), in.data(), weight.data(), nullptr, 0, out_side, side, side,
                                        n_channels, stride);
      CHECK(out.data()[0] == (side == 1 ? 1.0f : 4.0f));
      Buffer pooled((side / 2) * (side / 2) * n_channels);
      palo::kernels().average_pool2x2(pooled.data(), in.data(), 0, side / 2, side, n_channels);
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
    // Rounds of few and of many tasks at once after each other: a late thread must not take part in the next one.
    std::atomic<int64_t> n_calls{0};
    for (int repeat = 0; repeat < 20000; ++repeat) {
      pool.parallel_for(repeat % 2 == 0 ? 2 : 9, [&](int64_t, int) { ++n_calls; });
    }
    CHECK(n_calls == 10000 * (2 + 9));
    const auto failing = [](int64_t task, int) {
      if (task == 3) throw std::runtime_error("task three");
    };
    CHECK_THROWS(pool.parallel_for(10, failing), std::runtime_error, "task three");
    pool.parallel_for(10, [](int64_t, int) {});  // still works
  }
  CHECK_THROWS(ThreadPool(0), std::invalid_argument, "n_threads: expected 1 to 512, got 0");
}

}  // namespace
