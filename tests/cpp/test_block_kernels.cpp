// Products with GGUF's block types: the plain kernels against the definition of the types, every instruction set
// against the plain kernels, bit for bit.
#include "block_cases.h"

namespace {

using namespace block_cases;

constexpr int64_t MAX_OUTPUTS = 70, MAX_ROWS = 200;
constexpr int64_t OUTPUTS[] = {1, 15, 16, 17, 31, 32, 33, 64, 70};
constexpr int64_t ROWS[] = {1, 2, 3, 4, 5, 6, 7, 8, 16, 33, 200};

std::vector<const KernelTable*> all_tables() {
  std::vector<const KernelTable*> tables = simd_tables();
  tables.push_back(&palo::kernels_of("ref"));
  return tables;
}

// x [MAX_ROWS, n_in], each row of a different kind; w [MAX_OUTPUTS, n_in] blocks; and the product on "ref".
struct Case {
  Case(const TypeFacts& of, int64_t n) : facts(of), n_in(n), row_bytes(n / of.size * of.n_bytes) {
    for (int64_t r = 0; r < MAX_ROWS; ++r) {
      const Values kind = ALL_VALUES[r % std::size(ALL_VALUES)];
      const std::vector<float> row = draw(n, static_cast<unsigned>(r), kind);
      x.insert(x.end(), row.begin(), row.end());
    }
    blocks = draw_blocks(of, MAX_OUTPUTS, n, row_bytes);
    product.resize(MAX_ROWS * MAX_OUTPUTS);
    packed(palo::kernels_of("ref"), MAX_OUTPUTS).multiply(product.data(), x, MAX_ROWS, MAX_OUTPUTS, MAX_OUTPUTS);
  }
  Packed packed(const KernelTable& kernels, int64_t n_out) const {
    return Packed(palo::block_kernels(kernels, facts.type), blocks.data(), n_out, n_in, row_bytes);
  }
  const TypeFacts& facts;
  int64_t n_in, row_bytes;
  std::vector<float> x, product;
  std::vector<uint8_t> blocks;
};

// n_rows x n_out of the product, and one float more per row that must stay as it is.
void check(const Case& c, Packed packed, int64_t n_rows, int64_t n_out) {
  const int64_t ldo = n_out + 1;
  std::vector<float> out(n_rows * ldo, -777.0f);
  packed.multiply(out.data(), c.x, n_rows, n_out, ldo);
  for (int64_t r = 0; r < n_rows; ++r) {
    CHECK(are_equal_bits(&out[r * ldo], &c.product[r * MAX_OUTPUTS], n_out));
    CHECK(out[r * ldo + n_out] == -777.0f);
  }
}

// Sums in f32 against double: per group, a quarter of a rounding of the sum of magnitudes. Observed at most 0.65 of
// what is allowed. 1e-38: products of subnormal scales.
void check_against_definition(const Case& c, int64_t r, int64_t o) {
  const std::vector<double> x = quantized(c.facts, &c.x[r * c.n_in], c.n_in);
  double sum = 0.0, magnitude = 0.0;
  for (int64_t i = 0; i < c.n_in; ++i) {
    const uint8_t* block = &c.blocks[o * c.row_bytes + i / c.facts.size * c.facts.n_bytes];
    const double term = x[i] * weight_of(c.facts, block, static_cast<int>(i % c.facts.size));
    sum += term;
    magnitude += std::abs(term);
  }
  const double n_roundings = c.facts.type == BlockType::F16 ? 130.0 : 3.0 + static_cast<double>(c.n_in) / 16.0;
  CHECK(std::abs(c.product[r * MAX_OUTPUTS + o] - sum) <= (n_roundings + 4.0) * 0x1p-26 * magnitude + 1e-38);
}

TEST(block_products_on_ref_are_what_the_types_define) {
  for (const TypeFacts& facts : all_types()) {
    for (const int64_t n_in : facts.input_sizes) {
      const Case c(facts, n_in);
      for (int64_t r = 0; r < 18; ++r) {
        for (int64_t o = 0; o < MAX_OUTPUTS; ++o) check_against_definition(c, r, o);
      }
    }
  }
}

// A row of Q6_K as ggml sums it: 256 products in integers, then one factor. False where the integers leave f32's exact
// range: there "The order" rounds.
bool integer_product(float& total, const Case& c, int64_t r, int64_t o) {
  total = 0.0f;
  for (int64_t b = 0; b < c.n_in / 256; ++b) {
    const uint8_t* block = &c.blocks[o * c.row_bytes + b * c.facts.n_bytes];
    const float* x = &c.x[r * c.n_in + b * 256];
    float absmax = 0.0f;
    for (int i = 0; i < 256; ++i) absmax = std::max(absmax, std::abs(x[i]));
    if (absmax < 0x1p-120f) continue;
    const float inverse = 127.0f / absmax;
    uint16_t half;
    std::memcpy(&half, block + c.facts.halves[0], 2);
    const double d = half_value(half);
    int64_t sum = 0, magnitude = 0;
    for (int i = 0; i < 256 && d != 0.0; ++i) {
      const double weight = weight_of(c.facts, block, i) / d;  // scale * q
      const auto term = static_cast<int64_t>(weight * std::nearbyint(x[i] * inverse));
      sum += term;
      magnitude += std::abs(term);
    }
    if (magnitude >= 1 << 24) return false;
    total = std::fma(static_cast<float>(sum), static_cast<float>(d) * (1.0f / inverse), total);
  }
  return true;
}

TEST(block_products_of_q6_k_are_integer_sums) {
  const TypeFacts& facts = all_types()[4];
  CHECK(facts.type == BlockType::Q6_K);
  int64_t n_exact = 0;
  for (const int64_t n_in : facts.input_sizes) {
    const Case c(facts, n_in);  // every instruction set equals its product bit for bit: the test after this one
    for (int64_t r = 0; r < 18; ++r) {
      for (int64_t o = 0; o < MAX_OUTPUTS; ++o) {
        float expected;
        if (!integer_product(expected, c, r, o)) continue;
        CHECK(c.product[r * MAX_OUTPUTS + o] == expected);
        ++n_exact;
      }
    }
  }
  CHECK(n_exact > 4000);  // of 5040
}

TEST(block_products_are_equal_on_every_instruction_set) {
  for (const TypeFacts& facts : all_types()) {
    for (const int64_t n_in : facts.input_sizes) {
      const Case c(facts, n_in);
      for (const KernelTable* kernels : simd_tables()) {
        for (const int64_t n_rows : ROWS) check(c, c.packed(*kernels, MAX_OUTPUTS), n_rows, MAX_OUTPUTS);
        for (const int64_t n_out : OUTPUTS) {
          for (const int64_t n_rows : {1, 3, 7}) check(c, c.packed(*kernels, n_out), n_rows, n_out);
        }
      }
    }
  }
}

TEST(block_products_are_equal_however_they_are_cut) {
  constexpr int64_t N_ROWS = 13, N_OUT = 70;
  for (const TypeFacts& facts : all_types()) {
    const Case c(facts, facts.input_sizes.back());
    for (const KernelTable* kernels : all_tables()) {
      Packed packed = c.packed(*kernels, N_OUT);
      const int64_t width = palo::block_kernels(*kernels, facts.type).panel_width;
      std::vector<float> out(N_ROWS * N_OUT);
      for (int64_t r = 0; r < N_ROWS; r += r % 4 + 1) {
        const int64_t n_rows = std::min(r % 4 + 1, N_ROWS - r);
        const std::vector<float> x(c.x.begin() + r * c.n_in, c.x.begin() + (r + n_rows) * c.n_in);
        for (int64_t o = 0; o < N_OUT; o += width) {
          packed.multiply(&out[r * N_OUT + o], x, n_rows, std::min(width, N_OUT - o), N_OUT, o);
        }
      }
      CHECK(are_equal_bits(out.data(), c.product.data(), N_ROWS * N_OUT));
    }
  }
}

TEST(unpacked_panels_are_the_rows_that_were_packed) {
  for (const TypeFacts& facts : all_types()) {
    for (const KernelTable* kernels : all_tables()) {
      for (const int64_t n_in : facts.input_sizes) {
        // Rows may lie further apart than their bytes: what is between them is no weight and is not written.
        const int64_t n_bytes = n_in / facts.size * facts.n_bytes, row_bytes = n_bytes + 6;
        for (const int64_t n_out : {1, 31, 32, 33}) {
          const std::vector<uint8_t> rows = draw_blocks(facts, n_out, n_in, row_bytes);
          Packed packed(palo::block_kernels(*kernels, facts.type), rows.data(), n_out, n_in, row_bytes);
          const std::vector<uint8_t> back = packed.unpack(row_bytes);
          for (int64_t o = 0; o < n_out; ++o) {
            CHECK(std::memcmp(&back[o * row_bytes], &rows[o * row_bytes], n_bytes) == 0);
            CHECK(back[o * row_bytes + n_bytes] == 0xAB);
          }
        }
      }
    }
  }
}

TEST(block_panels_take_no_more_bytes_than_the_file) {
  for (const TypeFacts& facts : all_types()) {
    for (const KernelTable* kernels : all_tables()) {
      const BlockKernels& k = palo::block_kernels(*kernels, facts.type);
      CHECK(k.type == facts.type && k.block_size == facts.size);
      for (const int64_t n_in : {256, 4096, 11008}) {
        const int64_t n_bytes = k.panel_width * n_in / facts.size * facts.n_bytes;
        CHECK(k.panel_bytes(n_in) % 64 == 0 && k.row_bytes(n_in) % 64 == 0);
        CHECK(k.panel_bytes(n_in) <= n_bytes + n_bytes / 100);
      }
    }
  }
}

}  // namespace
