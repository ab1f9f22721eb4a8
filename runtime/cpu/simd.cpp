#include "firewall/simd.hpp"

namespace firewall {
namespace {

SimdLevel detect() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  // The compiler's check asks the operating system too: registers that it doesn't save are not offered.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return SimdLevel::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return SimdLevel::avx2;
  if (__builtin_cpu_supports("sse2")) return SimdLevel::sse2;
  return SimdLevel::scalar;
#elif defined(__aarch64__)
  return SimdLevel::neon;
#else
  return SimdLevel::scalar;
#endif
}

}  // namespace

SimdLevel simd_level() noexcept {
  static const SimdLevel level = detect();
  return level;
}

const char* simd_name(SimdLevel level) noexcept {
  switch (level) {
    case SimdLevel::scalar:
      return "scalar";
    case SimdLevel::sse2:
      return "sse2";
    case SimdLevel::avx2:
      return "avx2";
    case SimdLevel::avx512:
      return "avx512";
    case SimdLevel::neon:
      return "neon";
  }
  return "scalar";
}

}  // namespace firewall
