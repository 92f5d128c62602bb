// Runs all C++ tests; built with a sanitizer, it shows what Python's own memory would hide. See CMakeLists.txt.
// `--needs ISA` fails unless that is the instruction set in use: an emulator may lack the one under test.
#include <cstring>

#include "check.h"
#include "kernels/kernel_table.h"

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--needs") == 0 && std::strcmp(argv[2], palo::kernels().isa) != 0) {
    std::printf("instruction set: expected %s, got %s; run on a processor that has it\n", argv[2], palo::kernels().isa);
    return 1;
  }
  int n_failed = 0;
  for (const check::Test& test : check::tests()) {
    try {
      test.run();
    } catch (const std::exception& error) {
      ++n_failed;
      std::printf("FAILED %s: %s\n", test.name, error.what());
    }
  }
  std::printf("%s: %d passed, %d failed\n", palo::kernels().isa, static_cast<int>(check::tests().size()) - n_failed,
              n_failed);
  return n_failed == 0 ? 0 : 1;
}
