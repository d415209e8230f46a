/* Sittings; session.h is the manual. */
#include "sweep/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/time.h"
#include "base/uuid.h"

/* ---- Plans in the store ---------------------------------------------------------------------------- */

kw_status kw__sweep_find(struct kw__store *store, const char *name, struct kw__sweep_plan **out,
                         kw_error *err)
{
    struct kw__arena arena;
    const char *uuid, *text;
    kw__arena_init(&arena);
    kw_status status = kw__store_get_sweep(store, name, &arena, &uuid, &text, err);
    if (!status) status = kw__sweep_plan_from_json(text, out, err);
    kw__arena_free(&arena);
    return status;
}

static kw_status use_found(struct kw__sweep_plan **plan, struct kw__sweep_plan *kept, kw_error *err)
{
    const char *name = kept->options.name;
    kw_status status = KW_OK;
    if (!kw__sweep_plan_same(*plan, kept))
        status = kw__fail(err, KW_ERROR_USAGE,
                          "there is a sweep %s that asks for something else; give another --name, or go on "
                          "with it: kinowatt sweep --resume %s",
                          name, name);
    else if (strcmp((*plan)->folder, kept->folder) != 0)
        status = kw__fail(err, KW_ERROR_USAGE,
                          "the sweep %s was begun in %.200s; give another --name, or go on with it: kinowatt "
                          "sweep --resume %s",
                          name, kept->folder, name);
    kw__sweep_plan_free(status ? kept : *plan);
    if (!status) *plan = kept;
    return status;
}

kw_status kw__sweep_keep(struct kw__store *store, struct kw__sweep_plan **plan, bool *found, kw_error *err)
{
    struct kw__sweep_plan *kept;
    char *text;
    kw_error added = {0};
    *found = true;
    kw_status status = kw__sweep_find(store, (*plan)->options.name, &kept, err);
    if (!status) return use_found(plan, kept, err);
    if (status != KW_ERROR_NOT_FOUND) return status;
    status = kw__sweep_plan_to_json(*plan, &text, err);
    if (status) return status;
    status = kw__store_add_sweep(store, (*plan)->uuid, (*plan)->options.name, text, &added);
    free(text);
    *found = status == KW_ERROR_USAGE; /* another process was faster */
    if (*found) {
        status = kw__sweep_find(store, (*plan)->options.name, &kept, err);
        return status ? status : use_found(plan, kept, err);
    }
    return status ? kw__fail(err, status, "%s", added.message) : KW_OK;
}

static kw_status take(void *user, struct kw__run *run, kw_error *err)
{
    return kw__sweep_state_add(user, run, err);
}

kw_status kw__sweep_state_load(struct kw__store *store, const struct kw__sweep_plan *plan,
                               struct kw__sweep_state **out, kw_error *err)
{
    const struct kw__run_filter filter = {.sweep = plan->uuid};
    struct kw__sweep_state *state;
    kw_status status = kw__sweep_state_new(plan, &state, err);
    if (status) return status;
    status = kw__store_each(store, &filter, take, state, err);
    if (status)
        kw__sweep_state_free(state);
    else
        *out = state;
    return status;
}

/* ---- One run ------------------------------------------------------------------------------------------ */

struct work {
    struct kw__sweep_sitting *sitting;
    char session[37];
    bool began;        /* something has run */
    double deadline_s; /* INFINITY: none */
};

/* What is to run: a repeat, an anchor or a warm-up. */
struct job {
    enum kw__sweep_what what;
    size_t point;
    int64_t repeat;
};

/* How many warm-ups of the point, or anchors, there were before. */
static int64_t count_before(const struct kw__sweep_state *state, enum kw__sweep_what what, size_t point)
{
    int64_t count = 0;
    for (size_t i = state->points[point].last; i; i = state->rows[i - 1].before) {
        int64_t repeat = state->rows[i - 1].repeat;
        count += what == KW__SWEEP_ANCHORS ? repeat == KW__SWEEP_ANCHOR : repeat < KW__SWEEP_ANCHOR;
    }
    return count;
}

