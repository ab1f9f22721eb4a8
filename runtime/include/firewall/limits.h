/* Limits by the size of a region: what the scores of a frame's regions come to, all of them in one call.
 *
 * Regions are in groups by their size. In group g, with detectors d:
 *
 *   S = (sum over the d that add of min(max(0, (score_d - median_gd) / unit_gd), 1e100) ** power) ** (1 / power)
 *   excess = max(S - threshold_g, min(max over d of (score_d - limit_gd) / unit_gd, 1e100))
 *
 * over the scores that are numbers: NaN stands for a detector that was not asked as well as for one that gave NaN. The
 * sum is of the terms divided by the largest one, so that no power overflows, and rounded once. It is defined by
 * firewall/decision/conditional.py and gives the same bits; tests/decision/test_panel.py holds that.
 *
 * What is settled stays settled: a region whose standing is not 0 is passed over, so the caller may close one itself.
 */
#ifndef FIREWALL_LIMITS_H
#define FIREWALL_LIMITS_H

#include <stdint.h>

#include "firewall/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FIREWALL_LIMITS_MOST_DETECTORS 64

/* What a region's scores come to; both may hold. */
#define FIREWALL_STANDING_SUSPICIOUS 1 /* the excess is above 0: withhold, whatever the others would say */
#define FIREWALL_STANDING_COMPLETE 2   /* every detector has given a finite score */

typedef struct firewall_limit {
  double median;
  double unit; /* above 0 */
  double limit;
} firewall_limit;

typedef struct firewall_limits {
  const firewall_limit* limits; /* groups x detectors */
  const double* thresholds;     /* groups */
  const uint8_t* adds;          /* detectors: not 0 where its score adds to S */
  int32_t groups;               /* 1 or more */
  int32_t detectors;            /* 1 to FIREWALL_LIMITS_MOST_DETECTORS */
  double power;                 /* 1 or more */
} firewall_limits;

/* excess     count numbers, written where standing is 0: above 0 withholds; -infinity where no score is a number
 * standing   count bytes, read and written: 0 where the region is still open
 * rule       what is above
 * scores     count x detectors numbers, any
 * groups     count numbers of groups
 * Returns FIREWALL_OK, or FIREWALL_NULL_POINTER, FIREWALL_BAD_SIZE, or FIREWALL_BAD_PARAMETER for a group that there is
 * not, a unit or a power that is not allowed; then excess and standing are untouched. */
int firewall_limits_judge(double* excess, uint8_t* standing, const firewall_limits* rule, const double* scores,
                          const int32_t* groups, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
