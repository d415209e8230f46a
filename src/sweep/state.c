/* The state of a sweep; state.h is the manual. */
#include "sweep/state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/random.h"
#include "store/stages.h"

enum { MOST_FAILURES = 2 };

kw_status kw__sweep_state_new(const struct kw__sweep_plan *plan, struct kw__sweep_state **out, kw_error *err)
{
    struct kw__sweep_state *state = calloc(1, sizeof *state);
    if (!state) return kw__fail_memory(err);
    kw__arena_init(&state->arena);
    state->plan = plan;
    state->block = -1;
    state->points = kw__arena_alloc(&state->arena, plan->num_points, sizeof *state->points);
    state->order = kw__arena_alloc(&state->arena, plan->num_points, sizeof *state->order);
    for (size_t i = 0; state->points && i < plan->num_points; i++)
        state->points[i].have = kw__arena_alloc(&state->arena, (size_t)plan->options.max_repeats, 1);
    if (state->arena.failed) {
        kw__sweep_state_free(state);
        return kw__fail_memory(err);
    }
    *out = state;
    return KW_OK;
}

void kw__sweep_state_free(struct kw__sweep_state *state)
{
    if (!state) return;
    kw__arena_free(&state->arena);
    free(state);
}

/* ---- Rows ------------------------------------------------------------------------------------------ */

static const struct kw__run_window missing = {.duration_s = NAN}; /* its energies are absent */

/* The windows that were named; one that is missing leaves nothing known. */
static void add_named(struct kw__run_sum *sum, const struct kw__run *run, const char *names)
{
    for (const char *name = names; name; name = *name ? name + 1 : NULL) {
        size_t length = strcspn(name, ",");
        const struct kw__run_window *window = kw__run_last(run, name, length);
        kw__run_sum_window(sum, window ? window : &missing);
        name += length;
    }
}

/* Whether the run has all stages of the model; they are what a prediction holds. */
static bool add_stages(struct kw__run_sum *sum, const struct kw__run *run, const struct kw__sweep_plan *plan)
{
    struct kw__run_sum stages[KW__RUN_STAGES];
    size_t found = 0;
    (void)kw__run_stages(run, stages);
    for (size_t i = 0; i < plan->num_stages; i++)
        for (int s = 0; s < KW__RUN_STAGES; s++)
            found += stages[s].windows && strcmp(plan->stages[i], kw__run_stage_names[s]) == 0;
    if (!found || found < plan->num_stages) return false;
    for (int s = 0; s < KW__RUN_STAGES; s++) kw__run_sum_add(sum, &stages[s]);
    return true;
}

/* What counts of a run: the windows that were named, the model's stages where all are there, or the whole. */
static void read_figures(const struct kw__sweep_plan *plan, const struct kw__run *run,
                         struct kw__sweep_row *row)
{
    struct kw__run_sum sum = {0};
    if (plan->options.window)
        add_named(&sum, run, plan->options.window);
    else if (!add_stages(&sum, run, plan))
        kw__run_sum_window(&sum, run->num_windows ? &run->windows[0] : &missing);
    row->latency_s = sum.seconds;
    memcpy(row->energy_j, sum.energy_j, sizeof row->energy_j);
}

static bool is_repeat(const struct kw__sweep_row *row)
{
    return row->repeat >= 0;
}

/* Figures of a point's repeats, NaN left out. device -1: the latency. */
static size_t collect(const struct kw__sweep_state *state, size_t point, int device, double *out)
{
    size_t count = 0;
    for (size_t i = state->points[point].last; i; i = state->rows[i - 1].before) {
        const struct kw__sweep_row *row = &state->rows[i - 1];
        if (!is_repeat(row) || row->failed) continue;
        double value = device < 0 ? row->latency_s : row->energy_j[device];
        if (!isnan(value)) out[count++] = value;
    }
    return count;
}

