/* Sittings over a runner that only pretends: each run is kept once wherever a sitting ends, and two processes
 * never run one sweep. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "sweep/lock.h"
#include "sweep/session.h"

enum { MOST_CALLS = 64 };

/* What stands behind a runner and a listener. */
struct scene {
    char folder[64], path[96];
    struct kw__store *store;
    struct kw__sweep_plan *plan;
    struct kw__sweep_state *state;
    struct kw__forecast *forecast;
    struct kw__sweep_sitting sitting;
    int calls, stop_after; /* stop_after 0: never */
    double seconds[8];     /* that a run of each point claims to take; NaN: it cannot run */
    bool fails[8];         /* it runs and fails */
    double sleep_s;
    char names[MOST_CALLS][64];
    char order[MOST_CALLS]; /* 'w', 'a' or the point's digit, as they were told to end */
    int told;
};

static bool is_cold(void *self, size_t point)
{
    (void)point;
    return ((struct scene *)self)->calls == 0;
}

static kw_status pretend(void *self, size_t point, const char *name, struct kw__run *run, kw_error *err)
{
    struct scene *s = self;
    if (isnan(s->seconds[point])) {
        snprintf(err->message, sizeof err->message, "too large for this machine");
        return err->code = KW_ERROR_MEMORY;
    }
    struct kw__run_window *window = kw__arena_alloc(&run->arena, 1, sizeof *window);
    *window = (struct kw__run_window){.name = "total", .parent = -1, .duration_s = s->seconds[point]};
    window->energy_j[KW_GPU] = (kw_reading){10 * s->seconds[point], 1, 1e3, KW_MEASURED, NULL};
    run->windows = window;
    run->num_windows = 1;
    run->state = s->fails[point] ? "failed" : "done";
    run->note = s->fails[point] ? "exit code 3" : NULL;
    if (s->calls < MOST_CALLS) snprintf(s->names[s->calls], sizeof s->names[0], "%s", name);
    s->calls++;
    kw__sleep_until(kw__monotonic_s() + s->sleep_s);
    return KW_OK;
}

static bool stopped(void *user)
{
    struct scene *s = user;
    return s->stop_after && s->calls >= s->stop_after;
}

static void hear(void *user, const struct kw__sweep_event *event)
{
    struct scene *s = user;
    if (!event->row || s->told == MOST_CALLS) return;
    assert_true(event->row->failed == (event->why != NULL));
    s->order[s->told++] = event->what == KW__SWEEP_WARMS_UP  ? 'w'
                          : event->what == KW__SWEEP_ANCHORS ? 'a'
                                                             : (char)('0' + event->point);
}

static struct kw__sweep_plan *make_plan(const char *name, const char *tiles, int64_t repeats)
{
    static const char *const words[] = {"echo", "{tile}"};
    char axis[64];
    const char *const own[] = {axis};
    const struct kw__sweep_options o = {.name = name,
                                        .command = words,
                                        .num_words = 2,
                                        .own = own,
                                        .num_own = 1,
                                        .repeats = repeats,
                                        .warmup = 2};
    struct kw__sweep_plan *plan = NULL;
    kw_error err = {0};
    snprintf(axis, sizeof axis, "tile=%s", tiles);
    if (kw__sweep_plan_new(NULL, &o, &plan, &err)) fail_msg("%s", err.message);
    return plan;
}

