/* What coverage to expect: data sets drawn as the fit assumes, or against one of its assumptions, fitted and
 * scored as the real one is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "predict/validate.h"

/* As the fit assumes (docs/CALIBRATION.md); repeats within a session differ by 0.1 to 0.5 %. */
static const double shape_time_sd = 0.02, shape_power_sd = 0.015, repeat_sd = 0.002;
enum { MANY = 20 }; /* rows of one shape in one session: a sweep over its steps */

const char *kw__draw_name(enum kw__draw draw)
{
    static const char *const names[KW__NUM_DRAWS] = {
        "as the fit assumes", "time and power errors of a shape correlated as the residuals are",
        "no shape error in a sweep that repeats one shape"};
    return names[draw];
}

struct stream {
    uint64_t state;
};

/* SplitMix64 (G. Steele, D. Lea, C. Flood, 2014) */
static double uniform(struct stream *s)
{
    uint64_t z = s->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(struct stream *s, double sd)
{
    double radius = sqrt(-2 * log(uniform(s)));
    return sd * radius * cos(2 * acos(-1) * uniform(s));
}

/* Room for one simulated data set. */
struct room {
    struct kw__samples samples;
    enum kw__draw draw;
    double correlation;               /* of a shape's errors of time and power */
    double *time_error, *power_error; /* by session and shape */
    int *rows;                        /* by session and shape */
    double *widths;
    bool *train;
};

static kw_status draw(struct room *room, struct stream *stream, kw_error *err)
{
    struct kw__samples *s = &room->samples;
    double theta[KW__MAX_PARAMETERS], speed[KW__MAX_SESSIONS], power[KW__MAX_SESSIONS];
    for (int j = 0; j < s->priors->num_parameters; j++)
        theta[j] = normal(stream, s->priors->parameters[j].prior_log_sd);
    for (int k = 0; k < s->num_sessions; k++) {
        speed[k] = normal(stream, s->priors->session_time_sd);
        power[k] = normal(stream, s->priors->session_power_sd);
    }
    for (int k = 0; k < s->num_sessions * s->num_shapes; k++) {
        double of_time = normal(stream, 1), of_power = normal(stream, 1), both = room->correlation;
        bool shared = room->rows[k] > MANY && room->draw == KW__NO_SHARED_SHAPE;
        room->time_error[k] = shared ? 0 : shape_time_sd * of_time;
        room->power_error[k] =
            shared ? 0 : shape_power_sd * (both * of_time + sqrt(1 - both * both) * of_power);
    }
    for (size_t i = 0; i < s->count; i++) {
        struct kw__sample *row = &s->list[i];
        int k = row->session * s->num_shapes + row->shape;
        double latency_s, energy_j;
        kw_status status = kw__kernel_price(s, row->group, theta, &latency_s, &energy_j, err);
        if (status) return status;
        double watts = energy_j / latency_s * exp(power[row->session] + room->power_error[k]);
        row->latency_s = latency_s * exp(speed[row->session] + KW__SPEED_PER_POWER * power[row->session] +
                                         room->time_error[k] + normal(stream, repeat_sd));
        if (!isnan(row->energy_j)) row->energy_j = watts * row->latency_s;
    }
    return KW_OK;
}

/* Coverage and median half-width of the axis-out split. */
static kw_status score_axes(struct room *room, double *coverage, double *half_width, kw_error *err)
{
    struct kw__samples *s = &room->samples;
    size_t covered[KW__NUM_QUANTITIES] = {0}, count[KW__NUM_QUANTITIES] = {0};
    for (int session = 0; session < s->num_sessions; session++) {
        struct kw__kernel_fit fit;
        for (size_t i = 0; i < s->count; i++) room->train[i] = s->list[i].session != session;
        kw_status status = kw__kernel_fit(s, room->train, &fit, err);
        for (size_t i = 0; !status && i < s->count; i++) {
            const struct kw__sample *row = &s->list[i];
            struct kw__estimate e;
            if (row->session != session) continue;
            status = kw__kernel_estimate(s, &fit, row, &e, err);
            if (status) break;
            double time = log(row->latency_s / e.latency_s), energy = log(row->energy_j / e.energy_j);
            const double off[KW__NUM_QUANTITIES] = {time, energy, energy - time};
            for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
                if (q != KW__LATENCY && isnan(row->energy_j)) continue;
                covered[q] += fabs(off[q]) <= KW__QUANTILE_90 * e.sd[q];
                room->widths[(size_t)q * s->count + count[q]++] = kw__half_width(e.sd[q]);
            }
        }
        if (status) return status;
    }
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
        coverage[q] = (double)covered[q] / (double)count[q];
        half_width[q] = kw__median(room->widths + (size_t)q * s->count, count[q]);
    }
    return KW_OK;
}

static kw_status make_room(const struct kw__samples *samples, struct kw__arena *arena, struct room *room,
                           kw_error *err)
{
    size_t shapes = (size_t)(samples->num_sessions * samples->num_shapes);
    room->samples = *samples; /* shares all but the list */
    room->samples.list = kw__arena_alloc(arena, samples->count, sizeof *room->samples.list);
    room->time_error = kw__arena_alloc(arena, shapes, sizeof *room->time_error);
    room->power_error = kw__arena_alloc(arena, shapes, sizeof *room->power_error);
    room->rows = kw__arena_alloc(arena, shapes, sizeof *room->rows);
    room->widths = kw__arena_alloc(arena, KW__NUM_QUANTITIES * samples->count, sizeof *room->widths);
    room->train = kw__arena_alloc(arena, samples->count, sizeof *room->train);
    if (arena->failed) return kw__fail_memory(err);
    memcpy(room->samples.list, samples->list, samples->count * sizeof *samples->list);
    for (size_t i = 0; i < samples->count; i++)
        room->rows[samples->list[i].session * samples->num_shapes + samples->list[i].shape]++;
    return KW_OK;
}

kw_status kw__validate_simulated(const struct kw__samples *samples, const struct kw__kernel_fit *fit,
                                 enum kw__draw drawn, int count, uint64_t seed, struct kw__simulation *out,
                                 kw_error *err)
{
    struct kw__arena arena;
    struct room room = {.draw = drawn};
    struct stream stream = {seed};
    kw__arena_init(&arena);
    *out = (struct kw__simulation){.count = count, .draw = drawn};
    kw_status status = make_room(samples, &arena, &room, err);
    if (drawn == KW__CORRELATED && !isnan(fit->residual_correlation))
        room.correlation = fit->residual_correlation;
    double *all = kw__arena_alloc(&arena, KW__NUM_QUANTITIES * (size_t)count, sizeof *all);
    if (!status && !all) status = kw__fail_memory(err);
    for (int k = 0; !status && k < count; k++) {
        double coverage[KW__NUM_QUANTITIES], half_width[KW__NUM_QUANTITIES];
        status = draw(&room, &stream, err);
        if (!status) status = score_axes(&room, coverage, half_width, err);
        for (int q = 0; !status && q < KW__NUM_QUANTITIES; q++) {
            all[q * count + k] = coverage[q];
            out->coverage[q] += coverage[q] / count;
            out->half_width[q] += half_width[q] / count;
            out->within[q] += (coverage[q] >= .85 && coverage[q] <= .97) / (double)count;
            out->above[q] += (coverage[q] > .97) / (double)count;
            out->below[q] += (coverage[q] < .85) / (double)count;
        }
    }
    for (int q = 0; !status && q < KW__NUM_QUANTITIES; q++)
        out->median[q] = kw__median(all + q * count, (size_t)count);
    kw__arena_free(&arena);
    return status;
}
