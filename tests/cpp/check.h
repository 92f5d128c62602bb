// A test harness of forty lines: TEST(name) { CHECK(...); CHECK_THROWS(..., "part of the message"); }
#pragma once

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline bool add(const char* name, void (*run)()) {
  tests().push_back({name, run});
  return true;
}

inline void fail(const char* file, int line, const std::string& what) {
  throw std::logic_error(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

}  // namespace check

#define TEST(name)                                             \
  static void name();                                          \
  static const bool name##_is_added = check::add(#name, name); \
  static void name()

#define CHECK(condition)                                           \
  do {                                                             \
    if (!(condition)) check::fail(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_THROWS(expression, type, part)                                                         \
  do {                                                                                               \
    std::string message = "nothing thrown";                                                          \
    try {                                                                                            \
      expression;                                                                                    \
    } catch (const type& error) {                                                                    \
      message = error.what();                                                                        \
    }                                                                                                \
    if (message.find(part) == std::string::npos) check::fail(__FILE__, __LINE__, "got: " + message); \
  } while (false)
