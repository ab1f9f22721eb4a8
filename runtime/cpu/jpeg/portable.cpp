// The sweep in plain C++, for any processor.
#include "kernel.hpp"

const firewall::jpeg::Kernel firewall::jpeg::portable_kernel = {kLanes, prepare, render, normalise};
