// Limits by size. Shapes and types are refused by the signatures, the rest by the C interface.
#include "firewall/limits.h"

#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "limits.hpp"

namespace nb = nanobind;

namespace {

template <typename Value, int Dimensions>
using Array = nb::ndarray<Value, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const double, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;

[[noreturn]] void refuse(int status) { throw nb::value_error(firewall_status_text(status)); }

class Limits {
 public:
  Limits(const Table& limits, const Array<const double, 1>& thresholds, const Array<const std::uint8_t, 1>& adds,
         double power)
      : thresholds_(thresholds.data(), thresholds.data() + thresholds.size()),
        adds_(adds.data(), adds.data() + adds.size()),
        power_(power) {
    if (limits.shape(0) != thresholds.size() || limits.shape(1) != adds.size()) {
      throw nb::value_error("limits must be of shape (groups, detectors, 3)");
    }
    if (thresholds.size() > 0x7fffffff || adds.size() > FIREWALL_LIMITS_MOST_DETECTORS) refuse(FIREWALL_BAD_SIZE);
    const double* const numbers = limits.data();
    for (std::size_t i = 0; i < limits.size(); i += 3) {
      limits_.push_back({numbers[i], numbers[i + 1], numbers[i + 2]});
    }
    if (!thresholds_.empty()) {  // what the rule itself may not be is said now, not with the first region
      const firewall_limits own = rule();
      const int status = firewall_limits_judge(nullptr, nullptr, &own, nullptr, nullptr, 0);
      if (status != FIREWALL_OK) refuse(status);
    }
  }

  // Python's lock is kept: the work is shorter than giving it away.
  void judge(const Array<const double, 2>& scores, const Array<const std::int32_t, 1>& groups,
             const Array<double, 1>& excess, const Array<std::uint8_t, 1>& standing) const {
    const std::size_t count = scores.shape(0);
    if (scores.shape(1) != adds_.size() || groups.size() != count || excess.size() != count ||
        standing.size() != count || count > 0x7fffffff) {
      throw nb::value_error("scores must be of shape (regions, detectors), groups, excess and standing (regions,)");
    }
    const firewall_limits own = rule();
    const int status = firewall_limits_judge(excess.data(), standing.data(), &own, scores.data(), groups.data(),
                                             static_cast<std::int32_t>(count));
    if (status != FIREWALL_OK) refuse(status);
  }

 private:
  firewall_limits rule() const {
    return {limits_.data(),
            thresholds_.data(),
            adds_.data(),
            static_cast<std::int32_t>(thresholds_.size()),
            static_cast<std::int32_t>(adds_.size()),
            power_};
  }

  std::vector<firewall_limit> limits_;
  std::vector<double> thresholds_;
  std::vector<std::uint8_t> adds_;
  double power_;
};

}  // namespace

void init_limits(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<Limits>(module, "Limits", "Limits by the size of a region; see firewall/limits.h.")
      .def(nb::init<const Table&, const Array<const double, 1>&, const Array<const std::uint8_t, 1>&, double>(),
           "limits"_a.noconvert(), "thresholds"_a.noconvert(), "adds"_a.noconvert(), "power"_a)
      .def("judge", &Limits::judge, "scores"_a.noconvert(), "groups"_a.noconvert(), "excess"_a.noconvert(),
           "standing"_a.noconvert(), "What the scores of the regions that are open come to.");
  module.attr("SUSPICIOUS") = FIREWALL_STANDING_SUSPICIOUS;
  module.attr("COMPLETE") = FIREWALL_STANDING_COMPLETE;
}
