/* What a meter holds. One mutex guards all of it; no one holds it while a device is read.
 *
 *   slot     one source with its thread. Between `opened` and `done` only the thread touches the source,
 *            without the lock; channels no longer change then and may be read by anyone.
 *   tracker  one channel's curves E(t).
 *   window   what begin and end said.
 *   mark     one window on one channel: its edges on the curves, and what was seen in between.
 *   live     windows that are open, or that still have pending edges. Each sample visits them alone,
 *            so what a window holds does not depend on how many samples are kept.
 *
 * All is allocated when the meter opens. The clock is read with the lock held, so that an edge never
 * lies before a sample that was already taken in. */
#ifndef KW_METER_STATE_H
#define KW_METER_STATE_H

#include <pthread.h>

#include "base/arena.h"
#include "meter/curve.h"
#include "meter/meter.h"

enum { KW__MAX_SLOTS = 4, KW__MAX_DEPTH = 32, KW__NAME_SIZE = 64 };

struct kw__tracker {
    struct kw__counter counter;
    struct kw__integral integral;
    double good_s;  /* when the last good sample ended; negative: there was none */
    double power_w; /* of the latest sample, or the mean since the last; NaN: none */
    double power_since_s;
    bool failing;
    char why[96];
};

struct kw__mean {
    double sum, low, high;
    int64_t count;
};

struct kw__mark {
    struct kw__edge counter[2], integral[2]; /* begin, end */
    int64_t samples, failed_reads, gaps;
    double gap_s;
    bool frozen;
    struct kw__mean sm_clock_mhz, memory_clock_mhz, temperature_c;
    uint64_t throttle_reasons;
    bool throttle_known;
    int64_t other_processes; /* the most; -1: not known */
};

struct kw__window {
    char name[KW__NAME_SIZE];
    int64_t parent;
    bool open;
    double begin_s, end_s;              /* end: INFINITY while open */
    double moved_s;                     /* how far the edges were moved */
    double max_power_w[KW_NUM_DEVICES]; /* of the device's channels together; NaN: none yet */
};

/* A sample kept for the trace. */
struct kw__kept {
    uint32_t channel; /* within its slot */
    struct kw__sample sample;
};

struct kw__slot {
    kw_meter *meter;
    struct kw__source source;
    pthread_t thread;
    pthread_cond_t wake;
    bool has_wake, has_thread;
    bool opened, ready, done;     /* channels are there; a first read is in; the thread has ended */
    bool ignored;                 /* it opened too late, or not at all */
    bool poked;                   /* an edge wants a read */
    bool waited;                  /* someone waits for the last reading of a window */
    double last_s, period_s;      /* when the last read began; the time to the next, by what reads cost */
    double edges_until_s;         /* up to then the next step after an edge may come */
    double cost_s;                /* processor time of a read, mean of the latest */
    double credit_s, credit_at_s; /* processor time that may be spent on edges, as of then */
    kw_error failure;             /* of opening */
    size_t first_channel;
    struct kw__tracker *trackers;
    struct kw__sample *samples; /* the thread's */
    struct kw__kept *kept;      /* a ring of max_kept */
    size_t max_kept;
    int64_t num_kept; /* ever */
};

/* Reasons handed out, each once. */
struct kw__text {
    const struct kw__text *next;
    const char *text;
};

struct kw_meter {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a sample was taken in, or a slot has changed */
    double origin_s, settle_s, start_timeout_s;
    bool still; /* no threads: kw__meter_advance */
    double still_now_s;
    bool stopping, orphaned;
    int running; /* threads */
    struct kw__slot slots[KW__MAX_SLOTS];
    size_t num_slots, num_channels;
    struct kw__window *windows;
    struct kw__mark *marks; /* num_channels for each window */
    size_t num_windows, max_windows;
    size_t *live, num_live;
    size_t open[KW__MAX_DEPTH]; /* by kw_meter_begin */
    int depth;
    size_t num_open;     /* in all */
    int64_t idle_window; /* -1: none */
    struct kw__arena strings;
    const struct kw__text *texts;
};

/* The meter's clock. The lock is held. */
double kw__meter_now_s(const kw_meter *meter);

/* Starts the slot's thread, or, for a meter that stands still, opens and reads it at once. */
kw_status kw__slot_start(struct kw__slot *slot, kw_error *err);

/* Takes in one read of all channels of a slot. The lock is held. */
void kw__meter_deliver(struct kw__slot *slot, const struct kw__sample *samples);

/* Settles what the curves of a channel have passed of a window's edges. */
void kw__mark_settle(const struct kw__tracker *tracker, struct kw__mark *mark);

/* The slots read now, if that is not too dear: an edge was set. The lock is held. */
void kw__meter_poke(kw_meter *meter);

/* Whether reads of a channel `gap_s` apart leave a gap. */
bool kw__is_gap(const struct kw__slot *slot, const struct kw__channel *channel, double gap_s);

/* Whether nothing pending is left of an ended window. */
bool kw__window_is_settled(const kw_meter *meter, size_t window);

/* Frees all but what the threads of an orphaned meter still need; then the last of them calls it. */
void kw__meter_free(kw_meter *meter);

static inline struct kw__mark *kw__mark_at(const kw_meter *meter, size_t window, size_t channel)
{
    return &meter->marks[window * meter->num_channels + channel];
}

#endif
