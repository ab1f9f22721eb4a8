// What every bound operation does around its call of the C interface.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "firewall/status.h"

// Scratch of the calling thread, which grows and stays: a frame loop allocates nothing.
struct Scratch {
  std::unique_ptr<std::uint8_t[]> data;
  std::size_t size = 0;
};

inline Scratch& scratch_of(std::size_t size) {
  thread_local Scratch scratch;
  if (scratch.size < size) {
    scratch.size = 0;
    scratch.data.reset(new std::uint8_t[size]);
    scratch.size = size;
  }
  return scratch;
}

// Makes the call without Python's lock and turns its status into an error.
template <typename Call>
void run(const Call& call) {
  int status;
  {
    nanobind::gil_scoped_release release;
    status = call();
  }
  if (status != FIREWALL_OK) throw nanobind::value_error(firewall_status_text(status));
}
