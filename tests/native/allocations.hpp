// Counts what the process takes from the heap: operator new here, and malloc and its kin where the test is linked with
// FIREWALL_COUNTED (CMakeLists.txt), which puts these between the runtime and the C library. Include it once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace firewall::testing {

inline std::atomic<long>& allocations_counter() {
  static std::atomic<long> count{0};
  return count;
}

inline long allocations() { return allocations_counter().load(); }

}  // namespace firewall::testing

extern "C" {
void* __real_malloc(std::size_t size);
void* __real_calloc(std::size_t count, std::size_t size);
void* __real_realloc(void* pointer, std::size_t size);

void* __wrap_malloc(std::size_t size) {
  ++firewall::testing::allocations_counter();
  return __real_malloc(size);
}

void* __wrap_calloc(std::size_t count, std::size_t size) {
  ++firewall::testing::allocations_counter();
  return __real_calloc(count, size);
}

void* __wrap_realloc(void* pointer, std::size_t size) {
  ++firewall::testing::allocations_counter();
  return __real_realloc(pointer, size);
}
}

[[gnu::noinline]] void* operator new(std::size_t size) {
  void* made = std::malloc(size > 0 ? size : 1);
  if (made == nullptr) throw std::bad_alloc();
  return made;
}

[[gnu::noinline]] void* operator new[](std::size_t size) { return operator new(size); }
[[gnu::noinline]] void operator delete(void* pointer) noexcept { std::free(pointer); }
[[gnu::noinline]] void operator delete[](void* pointer) noexcept { std::free(pointer); }
[[gnu::noinline]] void operator delete(void* pointer, std::size_t) noexcept { std::free(pointer); }
[[gnu::noinline]] void operator delete[](void* pointer, std::size_t) noexcept { std::free(pointer); }