static int open_scene(void **state)
{
    struct scene *s = calloc(1, sizeof *s);
    snprintf(s->folder, sizeof s->folder, "%s/kw-sweep-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(s->folder)) return 1;
    snprintf(s->path, sizeof s->path, "%s/runs.db", s->folder);
    for (int i = 0; i < 8; i++) s->seconds[i] = i + 1;
    *state = s;
    return kw__store_open(s->path, KW__STORE_WRITE, &s->store, NULL) != KW_OK;
}

static int close_scene(void **state)
{
    struct scene *s = *state;
    static const char *const files[] = {"", "-wal", "-shm", ".sweeps"};
    kw__forecast_free(s->forecast);
    kw__sweep_state_free(s->state);
    kw__sweep_plan_free(s->plan);
    kw__store_close(s->store);
    for (int i = 0; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", s->path, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(s->folder);
    free(s);
    return 0;
}

/* What a new process does: the plan and the state from the store. */
static kw_status sit(struct scene *s, double budget_s, kw_error *err)
{
    const struct kw__forecast_options nothing = {0};
    kw__forecast_free(s->forecast);
    kw__sweep_state_free(s->state);
    s->forecast = NULL;
    s->state = NULL;
    s->calls = s->told = 0;
    memset(s->order, 0, sizeof s->order);
    assert_int_equal(kw__sweep_state_load(s->store, s->plan, &s->state, err), KW_OK);
    assert_int_equal(kw__forecast_new(NULL, s->state, &nothing, &s->forecast, err), KW_OK);
    s->sitting = (struct kw__sweep_sitting){.plan = s->plan,
                                            .state = s->state,
                                            .forecast = s->forecast,
                                            .store = s->store,
                                            .runner = {s, is_cold, pretend},
                                            .budget_s = budget_s,
                                            .user = s,
                                            .stopped = stopped,
                                            .tell = hear};
    return kw__sweep_sit(&s->sitting, err);
}

/* ---- What is kept ------------------------------------------------------------------------------------ */

struct tally {
    const struct kw__sweep_plan *plan;
    int repeats[8][8], warmups, anchors, sessions, failed;
    char session[64];
};

static kw_status count(void *user, struct kw__run *run, kw_error *err)
{
    struct tally *t = user;
    (void)err;
    assert_string_equal(run->kind, "sweep");
    assert_string_equal(run->dataset, t->plan->options.name);
    assert_string_equal(kw__run_setting(run, "tile"), kw__sweep_value(t->plan, (size_t)run->point, 0));
    if (strcmp(t->session, run->session) != 0) t->sessions++;
    snprintf(t->session, sizeof t->session, "%s", run->session);
    t->failed += strcmp(run->state, "failed") == 0;
    if (run->anchor)
        t->anchors++;
    else if (run->repeat < 0)
        t->warmups++;
    else
        t->repeats[run->point][run->repeat]++;
    return KW_OK;
}

static struct tally tally(struct scene *s)
{
    struct tally t = {.plan = s->plan};
    const struct kw__run_filter filter = {.sweep = s->plan->uuid};
    assert_int_equal(kw__store_each(s->store, &filter, count, &t, NULL), KW_OK);
    return t;
}

static void test_whole(void **state)
{
    struct scene *s = *state;
    kw_error err = {0};
    s->plan = make_plan("whole", "1,2,3,4", 3);
    if (sit(s, 0, &err)) fail_msg("%s", err.message);
    assert_int_equal(s->told, 2 + 1 + 12 + 1);
    assert_memory_equal(s->order, "wwa", 3);
    assert_int_equal(s->order[15], 'a');
    assert_string_equal(s->names[0], "whole-p0-warmup-0");
    assert_string_equal(s->names[1], "whole-p0-warmup-1");
    assert_string_equal(s->names[2], "whole-anchor-0");
    assert_string_equal(s->names[15], "whole-anchor-1");
    struct tally t = tally(s);
    for (int p = 0; p < 4; p++)
        for (int r = 0; r < 3; r++) assert_int_equal(t.repeats[p][r], 1);
    assert_int_equal(t.warmups, 2);
    assert_int_equal(t.anchors, 2);
    assert_int_equal(t.sessions, 1);
    assert_int_equal(sit(s, 0, &err), KW_OK); /* nothing is left */
    assert_int_equal(s->calls, 0);
}

/* However a sitting ends, the next one goes on: nothing is lost and nothing runs twice. */
static void test_stopped(void **state)
{
    struct scene *s = *state;
    s->plan = make_plan("stopped", "1,2,3,4", 3);
    int sittings = 0, calls = 0;
    for (int after = 1;; after++) {
        kw_error err = {0};
        s->stop_after = after % 7 + 1;
        kw_status status = sit(s, 0, &err);
        sittings++;
        calls += s->calls;
        if (!status) break;
        assert_int_equal(status, KW_ERROR_CANCELLED);
    }
    struct tally t = tally(s);
    int runs = 0;
    for (int p = 0; p < 4; p++)
        for (int r = 0; r < 3; r++) {
            assert_int_equal(t.repeats[p][r], 1);
            runs++;
        }
    assert_true(sittings > 3);
    assert_int_equal(t.sessions, sittings);
    assert_int_equal(runs + t.warmups + t.anchors, calls); /* every run that ended is kept */
}

static void test_failures(void **state)
{
    struct scene *s = *state;
    kw_error err = {0};
    s->plan = make_plan("failures", "1,2,3", 4);
    s->fails[1] = true;
    s->seconds[2] = NAN;
    if (sit(s, 0, &err)) fail_msg("%s", err.message);
    struct tally t = tally(s);
    assert_int_equal(t.failed, 4);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(t.repeats[0][r], 1);
        assert_int_equal(t.repeats[1][r], r < 2);
        assert_int_equal(t.repeats[2][r], r < 2);
    }
    /* an anchor that cannot run ends the sitting at once */
    kw__sweep_plan_free(s->plan);
    s->plan = make_plan("no anchor", "1,2,3", 4);
    s->seconds[0] = NAN;
    assert_int_equal(sit(s, 0, &err), KW_ERROR_MEMORY);
    assert_string_equal(err.message, "too large for this machine");
    t = tally(s);
    assert_int_equal(t.sessions, 0);
}

/* Runs of 30 ms: about eight of them fit into 0.25 s, the closing anchor included. */
static void test_budget(void **state)
{
    struct scene *s = *state;
    kw_error err = {0};
    s->plan = make_plan("budget", "1,2,3,4", 5);
    for (int i = 0; i < 8; i++) s->seconds[i] = 0.03;
    s->sleep_s = 0.03;
    double begin_s = kw__monotonic_s();
    if (sit(s, 0.25, &err)) fail_msg("%s", err.message);
    assert_true(s->sitting.out_of_budget);
    assert_true(kw__monotonic_s() - begin_s < 0.25 + 0.1);
    assert_true(s->calls >= 4 && s->calls < 12);
    assert_int_equal(s->order[s->told - 1], 'a');
    int64_t done, wanted;
    kw__sweep_count(s->state, &done, &wanted);
    assert_int_equal(done, s->calls - 4);
    assert_int_equal(wanted, 20 - done);
}

/* ---- Plans and processes ----------------------------------------------------------------------------- */

static void test_keep(void **state)
{
    struct scene *s = *state;
    struct kw__sweep_plan *same = make_plan("name", "1,2", 3), *other = make_plan("name", "1,3", 3), *read;
    kw_error err = {0};
    bool found;
    s->plan = make_plan("name", "1,2", 3);
    assert_int_equal(kw__sweep_keep(s->store, &s->plan, &found, &err), KW_OK);
    assert_false(found);
    assert_int_equal(kw__sweep_keep(s->store, &same, &found, &err), KW_OK);
    assert_true(found);
    assert_string_equal(same->uuid, s->plan->uuid);
    assert_true(same->order_seed == s->plan->order_seed);
    assert_int_equal(kw__sweep_keep(s->store, &other, &found, &err), KW_ERROR_USAGE);
    assert_non_null(strstr(err.message, "--resume name"));
    assert_int_equal(kw__sweep_find(s->store, "name", &read, &err), KW_OK);
    assert_string_equal(read->uuid, s->plan->uuid);
    kw__sweep_plan_free(read);
    assert_int_equal(kw__sweep_find(s->store, "nobody", &read, &err), KW_ERROR_NOT_FOUND);
    kw__sweep_plan_free(same);
    kw__sweep_plan_free(other);
}

/* A child that holds what `hold` says, and a child of it that goes on when it is killed. */
static pid_t start_holder(struct scene *s, int ready)
{
    struct kw__sweep_lock lock;
    pid_t child = fork();
    if (child) return child;
    char byte = kw__sweep_lock(s->path, "uuid-1", "one", &lock, NULL) == KW_OK &&
                        kw__sweep_lock_programs(&lock, "uuid-1")
                    ? 'y'
                    : 'n';
    pid_t program = fork();
    if (program == 0) {
        close(lock.process); /* as exec does */
        for (;;) pause();
    }
    (void)!write(ready, &byte, 1);
    (void)!write(ready, &program, sizeof program);
    for (;;) pause();
}

static void test_lock(void **state)
{
    struct scene *s = *state;
    struct kw__sweep_lock lock;
    int ready[2];
    char byte, pid[32];
    kw_error err = {0};
    pid_t program;
    assert_int_equal(pipe(ready), 0);
    pid_t child = start_holder(s, ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(read(ready[0], &program, sizeof program), sizeof program);
    assert_int_equal(byte, 'y');
    assert_int_equal(kw__sweep_lock(s->path, "uuid-1", "one", &lock, &err), KW_ERROR_IO);
    snprintf(pid, sizeof pid, "process %ld ", (long)child);
    assert_non_null(strstr(err.message, pid));
    assert_int_equal(kw__sweep_lock(s->path, "uuid-2", "two", &lock, &err), KW_OK); /* another sweep */
    assert_true(kw__sweep_lock_programs(&lock, "uuid-2"));
    kw__sweep_release(&lock);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(kw__sweep_lock(s->path, "uuid-1", "one", &lock, &err), KW_OK);
    assert_false(kw__sweep_lock_programs(&lock, "uuid-1")); /* its program runs */
    kill(program, SIGKILL);
    for (int i = 0; i < 500 && !kw__sweep_lock_programs(&lock, "uuid-1"); i++)
        kw__sleep_until(kw__monotonic_s() + 0.01);
    assert_true(kw__sweep_lock_programs(&lock, "uuid-1"));
    kw__sweep_release(&lock);
    close(ready[0]);
    close(ready[1]);
}

/* ---- Time left ---------------------------------------------------------------------------------------- */

/* Points of 10, 20 and 30 s as predicted; the first took 11 and 13 s, and 2 s more each around it. */
static void test_forecast(void **state)
{
    struct scene *s = *state;
    struct kw__run_window window = {.name = "total", .parent = -1};
    struct kw__run run = {
        .state = "done", .session = "a", .windows = &window, .num_windows = 1, .predicted_latency_s = NAN};
    const struct kw__forecast_options nothing = {0};
    s->plan = make_plan("forecast", "1,2,3", 2);
    s->plan->options.idle_s = 1;
    assert_int_equal(kw__sweep_state_new(s->plan, &s->state, NULL), KW_OK);
    assert_int_equal(kw__forecast_new(NULL, s->state, &nothing, &s->forecast, NULL), KW_OK);
    assert_string_equal(s->forecast->reason, "no model is named");
    assert_true(isnan(kw__forecast_run_s(s->forecast, 0)));
    assert_true(isnan(kw__forecast_left_s(s->forecast)));
    for (int i = 0; i < 3; i++) s->forecast->points[i].latency_s = 10 * (i + 1);
    assert_float_equal(kw__forecast_run_s(s->forecast, 2), 30, 1e-12);
    /* two runs each, the anchor, seven gaps */
    assert_float_equal(kw__forecast_left_s(s->forecast), 2 * 60 + 10 + 7, 1e-12);
    for (int r = 0; r < 2; r++) {
        run.repeat = r;
        window.duration_s = r ? 13 : 11;
        assert_int_equal(kw__sweep_state_add(s->state, &run, NULL), KW_OK);
        kw__forecast_learn(s->forecast, window.duration_s, window.duration_s + 2);
    }
    /* the ratios are 1.1 and 1.3, their median 1.2 */
    assert_float_equal(kw__forecast_run_s(s->forecast, 0), 12 + 2, 1e-12);
    assert_float_equal(kw__forecast_run_s(s->forecast, 1), 24 + 2, 1e-12);
    assert_float_equal(kw__forecast_left_s(s->forecast), 2 * (26 + 38) + 14 + 5, 1e-12);
    /* a run of the last point: 33 s of its 37 count, which is 1.1 again: the median is 1.1; 4 / 3 s more each
     */
    run.point = 2;
    run.repeat = 0;
    window.duration_s = 33;
    assert_int_equal(kw__sweep_state_add(s->state, &run, NULL), KW_OK);
    s->state->rows[2].whole_s = 37;
    assert_float_equal(kw__forecast_run_s(s->forecast, 1), 22 + 4.0 / 3 + 2, 1e-12);
    assert_float_equal(kw__forecast_run_s(s->forecast, 2), 37 + 2, 1e-12);
    for (int i = 0; i < 3; i++) s->forecast->points[i].latency_s = NAN;
    assert_float_equal(kw__forecast_run_s(s->forecast, 1), 19 + 4.0 / 3 + 2, 1e-12); /* as what was seen */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scene, close_scene)
    const struct CMUnitTest tests[] = {TEST(test_whole),   TEST(test_stopped), TEST(test_failures),
                                       TEST(test_budget),  TEST(test_keep),    TEST(test_lock),
                                       TEST(test_forecast)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
