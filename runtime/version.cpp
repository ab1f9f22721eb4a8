#include "firewall/version.hpp"

namespace firewall {

const char* version() noexcept { return FIREWALL_VERSION; }

}  // namespace firewall
