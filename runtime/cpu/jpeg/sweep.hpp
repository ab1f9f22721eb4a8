// firewall_jpeg_sweep with a kernel of the caller's choice: for jpeg_sweep.cpp, and for tests that bring their own.
#pragma once

#include "firewall/jpeg_sweep.h"
#include "plan.hpp"

namespace firewall::jpeg {

// `instructions` of the options is not read.
std::size_t scratch_bytes(const Kernel& kernel, int height, int width, const firewall_jpeg_options& options) noexcept;
int sweep(const Kernel& kernel, void* destination, std::size_t destination_size, const firewall_images& source,
          const std::int32_t* qualities, std::int32_t qualities_count, const firewall_jpeg_options& options,
          void* scratch, std::size_t scratch_size) noexcept;

}  // namespace firewall::jpeg
