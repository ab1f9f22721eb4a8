// Which vector instructions the running processor and operating system offer.
//
// The runtime is compiled once and chooses at run time, so one binary serves every machine of an architecture.
// All levels compute the same bytes; they differ in speed alone.
#pragma once

namespace firewall {

enum class SimdLevel {
  scalar,  // none that the runtime knows
  sse2,    // every x86-64 processor
  avx2,    // AVX2 and FMA
  avx512,  // AVX-512 F, BW, DQ and VL
  neon,    // every aarch64 processor
};

// The best level of this machine. Never fails; the same answer for the life of the process. Safe from any thread.
SimdLevel simd_level() noexcept;

// Lower-case name of a level, such as "avx2". A static string; "scalar" for a value that is none of the above.
const char* simd_name(SimdLevel level) noexcept;

}  // namespace firewall
