// The sweep for SSSE3 and SSE4.1, which x86-64 processors have had since 2008.
#define FIREWALL_LANES_SSE4
#include "kernel.hpp"

const firewall::jpeg::Kernel firewall::jpeg::sse4_kernel = {kLanes, prepare, render, normalise};
