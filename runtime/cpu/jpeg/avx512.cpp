// The sweep for AVX-512 F, BW, DQ and VL.
#define FIREWALL_LANES_AVX512
#include "kernel.hpp"

const firewall::jpeg::Kernel firewall::jpeg::avx512_kernel = {kLanes, prepare, render, normalise};
