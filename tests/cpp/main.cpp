// Runs all C++ tests; built with a sanitizer, it shows what Python's own memory would hide. See CMakeLists.txt.
#include "check.h"

int main() {
  int n_failed = 0;
  for (const check::Test& test : check::tests()) {
    try {
      test.run();
    } catch (const std::exception& error) {
      ++n_failed;
      std::printf("FAILED %s: %s\n", test.name, error.what());
    }
  }
  std::printf("%d passed, %d failed\n", static_cast<int>(check::tests().size()) - n_failed, n_failed);
  return n_failed == 0 ? 0 : 1;
}
