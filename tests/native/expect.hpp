// The whole test framework: EXPECT prints what failed and where; the process ends with 1 if anything did.
#pragma once

#include <cstdio>

namespace firewall::testing {

inline int failures = 0;

inline void expect(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "%s:%d: expected %s\n", file, line, what);
}

}  // namespace firewall::testing

#define EXPECT(condition) ::firewall::testing::expect((condition), #condition, __FILE__, __LINE__)
