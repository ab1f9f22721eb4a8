#include "kernels.hpp"

#include <atomic>

namespace firewall {

#define FIREWALL_DECLARE(ISA) \
  namespace ISA {             \
  extern const Kernels table; \
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

const Kernels* find(SimdLevel level) noexcept {
  switch (level) {
#if defined(FIREWALL_X86_KERNELS)
    case SimdLevel::avx512:
      return &avx512::table;
    case SimdLevel::avx2:
      return &avx2::table;
#elif defined(FIREWALL_NEON_KERNELS)
    case SimdLevel::neon:
      return &neon::table;
#endif
    default:
      return &scalar::table;
  }
}

std::atomic<const Kernels*>& chosen() noexcept {
  static std::atomic<const Kernels*> pointer{find(simd_level())};
  return pointer;
}

}  // namespace

const Kernels& kernels() noexcept { return *chosen().load(std::memory_order_relaxed); }

bool use_kernels(SimdLevel level) noexcept {
  const Kernels* table = find(level);
  if (table == &scalar::table && level != SimdLevel::scalar) return false;
  // On x86 each level includes the ones below it.
  if (level != SimdLevel::scalar && static_cast<int>(level) > static_cast<int>(simd_level())) return false;
  use_kernels(*table);
  return true;
}

void use_kernels(const Kernels& table) noexcept { chosen().store(&table, std::memory_order_relaxed); }

}  // namespace firewall