/* "NAME-p3-r0", "NAME-anchor-2", "NAME-p3-warmup-1"; in a job of an array "NAME-t2-anchor-0". */
static void name_run(const struct kw__sweep_sitting *s, const struct job *job, char *out, size_t size)
{
    char name[160];
    int64_t before = count_before(s->state, job->what, job->point);
    snprintf(name, sizeof name, "%s", s->plan->options.name);
    if (s->plan->task >= 0) snprintf(name, sizeof name, "%s-t%" PRId64, s->plan->options.name, s->plan->task);
    if (job->what == KW__SWEEP_ANCHORS)
        snprintf(out, size, "%s-anchor-%" PRId64, name, before);
    else if (job->what == KW__SWEEP_WARMS_UP)
        snprintf(out, size, "%s-p%zu-warmup-%" PRId64, name, job->point, before);
    else
        snprintf(out, size, "%s-p%zu-r%" PRId64, s->plan->options.name, job->point, job->repeat);
}

static void copy_request(struct kw__run *run, const kw_request *asked)
{
    struct kw__run_request *r = &run->request;
    const struct {
        int64_t *to, from;
    } counts[] = {{&r->width, asked->width},
                  {&r->height, asked->height},
                  {&r->num_frames_asked, asked->num_frames},
                  {&r->num_inference_steps, asked->num_inference_steps},
                  {&r->batch_size, asked->batch_size},
                  {&r->prompt_tokens, asked->prompt_tokens},
                  {&r->negative_tokens, asked->negative_tokens}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (*counts[i].to <= 0 && counts[i].from > 0) *counts[i].to = counts[i].from;
    if (isnan(r->guidance_scale) && asked->guidance_scale >= 0) r->guidance_scale = asked->guidance_scale;
    if (isnan(r->fps) && asked->fps > 0) r->fps = asked->fps;
    if (isnan(r->flow_shift) && asked->flow_shift > 0) r->flow_shift = asked->flow_shift;
}

/* Tasks number theirs apart, since their runs come together in one store. */
static int64_t next_warmup(const struct kw__sweep_sitting *s, size_t point)
{
    int64_t before = count_before(s->state, KW__SWEEP_WARMS_UP, point);
    if (s->plan->task >= 0) before = s->plan->task + s->plan->options.tasks * before;
    return KW__SWEEP_ANCHOR - 1 - before;
}

/* Where the run stands in the plan, and what its runner could not know. */
static kw_status place(const struct work *w, const struct job *job, const char *name, struct kw__run *run,
                       kw_error *err)
{
    const struct kw__sweep_plan *plan = w->sitting->plan;
    const struct kw__sweep_options *o = &plan->options;
    const struct kw__forecast_point *predicted = &w->sitting->forecast->points[job->point];
    const kw_request asked = kw__sweep_point_request(plan, job->point);
    char seed[32];
    run->session = w->session;
    run->dataset = o->name;
    run->sweep = plan->uuid;
    run->point = (int64_t)job->point;
    run->repeat = job->what == KW__SWEEP_WARMS_UP ? next_warmup(w->sitting, job->point) : job->repeat;
    run->anchor = job->what == KW__SWEEP_ANCHORS;
    if (!run->model) run->model = o->model;
    if (o->hardware) run->hardware = o->hardware;
    if (!run->stack) run->stack = o->stack;
    if (!run->weights) run->weights = o->weights;
    copy_request(run, &asked);
    run->predicted_latency_s = predicted->latency_s;
    memcpy(run->predicted_energy_j, predicted->energy_j, sizeof run->predicted_energy_j);
    snprintf(seed, sizeof seed, "%" PRIu64, kw__sweep_point_seed(plan, job->point));
    kw_status status = kw__run_set(run, "run.seed", seed, err);
    if (!status) status = kw__run_set(run, "run.name", name, err);
    if (!status && o->window && !strchr(o->window, ','))
        status = kw__run_set(run, "run.counted", o->window, err);
    for (size_t i = 0; !status && i < plan->num_axes; i++)
        if (!plan->axes[i].info)
            status = kw__run_set(run, plan->axes[i].name, kw__sweep_value(plan, job->point, i), err);
    return status;
}

static void tell(const struct work *w, const struct job *job, const struct kw__sweep_row *row,
                 const char *why)
{
    struct kw__sweep_sitting *s = w->sitting;
    struct kw__sweep_event event = {.what = job->what, .point = job->point, .row = row, .why = why};
    event.predicted_s = kw__forecast_run_s(s->forecast, job->point);
    kw__sweep_count(s->state, &event.done, &event.wanted);
    event.left_s = kw__forecast_left_s(s->forecast);
    s->tell(s->user, &event);
}

static kw_status keep(struct work *w, const struct job *job, const char *name, struct kw__run *run,
                      double wall_s, kw_error *err)
{
    struct kw__sweep_sitting *s = w->sitting;
    size_t before = s->state->num_rows;
    kw_status status = place(w, job, name, run, err);
    if (!status) status = kw__store_add(s->store, run, err);
    if (!status) status = kw__sweep_state_add(s->state, run, err);
    if (status || s->state->num_rows == before) return status;
    const struct kw__sweep_row *row = &s->state->rows[before];
    /* a warm-up loads what the others find loaded */
    if (!row->failed && job->what != KW__SWEEP_WARMS_UP)
        kw__forecast_learn(s->forecast, row->whole_s, wall_s);
    tell(w, job, row, row->failed ? run->note : NULL);
    return KW_OK;
}

static kw_status check_stop(const struct work *w, kw_error *err)
{
    return w->sitting->stopped(w->sitting->user) ? kw__fail(err, KW_ERROR_CANCELLED, "stopped") : KW_OK;
}

/* The gap before a run. */
static kw_status rest(const struct work *w, kw_error *err)
{
    double until_s = kw__monotonic_s() + w->sitting->plan->options.idle_s;
    kw_status status = check_stop(w, err);
    while (!status && kw__monotonic_s() < until_s) {
        kw__sleep_until(fmin(kw__monotonic_s() + 0.1, until_s));
        status = check_stop(w, err);
    }
    return status;
}

static kw_status run_once(struct work *w, const struct job *job, bool must, kw_error *err)
{
    struct kw__sweep_sitting *s = w->sitting;
    char name[256];
    kw_error problem = {0};
    kw_status status = w->began ? rest(w, err) : KW_OK;
    if (status) return status;
    w->began = true;
    name_run(s, job, name, sizeof name);
    struct kw__run *run = kw__run_new("sweep");
    if (!run) return kw__fail_memory(err);
    tell(w, job, NULL, NULL);
    double begin_s = kw__monotonic_s();
    status = s->runner.run(s->runner.self, job->point, name, run, &problem);
    double wall_s = kw__monotonic_s() - begin_s;
    if (status == KW_ERROR_CANCELLED || (status && must)) {
        kw__fail(err, status, "%s", problem.message);
    } else {
        if (status) {
            run->state = "failed";
            run->note = problem.message;
        }
        status = keep(w, job, name, run, wall_s, err);
    }
    kw__run_free(run);
    return status;
}

/* ---- The sitting --------------------------------------------------------------------------------------- */

/* A run with the warm-ups it needs before. */
static kw_status run_warm(struct work *w, const struct job *job, bool must, kw_error *err)
{
    struct kw__sweep_sitting *s = w->sitting;
    kw_status status = KW_OK;
    int64_t warmups = s->runner.is_cold(s->runner.self, job->point) ? s->plan->options.warmup : 0;
    for (int64_t i = 0; !status && i < warmups; i++) {
        const struct job warmup = {KW__SWEEP_WARMS_UP, job->point, 0};
        status = run_once(w, &warmup, must, err);
    }
    return status ? status : run_once(w, job, must, err);
}

static bool fits(const struct work *w, size_t point)
{
    const struct kw__sweep_sitting *s = w->sitting;
    double idle_s = s->plan->options.idle_s;
    double needs_s =
        kw__forecast_run_s(s->forecast, point) + idle_s + kw__forecast_run_s(s->forecast, s->plan->anchor);
    return isnan(needs_s) || kw__monotonic_s() + needs_s <= w->deadline_s;
}

kw_status kw__sweep_sit(struct kw__sweep_sitting *sitting, kw_error *err)
{
    struct work w = {.sitting = sitting, .deadline_s = INFINITY};
    const struct job anchor = {KW__SWEEP_ANCHORS, sitting->plan->anchor, KW__SWEEP_ANCHOR};
    struct job job = {.what = KW__SWEEP_MEASURES};
    sitting->out_of_budget = false;
    if (!kw__sweep_next(sitting->state, &job.point, &job.repeat)) return KW_OK;
    if (!kw__uuid(w.session)) return kw__fail(err, KW_ERROR_IO, "the system gives no random bytes");
    if (sitting->budget_s > 0) w.deadline_s = kw__monotonic_s() + sitting->budget_s;
    kw_status status = run_warm(&w, &anchor, true, err);
    while (!status && kw__sweep_next(sitting->state, &job.point, &job.repeat)) {
        sitting->out_of_budget = !fits(&w, job.point);
        if (sitting->out_of_budget) break;
        status = run_warm(&w, &job, false, err);
    }
    if (!status) status = run_warm(&w, &anchor, false, err);
    return status;
}
