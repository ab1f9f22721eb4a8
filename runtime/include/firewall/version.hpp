// Version of the runtime, to be compared with the Python package that loads it.
#pragma once

namespace firewall {

// "major.minor.patch"; a static string.
const char* version() noexcept;

}  // namespace firewall
