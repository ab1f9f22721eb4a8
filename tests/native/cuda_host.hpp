// Runs block programs (runtime/cuda/block.hpp) on the processor: blocks in a shuffled order, and within a block the
// calls of every `each` as well, forwards or backwards. So a call that reads what another call of the same `each`
// writes gives other bytes in one of the two directions, and so does a block that depends on another. Shared memory is
// a buffer of exactly the size that the program asks for, full of rubbish before each block.
#pragma once

#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace firewall::testing {

// Visits 0..n-1, each once, in steps of something that shares no divisor with n.
template <typename Visit>
void shuffled(int n, bool backwards, const Visit& visit) {
  if (n <= 0) return;
  int step = n / 3 + 1;
  while (std::gcd(step, n) != 1) ++step;
  for (int i = 0; i < n; ++i) {
    const int turn = backwards ? n - 1 - i : i;
    visit(static_cast<int>(static_cast<std::int64_t>(turn) * step % n));
  }
}

class HostBlock {
 public:
  explicit HostBlock(bool backwards) : backwards_(backwards) {}

  template <typename Work>
  void each(int n, const Work& work) {
    shuffled(n, backwards_, work);
  }

  static float scaled(float value, float scale, float shift) {
    const float product = value * scale;  // the tests are compiled without contraction
    return product + shift;
  }

  // To the nearest, ties to even, as IEEE 754 has it; not for numbers that are infinite or none.
  static std::uint16_t half(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    const int exponent = static_cast<int>(bits >> 23 & 255u) - 127;
    if (exponent > 15) return static_cast<std::uint16_t>(sign | 0x7c00u);
    if (exponent < -25) return sign;
    const std::uint32_t mantissa = (bits & 0x7fffffu) | 0x800000u;
    // Bits that are lost: 13, and more below the smallest normal number.
    const int lost = exponent < -14 ? 13 - 14 - exponent : 13;
    const std::uint32_t whole = mantissa >> lost;
    const std::uint32_t rest = mantissa - (whole << lost), tie = 1u << (lost - 1);
    const std::uint32_t rounded = whole + (rest > tie || (rest == tie && whole % 2 == 1) ? 1u : 0u);
    // A carry out of the mantissa goes into the exponent, where it belongs.
    const std::uint32_t base = exponent < -14 ? 0u : static_cast<std::uint32_t>(exponent + 14) << 10;
    return static_cast<std::uint16_t>(sign | (base + rounded));
  }

 private:
  bool backwards_;
};

// program(block, index, shared) for every block of a grid.
template <typename Program>
void run_grid(int blocks, int shared_bytes, bool backwards, const Program& program) {
  shuffled(blocks, !backwards, [&](int index) {
    // Aligned like the shared memory of a GPU; operator new aligns to 16.
    std::vector<unsigned char> shared(static_cast<std::size_t>(shared_bytes), static_cast<unsigned char>(0xa5));
    HostBlock block(backwards);
    program(block, index, shared.data());
  });
}

}  // namespace firewall::testing
