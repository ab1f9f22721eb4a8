// The 512-bit loops of the operations on any machine with AVX2.
#include "avx512_emulated.hpp"

#define FIREWALL_ISA avx512_emulated
#define FIREWALL_LOOPS_AVX512
#include "../../runtime/cpu/kernels/loops.cpp"
