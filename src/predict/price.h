/* The kernel predictor's arithmetic. One operator takes
 *
 *     t = max(F / (mu P), B / (beta BW)) + M / (beta BW) + n tau + H / host + W / copy
 *
 * F FLOPs and B operand bytes of its main kernel, M bytes of kernels bound by memory, n launches, H
 * bytes moved to or written on the host, W bytes of weights copied to the device or back, each way at its
 * rate. mu is the rate of the operator's key, and where the calibration says so, at its size; so is beta of
 * an operator without arithmetic whose key has a rate. Kernels draw the busy power, gaps the gap power,
 * copies of weights a power of their own, all shares of the hardware's limit and never below its idle power.
 * Kernels that walk (graph/stack.h), of b blocks of e elements each on a GPU of p processors, take
 *
 *     max(B / (beta BW), ceil(b / p) e / rate)      e = 1 and another rate where a block has a row
 *
 * Of groups they draw what lies between the calibration's power with no processor at work and with all, by
 * min(1, b / p); of rows the busy power. A calibration of one session alone has its level in all times and
 * powers on its own hardware. A phase takes at least what the host needs to issue its kernels. Under a limit
 * below the busy power an operator cannot finish sooner than its energy above the gap power over (limit - gap
 * power), so its busy time stretches; a limit above the hardware's own is taken as that. Tile and wave
 * quantisation has no term: in a prototype it made the held-out errors of the published sweeps no smaller. */
#ifndef KW_PREDICT_PRICE_H
#define KW_PREDICT_PRICE_H

#include "predict/calibration.h"
#include "predict/workload.h"

/* A calibration made concrete on a hardware, a limit and a vector of log parameters. */
struct kw__prices {
    double per_s[KW__MAX_RATES]; /* FLOPs, or bytes, of each rate at efficiency 1 of its curve, or flat */
    double bytes_per_s, launch_s, dispatch_s, host_bytes_per_s;
    double to_device_bytes_per_s, to_host_bytes_per_s;             /* of weights */
    double walk_elements_per_s, walk_blocks_per_s, num_processors; /* NaN: as kernels bound by memory */
    double busy_w, gap_w, copy_w, walk_idle_w, walk_full_w;
    double stretch;                     /* of busy time by a lower limit; 1 without */
    double session_time, session_power; /* of the one session that the calibration is of; else 1 */
    double limit_w;
};
enum { KW__NUM_PRICES = sizeof(struct kw__prices) / sizeof(double) };

/* Which rate prices each item, found once: items[i] uses rates[rate_of[i]] times share[i], what its size
 * makes of it; -1 when none does, and the bandwidth prices it. */
struct kw__binding {
    int *rate_of;
    double *share;
    /* the key that matters most of those that no rate has, so that another stands in; NULL: none that matters
     */
    const char *missing, *stand_in;
};
/* KW_ERROR_UNSUPPORTED when the calibration has no rate of the class of an item with arithmetic. */
kw_status kw__bind_rates(const struct kw__workload *workload, const struct kw__calibration *calibration,
                         struct kw__arena *arena, struct kw__binding *out, kw_error *err);

/* `log_values` has the calibration's parameters; limit_w 0: the hardware's. KW_ERROR_UNSUPPORTED when the
 * hardware lacks a rate that a bound item needs, KW_ERROR_USAGE when the
 * limit is below the gap power. */
kw_status kw__prices_of(const struct kw__calibration *calibration, const kw_hardware *hardware,
                        const struct kw__workload *workload, const struct kw__binding *binding,
                        double limit_w, const double *log_values, struct kw__prices *out, kw_error *err);

struct kw__cost_of_item {
    double busy_s, gap_s;  /* of all `count` operators; gap: launches, dispatch, host, copies, walks */
    double walk_s, walk_j; /* of kernels that walk, in which most processors are idle */
    double compute_s, memory_s, host_s, copy_s;
    double energy_j; /* of the GPU; NaN when the power is not known */
};
/* Prices every item; `out` has workload->num_items. */
void kw__price_items(const struct kw__workload *workload, const struct kw__binding *binding,
                     const struct kw__prices *prices, struct kw__cost_of_item *out);

/* Work that is priced as one: an item's, or the sum of several whose price is the same sum at any prices. */
struct kw__bundle {
    int phase, rate;   /* rate: -1: none */
    bool timed;        /* part of the total */
    bool arithmetic;   /* takes what its FLOPs or its operands take, whichever is longer */
    double rated;      /* FLOPs, else bytes, that the rate prices; over what their size makes of the rate */
    double main_bytes; /* operands beside FLOPs */
    double memory_bytes, host_bytes, to_device_bytes, to_host_bytes, launches;
    double walks, walk_bytes;          /* launches that walk, their bytes */
    double walk_blocks, walk_elements; /* of each (struct kw__work) */
};
struct kw__bundles {
    struct kw__bundle *list;
    size_t count;
};
/* What totals need of a workload. `timed`: of each item; NULL: all. */
kw_status kw__bundle_items(const struct kw__workload *workload, const struct kw__binding *binding,
                           const bool *timed, struct kw__arena *arena, struct kw__bundles *out,
                           kw_error *err);

/* Seconds and joules of what is timed. */
void kw__price_total(const struct kw__bundles *bundles, const struct kw__prices *prices, double *latency_s,
                     double *energy_j);

/* How they change with the logarithm of each price: in its place the derivative; of stretch, num_processors,
 * limit_w and the session's, which no parameter moves, 0. For prices of no session. */
struct kw__slopes {
    struct kw__prices latency, energy;
};
void kw__price_slopes(const struct kw__bundles *bundles, const struct kw__prices *prices,
                      struct kw__slopes *out);

#endif
