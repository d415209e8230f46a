/* See curve.h for the formulas. */
#include <math.h>

#include "meter/curve.h"

/* A CPU package or GPU that seems to draw more than this in the mean between two reads has had its counter
 * reset; and a counter that could have wrapped twice at this power since it was last read is not
 * trusted across that time. It need only be far above any real device. */
static const double implausible_w = 1e4;

/* 90 % of a normal distribution lie within this many standard deviations. */
static const double ninety = 1.645;

/* ---- The counter ---- */

void kw__counter_init(struct kw__counter *counter, const struct kw__channel *channel)
{
    *counter = (struct kw__counter){.channel = channel, .peak_w = channel->limit_w};
}

double kw__counter_peak_w(const struct kw__counter *counter)
{
    if (counter->channel->limit_w > 0) return fmax(counter->peak_w, counter->highest_mean_w);
    double seen = fmax(counter->peak_w, 2 * counter->highest_mean_w);
    return seen > 0 ? seen : INFINITY;
}

static struct kw__step *step_at(const struct kw__counter *counter, int64_t index)
{
    return (struct kw__step *)&counter->steps[index % KW__KEPT];
}

const struct kw__step *kw__counter_last(const struct kw__counter *counter)
{
    return step_at(counter, counter->num_steps - 1);
}

static int64_t oldest_step(const struct kw__counter *counter)
{
    return counter->num_steps > KW__KEPT ? counter->num_steps - KW__KEPT : 0;
}

double kw__counter_oldest_s(const struct kw__counter *counter)
{
    return counter->num_steps > KW__KEPT ? step_at(counter, oldest_step(counter))->hi_s : -INFINITY;
}

static void push(struct kw__counter *counter, struct kw__step step)
{
    if (counter->num_steps > 0) {
        const struct kw__step *last = kw__counter_last(counter);
        double mean = (step.energy_j - last->energy_j) / (step.hi_s - last->lo_s);
        if (isfinite(mean)) counter->highest_mean_w = fmax(counter->highest_mean_w, mean);
    }
    *step_at(counter, counter->num_steps++) = step;
}

/* The energy between two counts read `elapsed_s` apart, or NaN when it can't be told: the counter
 * was reset, or may have wrapped more than once. */
static double gained(const struct kw__channel *channel, double before_j, double now_j, double elapsed_s)
{
    double most = implausible_w * (elapsed_s + channel->counter_update_s) + channel->counter_quantum_j;
    double range = channel->counter_range_j;
    if (range > 0 && most >= range) return NAN;
    double gain = now_j - before_j;
    if (gain < 0 && range > 0) gain += range;
    return gain >= 0 && gain <= most ? gain : NAN;
}

bool kw__counter_add(struct kw__counter *counter, double t0_s, double t1_s, double count_j, double power_w)
{
    const struct kw__channel *channel = counter->channel;
    double earliest_s = t0_s - channel->counter_update_s;
    bool first = counter->num_steps == 0, grown = true;
    if (isfinite(power_w)) counter->peak_w = fmax(counter->peak_w, power_w);
    if (!first) {
        double gain = gained(channel, counter->raw_j, count_j, t1_s - counter->read0_s);
        if (isnan(gain)) { /* a new curve, with no known distance from the old one */
            counter->segment++;
            counter->num_steps = 0;
            first = true;
        } else if (gain > 0) {
            counter->energy_j += gain;
            push(counter, (struct kw__step){fmax(counter->read0_s, earliest_s), t1_s, counter->energy_j});
        } else {
            struct kw__step *last = step_at(counter, counter->num_steps - 1);
            last->lo_s = fmin(fmax(last->lo_s, earliest_s), last->hi_s);
            grown = false;
        }
    }
    if (first) {
        counter->energy_j = 0;
        push(counter, (struct kw__step){earliest_s, t1_s, 0});
        counter->anchor_s = t1_s;
        counter->anchor_j = 0;
    }
    /* ten updates without a step, and a second at least: it will not come */
    double still_s = t0_s - kw__counter_last(counter)->hi_s;
    counter->frozen = !grown && still_s >= fmax(1, 10 * channel->counter_update_s) && !(power_w <= 0);
    counter->raw_j = count_j;
    counter->read0_s = t0_s;
    counter->read1_s = t1_s;
    return grown;
}

static double moment(const struct kw__step *step)
{
    return 0.5 * (step->lo_s + step->hi_s);
}

void kw__counter_settle(const struct kw__counter *counter, struct kw__edge *edge)
{
    if (edge->state != KW__EDGE_PENDING || counter->num_steps == 0) return;
    double t = edge->t_s, peak = kw__counter_peak_w(counter);
    int64_t last = counter->num_steps - 1, oldest = oldest_step(counter), a = last;
    if (kw__counter_last(counter)->lo_s < t) return;
    while (a >= oldest && step_at(counter, a)->hi_s > t) a--;
    if (a < oldest) { /* before the first count of this segment */
        edge->state = KW__EDGE_LOST;
        return;
    }
    const struct kw__step *left = step_at(counter, a), *right = NULL;
    double low = -INFINITY, high = INFINITY;
    for (int64_t i = a; i <= last; i++) {
        const struct kw__step *s = step_at(counter, i);
        low = fmax(low, s->hi_s <= t ? s->energy_j : s->energy_j - peak * (s->hi_s - t));
        high = fmin(high, s->lo_s >= t ? s->energy_j : s->energy_j + peak * (t - s->lo_s));
        if (moment(s) <= t) left = s;
        if (moment(s) >= t && !right) right = s;
        if (s->lo_s >= t) break;
    }
    double across = moment(right) - moment(left);
    double part = across > 0 ? (t - moment(left)) / across : 0.5;
    edge->energy_j = left->energy_j + part * (right->energy_j - left->energy_j);
    double quantum = counter->channel->counter_quantum_j;
    edge->low_j = fmin(edge->energy_j, low) - quantum;
    edge->high_j = fmax(edge->energy_j, high) + quantum;
    edge->segment = counter->segment;
    edge->state = KW__EDGE_SETTLED;
}