/* The widest of the point's intervals, half of it over its mean; NaN with fewer than two runs. */
static double widest(const struct kw__sweep_state *state, size_t point, double *scratch)
{
    double most = NAN;
    size_t runs = collect(state, point, -1, scratch);
    for (int device = -1; device < KW_NUM_DEVICES; device++) {
        size_t count = collect(state, point, device, scratch);
        struct kw__mean m = kw__mean_of(scratch, count);
        if (count < runs || count < 2 || !(m.mean > 0)) continue;
        most = fmax(most, m.half / m.mean); /* fmax passes NaN over */
    }
    return most;
}

static kw_status judge(struct kw__sweep_state *state, size_t point, kw_error *err)
{
    struct kw__sweep_point *p = &state->points[point];
    if (!(state->plan->options.until > 0) || p->measured < 2) return KW_OK;
    double *scratch = malloc((size_t)p->measured * sizeof *scratch);
    if (!scratch) return kw__fail_memory(err);
    p->known = widest(state, point, scratch) <= state->plan->options.until;
    free(scratch);
    return KW_OK;
}

static bool is_there(const struct kw__sweep_state *state, const struct kw__run *run)
{
    return run->repeat >= 0 &&
           (run->repeat >= state->plan->options.max_repeats || state->points[run->point].have[run->repeat]);
}

kw_status kw__sweep_state_add(struct kw__sweep_state *state, const struct kw__run *run, kw_error *err)
{
    if (run->point < 0 || run->point >= (int64_t)state->plan->num_points || is_there(state, run))
        return KW_OK;
    struct kw__sweep_row *rows =
        kw__arena_grow(&state->arena, state->rows, state->num_rows, &state->room, sizeof *rows);
    if (!rows) return kw__fail_memory(err);
    state->rows = rows;
    struct kw__sweep_row *row = &rows[state->num_rows];
    *row =
        (struct kw__sweep_row){.point = (size_t)run->point,
                               .repeat = run->repeat,
                               .failed = run->state && strcmp(run->state, "done") != 0,
                               .session = run->session ? kw__arena_strdup(&state->arena, run->session) : "",
                               .whole_s = run->num_windows ? run->windows[0].duration_s : NAN,
                               .predicted_s = run->predicted_latency_s};
    memcpy(row->predicted_j, run->predicted_energy_j, sizeof row->predicted_j);
    read_figures(state->plan, run, row);
    if (!row->session) return kw__fail_memory(err);
    struct kw__sweep_point *point = &state->points[row->point];
    row->before = point->last;
    point->last = ++state->num_rows;
    if (!is_repeat(row)) return KW_OK;
    point->have[row->repeat] = 1;
    point->failed += row->failed;
    point->measured += !row->failed;
    return judge(state, row->point, err);
}

/* ---- Order ------------------------------------------------------------------------------------------- */

/* Fisher and Yates's shuffle with Philox: key the plan's seed, counter the block and the place. */
void kw__sweep_order(const struct kw__sweep_plan *plan, int64_t block, size_t *order)
{
    const uint32_t key[2] = {(uint32_t)plan->order_seed, (uint32_t)(plan->order_seed >> 32)};
    for (size_t i = 0; i < plan->num_points; i++) order[i] = i;
    for (size_t i = plan->num_points - 1; i > 0; i--) {
        const uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 16 >> 16), (uint32_t)block, 0};
        uint32_t words[4];
        kw__philox4x32(counter, key, words);
        size_t other = (size_t)(((uint64_t)words[0] * (i + 1)) >> 32), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
}

static bool is_wanted(const struct kw__sweep_state *state, size_t point, int64_t repeat)
{
    const struct kw__sweep_options *o = &state->plan->options;
    const struct kw__sweep_point *p = &state->points[point];
    return kw__sweep_has_point(state->plan, point) && p->failed < MOST_FAILURES && !p->have[repeat] &&
           (repeat < o->repeats || (o->until > 0 && !p->known));
}

