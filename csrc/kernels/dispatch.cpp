#include <cstdlib>
#include <stdexcept>

#include "kernels/kernel_table.h"

namespace palo {

std::vector<std::string> available_isas() {
  return {"ref"};
}

const KernelTable& kernels() {
  const char* forced = std::getenv("PALO_CPP_ISA");
  if (forced != nullptr && *forced != '\0' && std::string(forced) != "ref") {
    throw std::invalid_argument("PALO_CPP_ISA: expected one of: ref; got \"" + std::string(forced) +
                                "\"; unset it to let the machine choose");
  }
  return ref::kernel_table();
}

}  // namespace palo
