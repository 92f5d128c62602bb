// Which cell of the keys and values holds which token, and which paths of a search pass through it.
//
// Paths share the cells of all that they have in common. A step moves no key and no value: it rewrites, for each cell,
// the set of paths, and a cell that no path needs is free.
#pragma once

#include <cstdint>
#include <vector>

#include "cpm_bee/relation_bias.h"

namespace palo {

class PathCells {
 public:
  static constexpr int64_t MAX_PATHS = 16;

  explicit PathCells(int64_t n_cells) : places_(static_cast<size_t>(n_cells)), paths_(static_cast<size_t>(n_cells)) {}

  // One path, whose tokens are in the first cells.
  void reset(const std::vector<TokenPlace>& places);

  // No path at all.
  void forget() { n_paths_ = end_ = 0; }

  // Path i becomes path parents[i] with one more token. Returns the new tokens' cells; empty, and nothing is changed,
  // if there are not enough.
  std::vector<int64_t> extend(const std::vector<int32_t>& parents, const std::vector<TokenPlace>& places);

  bool is_of_path(int64_t cell, int64_t path) const { return (paths_[static_cast<size_t>(cell)] >> path & 1) != 0; }
  TokenPlace place(int64_t cell) const { return places_[static_cast<size_t>(cell)]; }

  int64_t n_cells() const { return static_cast<int64_t>(paths_.size()); }
  int64_t n_paths() const { return n_paths_; }
  // Cells up to the last one in use.
  int64_t end() const { return end_; }

 private:
  std::vector<TokenPlace> places_;
  std::vector<uint32_t> paths_;  // of each cell, a bit for each path
  int64_t n_paths_ = 0;
  int64_t end_ = 0;
};

}  // namespace palo
