// Limits by size: the excess by hand, sums that are rounded once, what is settled and stays so, scores that are no
// numbers, memory of exactly the promised size (a sanitizer sees what goes beyond), refusals, and no allocation. That
// random scores get the bits of the rule in Python is held by tests/decision/test_panel.py.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "allocations.hpp"
#include "expect.hpp"
#include "firewall/limits.h"

namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Rule {
  std::vector<firewall_limit> limits;
  std::vector<double> thresholds;
  std::vector<std::uint8_t> adds;
  double power;

  firewall_limits plain() const {
    return {limits.data(),
            thresholds.data(),
            adds.data(),
            static_cast<std::int32_t>(thresholds.size()),
            static_cast<std::int32_t>(adds.size()),
            power};
  }
};

// Two groups, three detectors, of which the last has only its limit.
const Rule kRule = {{{0, 1, 4}, {-6, 2, 1}, {1, 0.5, 3}, {0, 2, 20}, {-3, 1, 9}, {2, 0.5, 5}}, {3, 6}, {1, 1, 0}, 2};

struct Found {
  int status;
  std::vector<double> excess;
  std::vector<std::uint8_t> standing;
};

// Copies lie in memory of their own size.
Found judge(const Rule& rule, const std::vector<double>& scores, const std::vector<std::int32_t>& groups,
            std::vector<std::uint8_t> standing = {}) {
  const firewall_limits plain = rule.plain();
  if (standing.empty()) standing.assign(groups.size(), 0);
  std::vector<double> excess(groups.size(), 77);
  const int status = firewall_limits_judge(excess.data(), standing.data(), &plain, scores.data(), groups.data(),
                                           static_cast<std::int32_t>(groups.size()));
  return {status, excess, standing};
}

void by_hand() {
  const Found found = judge(kRule, {1, -2, 0, 1, -2, 0, 0, 0, 3.5, 0, -9, 1}, {0, 1, 0, 0});
  EXPECT(found.status == FIREWALL_OK);
  EXPECT(found.excess[0] == std::sqrt(5.0) - 3);                       // 1 and 2 units
  EXPECT(std::fabs(found.excess[1] - (std::sqrt(1.25) - 6)) < 1e-15);  // the other group: 0.5 and 1 unit
  EXPECT(found.excess[2] == 1);                                        // a limit of its own, in its units
  EXPECT(found.excess[3] == -3);                                       // below the medians nothing counts
  EXPECT(found.standing == (std::vector<std::uint8_t>{2, 2, 3, 2}));
}

void what_is_no_number() {
  const Found found = judge(kRule,
                            {kNan, kNan, kNan, kNan, 2, kNan, kInfinite, 0, 0, -kInfinite, -kInfinite, -kInfinite,
                             1e300, kNan, 0, -1e308, 5, 1},
                            {0, 0, 0, 0, 0, 0});
  EXPECT(found.excess[0] == -kInfinite && found.standing[0] == 0);
  EXPECT(found.excess[1] == 1 && found.standing[1] == 1);  // an alarm is one, whatever the others say
  EXPECT(found.excess[2] == 1e100 && found.standing[2] == 1);
  EXPECT(found.excess[3] == -3 && found.standing[3] == 0);
  EXPECT(found.excess[4] == 1e100 && found.standing[4] == 1);
  EXPECT(found.standing[5] == 3);
}

void sums_are_rounded_once() {
  // Powers of 1; one after the other, 2^-53 would be lost each time.
  const double small = std::ldexp(1.0, -53), next = 1 + std::ldexp(1.0, -52);
  Rule rule = {{}, {0}, {}, 1};
  const auto sum = [&](const std::vector<double>& terms) {
    rule.limits.assign(terms.size(), {0, 1, 1e9});
    rule.adds.assign(terms.size(), 1);
    return judge(rule, terms, {0}).excess[0];
  };
  EXPECT(sum({1, small, small}) == next && sum({small, 1, small}) == next && sum({small, small, 1}) == next);
  EXPECT(sum({1, small}) == 1);                            // halfway: to even
  EXPECT(sum({1, small, std::ldexp(1.0, -120)}) == next);  // beyond halfway
  EXPECT(sum({1, std::ldexp(1.0, -120)}) == 1 && sum({0, 0}) == 0);
  EXPECT(sum({1, std::ldexp(1.0, -52), small}) == 1 + std::ldexp(1.0, -51));  // halfway, and the even one lies above
  EXPECT(sum({1, 1, 1, 0.5}) == 3.5);
  std::vector<double> many(FIREWALL_LIMITS_MOST_DETECTORS, small);
  many.back() = 1;
  EXPECT(sum(many) == 1 + 64 * small);  // 63 of them: halfway between 62 and 64
  many.front() = std::ldexp(1.0, -54);
  EXPECT(sum(many) == 1 + 62 * small);
}

