#include "firewall/limits.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace firewall {
namespace {

constexpr int kMost = FIREWALL_LIMITS_MOST_DETECTORS;
// No score counts as farther away than so many units: neither a power nor a sum overflows.
constexpr double kFarthest = 1e100;

// The sum of up to kMost numbers of 0 to 1, as if it were computed exactly and rounded once, to even where it lies
// halfway: so the order of the detectors doesn't matter. Kept as numbers that don't overlap, ascending (Shewchuk 1997,
// Adaptive precision floating-point arithmetic, grow-expansion); those that are 0 are left out.
class ExactSum {
 public:
  void add(double value) noexcept {
    int kept = 0;
    for (int i = 0; i < count_; ++i) {
      const double sum = value + parts_[i], other = sum - value;
      const double lost = (value - (sum - other)) + (parts_[i] - other);  // two-sum: sum + lost is exact
      if (lost != 0) parts_[kept++] = lost;
      value = sum;
    }
    if (value != 0) parts_[kept++] = value;
    count_ = kept;
  }

  double rounded() const noexcept {
    if (count_ == 0) return 0;
    int place = count_ - 1;
    double sum = parts_[place], rest = 0;
    while (place > 0 && rest == 0) {
      const double part = parts_[--place], larger = sum;
      sum = larger + part;
      rest = part - (sum - larger);
    }
    // Where `rest` is exactly half of the last digit, what is below it says to which side the sum lies.
    if (place > 0 && rest != 0 && (rest > 0) == (parts_[place - 1] > 0)) {
      const double doubled = 2 * rest, moved = sum + doubled;
      if (moved - sum == doubled) return moved;
    }
    return sum;
  }

 private:
  double parts_[kMost];
  int count_ = 0;
};

// The root of the sum of the powers of `count` numbers of 0 to kFarthest.
double root(const double* beyond, int count, double power) noexcept {
  double largest = 0;
  for (int i = 0; i < count; ++i) largest = std::max(largest, beyond[i]);
  if (largest == 0) return 0;
  ExactSum sum;
  for (int i = 0; i < count; ++i) sum.add(std::pow(beyond[i] / largest, power));
  return largest * std::pow(sum.rounded(), 1 / power);
}

}  // namespace
}  // namespace firewall

int firewall_limits_judge(double* excess, uint8_t* standing, const firewall_limits* rule, const double* scores,
                          const int32_t* groups, int32_t count) {
  using namespace firewall;
  if (rule == nullptr || rule->limits == nullptr || rule->thresholds == nullptr || rule->adds == nullptr) {
    return FIREWALL_NULL_POINTER;
  }
  if (count > 0 && (excess == nullptr || standing == nullptr || scores == nullptr || groups == nullptr)) {
    return FIREWALL_NULL_POINTER;
  }
  if (count < 0 || rule->groups < 1 || rule->detectors < 1 || rule->detectors > kMost) return FIREWALL_BAD_SIZE;
  if (!(rule->power >= 1) || std::isinf(rule->power)) return FIREWALL_BAD_PARAMETER;
  const std::size_t detectors = static_cast<std::size_t>(rule->detectors);
  for (std::int32_t i = 0; i < count; ++i) {
    if (groups[i] < 0 || groups[i] >= rule->groups) return FIREWALL_BAD_PARAMETER;
    const firewall_limit* const own = rule->limits + static_cast<std::size_t>(groups[i]) * detectors;
    for (std::size_t d = 0; d < detectors; ++d) {
      if (!(own[d].unit > 0)) return FIREWALL_BAD_PARAMETER;
    }
  }
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  for (std::int32_t i = 0; i < count; ++i) {
    if (standing[i] != 0) continue;
    const auto group = static_cast<std::size_t>(groups[i]);
    const firewall_limit* const own = rule->limits + group * detectors;
    const double* const row = scores + static_cast<std::size_t>(i) * detectors;
    double beyond[kMost], alone = kNone;
    int adding = 0;
    bool known = false, complete = true;
    for (std::size_t d = 0; d < detectors; ++d) {
      complete = complete && std::isfinite(row[d]);
      if (std::isnan(row[d])) continue;
      known = true;
      alone = std::max(alone, (row[d] - own[d].limit) / own[d].unit);
      if (rule->adds[d] != 0) {
        beyond[adding++] = std::min(std::max(0.0, (row[d] - own[d].median) / own[d].unit), kFarthest);
      }
    }
    excess[i] = known
                    ? std::max(root(beyond, adding, rule->power) - rule->thresholds[group], std::min(alone, kFarthest))
                    : kNone;
    standing[i] = static_cast<std::uint8_t>((excess[i] > 0 ? FIREWALL_STANDING_SUSPICIOUS : 0) |
                                            (complete ? FIREWALL_STANDING_COMPLETE : 0));
  }
  return FIREWALL_OK;
}
