// Which weights may have wide groups.
#include <random>
#include <vector>

#include "check.h"
#include "kernels/kernel_table.h"
#include "vision/wide_groups.h"

namespace {

constexpr int64_t N_IN = 1024, N_ROWS = 32;

template <typename Draw>
bool are_allowed(const Draw& draw) {
  palo::WideGroups groups;
  for (int64_t r = 0; r < N_ROWS; ++r) {
    std::vector<float> row(N_IN);
    for (float& w : row) w = draw();
    groups.add_row(row.data(), N_IN);
  }
  return groups.are_allowed();
}

TEST(weights_of_similar_size_may_have_wide_groups) {
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  std::exponential_distribution<float> exponential;
  CHECK(are_allowed([&] { return normal(random); }));
  CHECK(are_allowed([&] { return exponential(random); }));
  CHECK(are_allowed([] { return 0.0f; }));
}

TEST(a_few_large_weights_in_each_row_keep_groups_narrow) {
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  std::bernoulli_distribution is_large(1.0 / 256);
  CHECK(!are_allowed([&] { return is_large(random) ? 50.0f : normal(random); }));
}

TEST(a_row_may_end_within_a_group) {
  std::vector<float> row(palo::Q8_WIDE_GROUP + 1, 1.0f);
  palo::WideGroups groups;
  groups.add_row(row.data(), static_cast<int64_t>(row.size()));
  CHECK(groups.are_allowed());
}

}  // namespace
