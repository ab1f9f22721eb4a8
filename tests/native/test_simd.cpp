// The level and version that `firewall doctor` prints: checked against the kernel's own list of CPU features.
#include <cctype>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <set>
#include <sstream>
#include <string>

#include "expect.hpp"
#include "firewall/simd.hpp"
#include "firewall/version.hpp"

namespace {

#if !defined(__aarch64__)
std::set<std::string> kernel_flags() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("flags", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::set<std::string> flags;
    for (std::string word; words >> word;) flags.insert(word);
    return flags;
  }
  return {};
}
#endif

const char* expected_level() {
#if defined(__aarch64__)
  return "neon";
#else
  const std::set<std::string> flags = kernel_flags();
  const auto all = [&flags](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (flags.count(name) == 0) return false;
    }
    return true;
  };
  if (all({"avx512f", "avx512bw", "avx512dq", "avx512vl"})) return "avx512";
  if (all({"avx2", "fma"})) return "avx2";
  return all({"sse2"}) ? "sse2" : "scalar";
#endif
}

}  // namespace

int main() {
  using namespace firewall;
  EXPECT(std::strcmp(simd_name(simd_level()), expected_level()) == 0);
  EXPECT(simd_level() == simd_level());
  EXPECT(std::strcmp(simd_name(SimdLevel::scalar), "scalar") == 0);
  EXPECT(std::strcmp(simd_name(static_cast<SimdLevel>(99)), "scalar") == 0);
  EXPECT(std::strcmp(version(), EXPECTED_VERSION) == 0);
  EXPECT(std::isdigit(static_cast<unsigned char>(version()[0])) != 0);
  return testing::failures == 0 ? 0 : 1;
}
