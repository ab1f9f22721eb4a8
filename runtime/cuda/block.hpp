// Block programs: what one block of threads does, written once and run twice. On a GPU the .cu files run them with the
// policy of device.cuh; the tests run the same code on the processor, block after block, and compare it with cpu/.
//
// A program is a function of a `Block`, a task, the index of the block in its grid and the block's shared memory.
// Block has
//   each(n, f)                      f(i) for 0 <= i < n in any order, and all of it done before anything that follows:
//                                   a call of f may not read what another call of the same `each` writes
//   scaled(value, scale, shift)     value * scale + shift in float32, both operations rounded
//   half(value)                     bits of the float16 nearest to a float32
// Outside `each` a program only computes what is the same for all threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define FIREWALL_DEVICE __device__
#else
#define FIREWALL_DEVICE
#endif

namespace firewall::cuda {

FIREWALL_DEVICE constexpr int smaller(int a, int b) { return a < b ? a : b; }
FIREWALL_DEVICE constexpr int larger(int a, int b) { return a < b ? b : a; }
FIREWALL_DEVICE constexpr int between(int low, int value, int high) { return larger(low, smaller(value, high)); }

// Division of 0..65535 by the same 1..32767 over and over: value * (2^31 / by + 1) / 2^31, the excess of the factor
// being too small to matter as long as value * by < 2^31.
class Divisor {
 public:
  FIREWALL_DEVICE explicit Divisor(int by) : by_(by), factor_(0x80000000u / static_cast<std::uint32_t>(by) + 1) {}

  FIREWALL_DEVICE int quotient(int value) const {
    return static_cast<int>(std::uint64_t{static_cast<std::uint32_t>(value)} * factor_ >> 31);
  }
  FIREWALL_DEVICE int remainder(int value, int quotient_of_value) const { return value - quotient_of_value * by_; }

 private:
  int by_;
  std::uint32_t factor_;
};

// Numbers that are loaded and stored in one go, so that neighbouring threads use whole lines of memory.
template <typename Value, int kCount>
struct alignas(sizeof(Value) * kCount) Pack {
  Value at[kCount];
};

// to must be aligned to the pack.
template <typename Value, int kCount>
FIREWALL_DEVICE inline void store(Value* to, const Pack<Value, kCount>& pack) {
  std::memcpy(__builtin_assume_aligned(static_cast<void*>(to), sizeof pack), &pack, sizeof pack);
}

template <int kCount, typename Value>
FIREWALL_DEVICE inline Pack<Value, kCount> load(const Value* from) {
  Pack<Value, kCount> pack;
  std::memcpy(&pack, __builtin_assume_aligned(static_cast<const void*>(from), sizeof pack), sizeof pack);
  return pack;
}

FIREWALL_DEVICE inline bool aligned(const void* pointer, std::size_t to) {
  return reinterpret_cast<std::uintptr_t>(pointer) % to == 0;
}

// `size` bytes at `at` of a row, kRun at most and less where the row ends: one store where the address allows it.
template <int kRun, typename Value>
FIREWALL_DEVICE inline void store_run(Value* to, const Pack<Value, kRun>& run, int size) {
  if (size >= kRun && aligned(to, sizeof run)) {
    store(to, run);
  } else {
    for (int i = 0; i < kRun; ++i) {
      if (i < size) to[i] = run.at[i];
    }
  }
}

// Rows of bytes from shared memory (pitch a multiple of 4) to global memory, where rows lie `stride` bytes apart and
// may begin anywhere.
template <typename Block>
FIREWALL_DEVICE void copy_rows(Block& block, const std::uint8_t* from, int pitch, std::uint8_t* to,
                               std::ptrdiff_t stride, int rows, int bytes) {
  const int runs = (bytes + 3) / 4;
  const Divisor across(runs);
  block.each(rows * runs, [=](int i) {
    const int row = across.quotient(i);
    const int at = 4 * across.remainder(i, row);
    store_run(to + row * stride + at, load<4>(from + row * pitch + at), bytes - at);
  });
}

}  // namespace firewall::cuda