void settled_stays_settled() {
  const Found found = judge(kRule, {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}, {0, 0, 0, 0}, {2, 4, 0, 1});
  EXPECT(found.standing == (std::vector<std::uint8_t>{2, 4, 3, 1}));
  EXPECT(found.excess[0] == 77 && found.excess[1] == 77 && found.excess[2] > 0 && found.excess[3] == 77);
}

void refused() {
  const firewall_limits good = kRule.plain();
  double excess[1] = {77};
  std::uint8_t standing[1] = {0};
  const double scores[3] = {0, 0, 0};
  const std::int32_t group[1] = {1}, beyond[1] = {2}, below[1] = {-1};
  const auto tried = [&](const firewall_limits& rule) {
    return firewall_limits_judge(excess, standing, &rule, scores, group, 1);
  };
  EXPECT(firewall_limits_judge(nullptr, nullptr, &good, nullptr, nullptr, 0) == FIREWALL_OK);
  EXPECT(firewall_limits_judge(excess, standing, nullptr, scores, group, 1) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_limits_judge(nullptr, standing, &good, scores, group, 1) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_limits_judge(excess, nullptr, &good, scores, group, 1) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_limits_judge(excess, standing, &good, nullptr, group, 1) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_limits_judge(excess, standing, &good, scores, nullptr, 1) == FIREWALL_NULL_POINTER);
  EXPECT(firewall_limits_judge(excess, standing, &good, scores, group, -1) == FIREWALL_BAD_SIZE);
  EXPECT(firewall_limits_judge(excess, standing, &good, scores, beyond, 1) == FIREWALL_BAD_PARAMETER);
  EXPECT(firewall_limits_judge(excess, standing, &good, scores, below, 1) == FIREWALL_BAD_PARAMETER);
  for (int part = 0; part < 3; ++part) {
    firewall_limits none = good;
    if (part == 0) none.limits = nullptr;
    if (part == 1) none.thresholds = nullptr;
    if (part == 2) none.adds = nullptr;
    EXPECT(tried(none) == FIREWALL_NULL_POINTER);
  }
  for (const std::int32_t count : {0, -1, FIREWALL_LIMITS_MOST_DETECTORS + 1}) {
    firewall_limits odd = good;
    odd.detectors = count;
    EXPECT(tried(odd) == FIREWALL_BAD_SIZE);
  }
  firewall_limits empty = good;
  empty.groups = 0;
  EXPECT(tried(empty) == FIREWALL_BAD_SIZE);
  for (const double power : {0.5, 0.0, -1.0, kNan, kInfinite}) {
    firewall_limits odd = good;
    odd.power = power;
    EXPECT(tried(odd) == FIREWALL_BAD_PARAMETER);
  }
  for (const double unit : {0.0, -1.0, kNan}) {
    Rule odd = kRule;
    odd.limits[4].unit = unit;
    EXPECT(tried(odd.plain()) == FIREWALL_BAD_PARAMETER);
  }
  EXPECT(excess[0] == 77 && standing[0] == 0);
}

void nothing_is_allocated() {
  const firewall_limits rule = kRule.plain();
  double excess[2];
  std::uint8_t standing[2] = {0, 0};
  const double scores[6] = {1, -2, 0, 9, 9, 9};
  const std::int32_t groups[2] = {0, 1};
  const long before = firewall::testing::allocations();
  const int status = firewall_limits_judge(excess, standing, &rule, scores, groups, 2);
  EXPECT(firewall::testing::allocations() == before && status == FIREWALL_OK);
  const std::vector<double> counted(10);
  EXPECT(firewall::testing::allocations() > before);  // the counter counts
}

}  // namespace

int main() {
  by_hand();
  what_is_no_number();
  sums_are_rounded_once();
  settled_stays_settled();
  refused();
  nothing_is_allocated();
  if (firewall::testing::failures == 0) std::puts("limits by size: all as expected");
  return firewall::testing::failures == 0 ? 0 : 1;
}