struct kw__span kw__counter_span(const struct kw__counter *counter, const struct kw__edge *begin,
                                 const struct kw__edge *end)
{
    struct kw__span span = {0};
    if (begin->state != KW__EDGE_SETTLED || end->state != KW__EDGE_SETTLED || begin->segment != end->segment)
        return span;
    span.known = true;
    span.value = fmax(0, end->energy_j - begin->energy_j);
    span.low = fmax(0, end->low_j - begin->high_j);
    span.high = end->high_j - begin->low_j;
    /* a window shorter than a step is bound by the power more than by its edges */
    double most = kw__counter_peak_w(counter) * (end->t_s - begin->t_s);
    if (isfinite(most)) span.high = fmax(span.value, fmin(span.high, most));
    return span;
}

/* ---- Integrated power ---- */

void kw__integral_init(struct kw__integral *integral, const struct kw__channel *channel)
{
    *integral = (struct kw__integral){.channel = channel};
}

static struct kw__power_sum *sum_at(const struct kw__integral *integral, int64_t index)
{
    return (struct kw__power_sum *)&integral->sums[index % KW__KEPT];
}

static int64_t oldest_sum(const struct kw__integral *integral)
{
    return integral->num_sums > KW__KEPT ? integral->num_sums - KW__KEPT : 0;
}

double kw__integral_oldest_s(const struct kw__integral *integral)
{
    return integral->num_sums > KW__KEPT ? sum_at(integral, oldest_sum(integral))->t_s : -INFINITY;
}

void kw__integral_add(struct kw__integral *integral, double t_s, double power_w, double peak_w, bool late)
{
    struct kw__integral *in = integral;
    struct kw__power_sum next = {.t_s = t_s, .power_w = power_w};
    if (in->num_sums > 0) {
        const struct kw__power_sum *last = sum_at(in, in->num_sums - 1);
        double dt = t_s - last->t_s;
        double across = 0.5 * (last->power_w + power_w) * dt, error = 0.5 * (power_w - last->power_w) * dt;
        next = *last;
        next.t_s = t_s;
        next.power_w = power_w;
        next.energy_j += across;
        if (late) {
            double peak = isfinite(peak_w) ? peak_w : 2 * fmax(in->highest_w, power_w);
            next.gap_low_j += across;
            next.gap_high_j += fmax(0, peak * dt - across);
        } else {
            next.variance_j2 += error * error;
        }
    } else {
        in->lowest_w = in->highest_w = power_w;
    }
    in->lowest_w = fmin(in->lowest_w, power_w);
    in->highest_w = fmax(in->highest_w, power_w);
    *sum_at(in, in->num_sums++) = next;
}

void kw__integral_settle(const struct kw__integral *integral, struct kw__edge *edge)
{
    const struct kw__integral *in = integral;
    int64_t i = in->num_sums - 1, oldest = oldest_sum(in);
    if (edge->state != KW__EDGE_PENDING || i < 0 || edge->t_s > sum_at(in, i)->t_s) return;
    while (i > oldest && sum_at(in, i - 1)->t_s >= edge->t_s) i--;
    const struct kw__power_sum *after = sum_at(in, i), *before = i > oldest ? sum_at(in, i - 1) : after;
    if (edge->t_s < before->t_s) {
        edge->state = KW__EDGE_LOST;
        return;
    }
    double dt = after->t_s - before->t_s, x = edge->t_s - before->t_s, part = dt > 0 ? x / dt : 0;
    double power = before->power_w + part * (after->power_w - before->power_w);
    edge->energy_j = before->energy_j + 0.5 * (before->power_w + power) * x;
    edge->variance_j2 = before->variance_j2 + part * (after->variance_j2 - before->variance_j2);
    edge->gap_low_j = before->gap_low_j + part * (after->gap_low_j - before->gap_low_j);
    edge->gap_high_j = before->gap_high_j + part * (after->gap_high_j - before->gap_high_j);
    double lag = (in->highest_w - in->lowest_w) * in->channel->power_update_s;
    edge->low_j = edge->energy_j - lag;
    edge->high_j = edge->energy_j + lag;
    edge->state = KW__EDGE_SETTLED;
}

struct kw__span kw__integral_span(const struct kw__edge *begin, const struct kw__edge *end)
{
    struct kw__span span = {0};
    if (begin->state != KW__EDGE_SETTLED || end->state != KW__EDGE_SETTLED) return span;
    double noise = ninety * sqrt(fmax(0, end->variance_j2 - begin->variance_j2));
    span.known = true;
    span.value = fmax(0, end->energy_j - begin->energy_j);
    span.low = fmax(0, end->low_j - begin->high_j - noise - (end->gap_low_j - begin->gap_low_j));
    span.high = end->high_j - begin->low_j + noise + (end->gap_high_j - begin->gap_high_j);
    return span;
}
