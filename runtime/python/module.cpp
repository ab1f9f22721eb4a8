// firewall._native: the runtime as Python sees it. No logic here; firewall/native.py is the one that imports it.
#include <nanobind/nanobind.h>

#include "cuda.hpp"
#include "firewall/simd.hpp"
#include "firewall/version.hpp"
#include "jpeg_sweep.hpp"
#include "limits.hpp"
#include "network.hpp"
#include "operations.hpp"

namespace nb = nanobind;

NB_MODULE(_native, module) {
  // An object that is still held when Python ends is no fault: its users have no stderr of their own.
  nb::set_leak_warnings(false);
  module.doc() = "The native runtime of the perception firewall.";
  module.def("version", &firewall::version, "Version of the runtime, 'major.minor.patch'.");
  module.def(
      "simd_level", [] { return firewall::simd_name(firewall::simd_level()); },
      "Vector instructions that this machine offers: 'avx512', 'avx2', 'sse2', 'neon' or 'scalar'.");
  init_cuda(module);
  init_jpeg_sweep(module);
  init_limits(module);
  init_network(module);
  init_operations(module);
}
