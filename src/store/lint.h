/* The linter: what is wrong with a measurement, found from the measurement alone, from physics and from
 * what its request should take.
 *
 *     struct kw__lint *lint;
 *     kw__lint_open(catalog, &lint, &err);
 *     kw__lint_count(lint, run, &err);      // every run that is there, in any order
 *     kw__lint_run(lint, run, &arena, &findings, &count, &err);
 *     kw__lint_close(lint);
 *
 * A finding names its rule by a code, says what is wrong with both figures, and what to do. `excludes`
 * marks those that make a figure wrong: fits leave the run out. The others tell that it is less certain.
 *
 *
 * - power-above-limit: energy over time, its low end, is at most the power limit and 2 %; the card holds it.
 * Here and below, an interval that does not hold its value is none
 * - power-below-idle: its high end is at least the idle power
 * - units: a power of more than five times the limit or less than a fifth of idle, which another unit mends
 * - energy-without-time, zero-energy, time-missing: the two come together; a device that is on uses some
 * - faster-than-peak: FLOPs of the counted graph over time is at most the peak of the device
 * - shape-and-time: measured time against that predicted for the same request by the kernel predictor:
 *   outside of three times its 90 % interval and by more than 25 %. Not asked of warm-ups
 * - short-window: the interval of the energy is wider than +-10 %, also of the mean of the repeats that are
 *   there, and for a part of the run than 5 % of the run's energy; or, where none is stated, the window is
 *   shorter than 1 s, ten steps of NVML's counter, which n repeats make the root of n times as many
 * - gap: a tenth of a window went unread
 * - frozen-counter, counter-disagrees: what the meter found
 * - throttled: the clock was held down by heat or a power brake; a power cap is normal
 * - shared-device: other processes ran on it
 * - stages-exceed-whole: nested windows hold no more than what they are nested in
 * - window-not-closed: a stage ended because the run did
 * - few-repeats: fewer than three runs of the same settings, those of which a row says to be the mean
 * counted; runs of which nothing says what they were count alone
 */
#ifndef KW_STORE_LINT_H
#define KW_STORE_LINT_H

#include "store/store.h"

struct kw__lint;

kw_status kw__lint_open(const kw_catalog *catalog, struct kw__lint **out, kw_error *err);
void kw__lint_close(struct kw__lint *lint);

/* Counts a run, of which settings are the only part asked for, among its repeats. Runs never counted are not
 * asked for repeats. */
kw_status kw__lint_count(struct kw__lint *lint, const struct kw__run *run, kw_error *err);

/* The findings of a run, none being no error; all strings are of the arena. */
kw_status kw__lint_run(struct kw__lint *lint, const struct kw__run *run, struct kw__arena *arena,
                       struct kw__finding **out, size_t *count, kw_error *err);

#endif
