#include <atomic>

#include "loops.hpp"

namespace firewall {

#define FIREWALL_DECLARE(ISA)      \
  namespace ISA {                  \
  extern const NetworkLoops loops; \
  }
FIREWALL_DECLARE(scalar)
#if defined(FIREWALL_X86_KERNELS)
FIREWALL_DECLARE(avx2)
FIREWALL_DECLARE(avx512)
#elif defined(FIREWALL_NEON_KERNELS)
FIREWALL_DECLARE(neon)
#endif
#undef FIREWALL_DECLARE

namespace {

const NetworkLoops* find(SimdLevel level) noexcept {
  switch (level) {
#if defined(FIREWALL_X86_KERNELS)
    case SimdLevel::avx512:
      return &avx512::loops;
    case SimdLevel::avx2:
      return &avx2::loops;
#elif defined(FIREWALL_NEON_KERNELS)
    case SimdLevel::neon:
      return &neon::loops;
#endif
    default:
      return &scalar::loops;
  }
}

std::atomic<const NetworkLoops*>& chosen() noexcept {
  static std::atomic<const NetworkLoops*> pointer{find(simd_level())};
  return pointer;
}

}  // namespace

const NetworkLoops& network_loops() noexcept { return *chosen().load(std::memory_order_relaxed); }

bool use_network_loops(SimdLevel level) noexcept {
  const NetworkLoops* loops = find(level);
  if (loops == &scalar::loops && level != SimdLevel::scalar) return false;
  if (level != SimdLevel::scalar && static_cast<int>(level) > static_cast<int>(simd_level())) return false;
  chosen().store(loops, std::memory_order_relaxed);
  return true;
}

bool fast_networks() noexcept { return &network_loops() != &scalar::loops; }

}  // namespace firewall
