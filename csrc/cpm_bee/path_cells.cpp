#include "cpm_bee/path_cells.h"

#include <algorithm>

namespace palo {

void PathCells::reset(const std::vector<TokenPlace>& places) {
  std::fill(paths_.begin(), paths_.end(), 0);
  std::copy(places.begin(), places.end(), places_.begin());
  std::fill_n(paths_.begin(), places.size(), 1);
  n_paths_ = 1;
  end_ = static_cast<int64_t>(places.size());
}

std::vector<int64_t> PathCells::extend(const std::vector<int32_t>& parents, const std::vector<TokenPlace>& places) {
  std::vector<uint32_t> paths(paths_.size());
  std::vector<int64_t> cells;
  for (size_t cell = 0; cell < paths.size(); ++cell) {
    for (size_t i = 0; i < parents.size(); ++i) paths[cell] |= (paths_[cell] >> parents[i] & 1u) << i;
    if (paths[cell] == 0 && cells.size() < parents.size()) cells.push_back(static_cast<int64_t>(cell));
  }
  if (cells.size() < parents.size()) return {};
  for (size_t i = 0; i < cells.size(); ++i) {
    paths[static_cast<size_t>(cells[i])] = 1u << i;
    places_[static_cast<size_t>(cells[i])] = places[i];
  }
  paths_.swap(paths);
  n_paths_ = static_cast<int64_t>(parents.size());
  const auto last = std::find_if(paths_.rbegin(), paths_.rend(), [](uint32_t bits) { return bits != 0; });
  end_ = paths_.rend() - last;
  return cells;
}

}  // namespace palo
