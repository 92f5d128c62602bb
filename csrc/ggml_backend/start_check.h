// Is our product faster on this machine? Measured once per block type, for both sides, on a small matrix.
#pragma once

#include <ggml.h>

#include <string>

namespace palo::backend {

struct Verdict {
  bool is_taken;
  std::string reason;
};

// Times our multiply against ggml's CPU backend at its best (repacked weights where it repacks the type), for one row
// and for several, on one thread, and compares the results.
Verdict check_type(ggml_type type);

}  // namespace palo::backend
