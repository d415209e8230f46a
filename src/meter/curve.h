/* Energy as a function of time, E(t), from the steps of a counter and from power readings, and its value
 * at the edges of windows. Both curves grow sample by sample and keep the newest: an edge may lie anywhere
 * in what they keep. It is *pending* until the curve has passed it, is *settled* then, and holds its result
 * from there on.
 *
 * Counter. A new count E_k seen by a read was reached at some moment u_k in (lo_k, hi_k]: after the read
 * that last showed the old count (and not longer ago than the counter's update time), before this read
 * ended. As the counter has stood still for its update time at most, each further read that shows E_k moves
 * lo_k up. With P the highest power possible, every step s near t leaves open
 *     E_s - P max(0, hi_s - t)  <=  E(t)  <=  E_s + P max(0, t - lo_s),
 * so that E(t) lies between the E of the last step that surely came before t (hi_s <= t) and of the first
 * that surely came after it (lo_s >= t), which are the outermost that are looked at. The estimate is the
 * straight line between the u's nearest to t. P is the power limit, or the highest power seen if that is
 * more; where no limit is known, twice the highest mean seen.
 *
 * Power. E(t) is the trapezoid sum of the readings. Its variance grows by (dP dt / 2)^2 a sample; a
 * reading being as old as its update time, an edge is off by at most that time times the spread of
 * power. Across a gap the energy may have been anything from 0 to P dt. */
#ifndef KW_METER_CURVE_H
#define KW_METER_CURVE_H

#include "meter/source.h"

enum kw__edge_state { KW__EDGE_PENDING, KW__EDGE_SETTLED, KW__EDGE_LOST };

struct kw__edge {
    double t_s;
    enum kw__edge_state state; /* lost: the curve has no value there */
    int segment;               /* edges of different segments have no known difference (counter) */
    double energy_j, low_j, high_j;
    double variance_j2, gap_low_j, gap_high_j; /* power: sums up to here */
};

/* The difference of two settled edges with its interval; not known when an edge is not settled or they
 * are of different segments. */
struct kw__span {
    bool known;
    double value, low, high;
};

struct kw__step {
    double lo_s, hi_s, energy_j;
};

/* How many steps and readings are kept: at one a millisecond, the most there is, half a second. */
enum { KW__KEPT = 512 };

struct kw__counter {
    const struct kw__channel *channel;
    struct kw__step steps[KW__KEPT]; /* a ring */
    int64_t num_steps;               /* of the segment, ever */
    int segment;
    double raw_j;              /* last count read */
    double read0_s, read1_s;   /* when */
    double energy_j;           /* since the segment began */
    double peak_w;             /* highest power seen or read */
    double highest_mean_w;     /* between steps, a lower bound of it */
    double anchor_s, anchor_j; /* where the mean power of the latest interval counts from */
    bool frozen;               /* it stands still although power is drawn */
};

/* A power reading and the sums up to it. */
struct kw__power_sum {
    double t_s, power_w, energy_j, variance_j2, gap_low_j, gap_high_j;
};

struct kw__integral {
    const struct kw__channel *channel;
    struct kw__power_sum sums[KW__KEPT]; /* a ring */
    int64_t num_sums;                    /* ever */
    double lowest_w, highest_w;
};

void kw__counter_init(struct kw__counter *counter, const struct kw__channel *channel);
void kw__integral_init(struct kw__integral *integral, const struct kw__channel *channel);

/* Feeds a good reading. `power_w` may be NaN. True when the curve has grown: pending edges may settle. */
bool kw__counter_add(struct kw__counter *counter, double t0_s, double t1_s, double count_j, double power_w);
/* `late`: reads failed, or came too late, since the reading before. */
void kw__integral_add(struct kw__integral *integral, double t_s, double power_w, double peak_w, bool late);

/* The last step of the segment; there is one once a count was added. */
const struct kw__step *kw__counter_last(const struct kw__counter *counter);

/* Before this the curve is forgotten; -INFINITY: nothing is yet. */
double kw__counter_oldest_s(const struct kw__counter *counter);
double kw__integral_oldest_s(const struct kw__integral *integral);

/* Settles a pending edge that the curve has passed. */
void kw__counter_settle(const struct kw__counter *counter, struct kw__edge *edge);
void kw__integral_settle(const struct kw__integral *integral, struct kw__edge *edge);

/* The highest power E(t) may rise with; INFINITY: nothing is known yet. */
double kw__counter_peak_w(const struct kw__counter *counter);

struct kw__span kw__counter_span(const struct kw__counter *counter, const struct kw__edge *begin,
                                 const struct kw__edge *end);
struct kw__span kw__integral_span(const struct kw__edge *begin, const struct kw__edge *end);

#endif
