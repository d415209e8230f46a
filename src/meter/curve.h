/* Energy as a function of time, E(t), from the steps of a counter and from power readings, and its value
 * at the edges of windows. Both curves grow sample by sample and keep a few of them: an edge is
 * *pending* until the curve has passed it, is *settled* then, and holds its result from there on.
 *
 * Counter. A new count E_k seen by a read was reached at some moment u_k in (lo_k, hi_k]: after the read
 * that last showed the old count (and not longer ago than the counter's update time), before this read
 * ended. With a the last step that surely came before t (hi_a <= t) and b the first that surely came
 * after it (lo_b >= t), and P the highest power possible,
 *     max(E_a, E_b - P (hi_b - t))  <=  E(t)  <=  min(E_b, E_a + P (t - lo_a)),
 * and the estimate is the straight line between the u's nearest to t. P is the power limit, or the
 * highest power seen if that is more; where no limit is known, twice the highest mean seen.
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

enum { KW__STEPS = 4 };

struct kw__counter {
    const struct kw__channel *channel;
    struct kw__step steps[KW__STEPS]; /* oldest first */
    int num_steps;
    int segment;
    double raw_j;              /* last count read */
    double read0_s, read1_s;   /* when */
    double energy_j;           /* since the segment began */
    double peak_w;             /* highest power seen or read */
    double highest_mean_w;     /* between steps, a lower bound of it */
    double anchor_s, anchor_j; /* where the mean power of the latest interval counts from */
    bool frozen;               /* it stands still although power is drawn */
};

struct kw__integral {
    const struct kw__channel *channel;
    bool started;
    double t_s, power_w; /* last reading */
    double energy_j, variance_j2, gap_low_j, gap_high_j;
    double lowest_w, highest_w;
    /* before the last reading */
    double before_t_s, before_power_w, before_energy_j, before_variance_j2, before_gap_low_j,
        before_gap_high_j;
};

void kw__counter_init(struct kw__counter *counter, const struct kw__channel *channel);
void kw__integral_init(struct kw__integral *integral, const struct kw__channel *channel);

/* Feeds a good reading. `power_w` may be NaN. True when the curve has grown: pending edges may settle. */
bool kw__counter_add(struct kw__counter *counter, double t0_s, double t1_s, double count_j, double power_w);
/* `late`: reads failed, or came too late, since the reading before. */
void kw__integral_add(struct kw__integral *integral, double t_s, double power_w, double peak_w, bool late);

/* Settles a pending edge that the curve has passed. */
void kw__counter_settle(const struct kw__counter *counter, struct kw__edge *edge);
void kw__integral_settle(const struct kw__integral *integral, struct kw__edge *edge);

/* The highest power E(t) may rise with; INFINITY: nothing is known yet. */
double kw__counter_peak_w(const struct kw__counter *counter);

struct kw__span kw__counter_span(const struct kw__counter *counter, const struct kw__edge *begin,
                                 const struct kw__edge *end);
struct kw__span kw__integral_span(const struct kw__edge *begin, const struct kw__edge *end);

#endif
