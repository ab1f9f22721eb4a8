// The 512-bit kernel of the sweep on any machine with AVX2.
#include "avx512_emulated.hpp"

#define FIREWALL_LANES_AVX512
#include "../../runtime/cpu/jpeg/kernel.hpp"

extern const firewall::jpeg::Kernel avx512_emulated_kernel;
const firewall::jpeg::Kernel avx512_emulated_kernel = {kLanes, prepare, render, normalise};