/* What was passed over is never wanted later: runs of a point come in the order of their blocks. */
bool kw__sweep_next(struct kw__sweep_state *state, size_t *point, int64_t *repeat)
{
    size_t n = state->plan->num_points;
    for (;; state->place++) {
        if (state->block < 0 || state->place == n) {
            if (state->block + 1 >= state->plan->options.max_repeats) return false;
            kw__sweep_order(state->plan, ++state->block, state->order);
            state->place = 0;
        }
        *point = state->order[state->place];
        *repeat = state->block;
        if (is_wanted(state, *point, *repeat)) return true;
    }
}

int64_t kw__sweep_wanted(const struct kw__sweep_state *state, size_t point)
{
    const struct kw__sweep_options *o = &state->plan->options;
    const struct kw__sweep_point *p = &state->points[point];
    int64_t done = p->measured + p->failed, most = o->repeats;
    if (!kw__sweep_has_point(state->plan, point) || p->failed >= MOST_FAILURES) return 0;
    if (o->until > 0 && !p->known && done >= o->repeats) {
        double *scratch = malloc((size_t)(p->measured + 1) * sizeof *scratch), width = NAN;
        if (scratch) width = widest(state, point, scratch) / o->until;
        free(scratch);
        /* the interval shrinks with the root of the runs */
        double needed = isnan(width) ? 0 : ceil((double)p->measured * width * width);
        most = needed < (double)o->max_repeats ? (int64_t)needed : o->max_repeats;
        if (most <= done) most = done + 1;
        if (most > o->max_repeats) most = o->max_repeats;
    }
    return most > done ? most - done : 0;
}

void kw__sweep_count(const struct kw__sweep_state *state, int64_t *done, int64_t *wanted)
{
    *done = *wanted = 0;
    for (size_t i = 0; i < state->plan->num_points; i++) {
        if (!kw__sweep_has_point(state->plan, i)) continue;
        *done += state->points[i].measured + state->points[i].failed;
        *wanted += kw__sweep_wanted(state, i);
    }
}

/* ---- Figures ------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct kw__sweep_figure figure_of(double *values, size_t count)
{
    struct kw__sweep_figure out = {kw__mean_of(values, count), NAN, count};
    qsort(values, count, sizeof *values, by_value);
    if (count) out.median = (values[(count - 1) / 2] + values[count / 2]) / 2;
    return out;
}

kw_status kw__sweep_summarise(const struct kw__sweep_state *state, size_t point,
                              struct kw__sweep_summary *out, kw_error *err)
{
    const struct kw__sweep_point *p = &state->points[point];
    double *values = malloc((size_t)(p->measured + 1) * sizeof *values);
    if (!values) return kw__fail_memory(err);
    out->failed = p->failed;
    out->latency_s = figure_of(values, collect(state, point, -1, values));
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        out->energy_j[d] = figure_of(values, collect(state, point, d, values));
    free(values);
    return KW_OK;
}

kw_status kw__sweep_drifts(struct kw__sweep_state *state, struct kw__sweep_drift **out, size_t *count,
                           kw_error *err)
{
    struct kw__sweep_drift *drifts = kw__arena_alloc(&state->arena, state->num_rows + 1, sizeof *drifts);
    const struct kw__sweep_row **first = kw__arena_alloc(&state->arena, state->num_rows + 1, sizeof *first);
    *count = 0;
    if (!drifts || !first) return kw__fail_memory(err);
    for (size_t i = 0; i < state->num_rows; i++) {
        const struct kw__sweep_row *row = &state->rows[i];
        size_t s = 0;
        while (s < *count && strcmp(drifts[s].session, row->session) != 0) s++;
        struct kw__sweep_drift *drift = &drifts[s];
        if (s == *count) {
            *drift = (struct kw__sweep_drift){.session = row->session, .latency = NAN};
            for (int d = 0; d < KW_NUM_DEVICES; d++) drift->energy[d] = NAN;
            ++*count;
        }
        if (row->repeat != KW__SWEEP_ANCHOR || row->failed) continue;
        if (drift->anchors++ == 0) {
            first[s] = row;
            continue;
        }
        drift->latency = row->latency_s / first[s]->latency_s - 1;
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            drift->energy[d] = row->energy_j[d] / first[s]->energy_j[d] - 1;
    }
    *out = drifts;
    return KW_OK;
}
