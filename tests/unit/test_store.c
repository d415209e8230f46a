/* The store: what goes in comes out. Rows are also read back by SQL of this test's own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "store/db.h"
#include "support/stores.h"

static void same_text(const char *a, const char *b)
{
    if (!a || !b)
        assert_true(a == b);
    else
        assert_string_equal(a, b);
}

static void same_double(double a, double b)
{
    if (!(isnan(a) && isnan(b))) assert_true(a == b);
}

/* Whether the two are repeats of each other. */
static bool repeats(const struct kw__run *a, const struct kw__run *b)
{
    struct kw__arena arena;
    kw__arena_init(&arena);
    const char *keys[2] = {kw__run_key(a, &arena), kw__run_key(b, &arena)};
    assert_true(keys[0] && keys[1]);
    bool same = strcmp(keys[0], keys[1]) == 0;
    kw__arena_free(&arena);
    return same;
}

static void same_reading(const kw_reading *a, const kw_reading *b)
{
    assert_int_equal(a->status, b->status);
    same_double(a->value, b->value);
    same_double(a->low, b->low);
    same_double(a->high, b->high);
    same_text(a->reason, b->reason);
}

static void same_window(const struct kw__run_window *a, const struct kw__run_window *b)
{
    same_text(a->name, b->name);
    same_text(a->note, b->note);
    assert_int_equal(a->parent, b->parent);
    assert_int_equal(a->failed_reads, b->failed_reads);
    same_double(a->begin_s, b->begin_s);
    same_double(a->duration_s, b->duration_s);
    same_double(a->gap_s, b->gap_s);
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        same_reading(&a->energy_j[d], &b->energy_j[d]);
        same_reading(&a->power_w[d], &b->power_w[d]);
        same_reading(&a->max_power_w[d], &b->max_power_w[d]);
        same_reading(&a->idle_power_w[d], &b->idle_power_w[d]);
    }
}

static void same_detail(const struct kw__run_detail *a, const struct kw__run_detail *b)
{
    assert_int_equal(a->window, b->window);
    assert_int_equal(a->channel, b->channel);
    assert_int_equal(a->method, b->method);
    assert_int_equal(a->flags, b->flags);
    same_double(a->energy_j, b->energy_j);
    same_double(a->by_counter_j, b->by_counter_j);
    same_double(a->by_power_j, b->by_power_j);
    assert_int_equal(a->samples, b->samples);
    same_double(a->sm_clock_mhz, b->sm_clock_mhz);
    same_double(a->memory_clock_mhz, b->memory_clock_mhz);
    same_double(a->temperature_c, b->temperature_c);
    same_double(a->lowest_sm_clock_mhz, b->lowest_sm_clock_mhz);
    same_double(a->highest_temperature_c, b->highest_temperature_c);
    assert_int_equal(a->throttle_known, b->throttle_known);
    if (a->throttle_known) assert_true(a->throttle_reasons == b->throttle_reasons);
    assert_int_equal(a->other_processes, b->other_processes);
}

/* ---- What goes in comes out --------------------------------------------------------------------------- */

static void keeps_a_run_whole(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__run *run = make_run(), *back = NULL;
    struct kw__store *store = open_store(KW__STORE_WRITE);
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(run->id, 1);
    kw__store_close(store);
    store = open_store(KW__STORE_READ);
    assert_int_equal(kw__store_get(store, 1, &back, &err), KW_OK);
    same_text(run->uuid, back->uuid);
    same_text(run->began, back->began);
    same_text("generate", back->kind);
    same_text(run->note, back->note);
    same_text(NULL, back->dataset);
    assert_int_equal(back->point, -1);
    assert_int_equal(back->request.width, 832);
    assert_int_equal(back->request.num_gpus, 0);
    same_double(back->request.guidance_scale, 5.1);
    assert_true(isnan(back->request.fps) && isnan(back->predicted_latency_s));
    same_double(back->predicted_energy_j[KW_CPU], 1.0 / 3);
    assert_true(repeats(run, back));
    assert_int_equal(back->num_windows, 4);
    assert_int_equal(back->num_channels, 2);
    assert_int_equal(back->num_details, 3);
    for (size_t i = 0; i < 4; i++) same_window(&run->windows[i], &back->windows[i]);
    for (size_t i = 0; i < 3; i++) same_detail(&run->details[i], &back->details[i]);
    same_text(back->channels[0].name, "NVIDIA H200");
    same_text(back->channels[1].note, "a note");
    assert_int_equal(back->channels[1].device, KW_CPU);
    assert_true(isnan(back->channels[1].limit_w));
    assert_int_equal(back->num_settings, 3);
    same_text(kw__run_setting(back, "run.seed"), "18446744073709551615");
    same_text(kw__run_setting(back, "nothing"), NULL);
    kw__store_close(store);
    kw__run_free(run);
    kw__run_free(back);

    /* by SQL: absence is NULL, never 0 */
    assert_true(ask("SELECT energy_j FROM readings WHERE window = 2 AND device = 'gpu'") == 100.0);
    assert_true(isnan(ask("SELECT energy_j FROM readings WHERE window = 2 AND device = 'ram'")));
    assert_true(isnan(ask("SELECT num_frames_asked FROM runs")));
    assert_true(isnan(ask("SELECT throttle_reasons FROM details WHERE window = 0")));
    assert_int_equal(ask("SELECT count(*) FROM readings r JOIN reasons s ON s.id = r.energy_j_reason"
                         " WHERE s.text = 'no counter'"),
                     4);
    assert_int_equal(ask("SELECT count(*) FROM reasons"), 3);
    assert_int_equal(ask("PRAGMA application_id"), 0x4B575255);
    assert_true(ask("SELECT journal_mode = 'wal' FROM pragma_journal_mode") == 1);
}

/* The list of fields and the schema say the same. */
static void every_field_has_its_column(void **state)
{
    (void)state;
    static const struct {
        const char *table;
        const struct kw__fields *fields;
        int keys;
    } tables[] = {{"runs", &kw__run_fields, 1},
                  {"windows", &kw__window_fields, 2},
                  {"channels", &kw__channel_fields, 2},
                  {"details", &kw__detail_fields, 1}};
    kw__store_close(open_store(KW__STORE_WRITE));
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        char sql[256];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM pragma_table_info('%s')", tables[t].table);
        assert_int_equal(ask(sql), tables[t].fields->count + (size_t)tables[t].keys);
        for (size_t i = 0; i < tables[t].fields->count; i++) {
            snprintf(sql, sizeof sql, "SELECT count(*) FROM pragma_table_info('%s') WHERE name = '%s'",
                     tables[t].table, tables[t].fields->fields[i].name);
            if (ask(sql) != 1)
                fail_msg("%s has no column %s", tables[t].table, tables[t].fields->fields[i].name);
        }
    }
}

static void a_run_is_kept_once(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__store *store = open_store(KW__STORE_WRITE);
    struct kw__run *run = make_run(), *other = make_run();
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(run->id, 1);
    assert_string_not_equal(run->uuid, other->uuid);
    other->sweep = "plan";
    other->point = 3;
    other->repeat = 0;
    assert_int_equal(kw__store_add(store, other, &err), KW_OK);
    assert_int_equal(other->id, 2);
    kw__run_free(run);
    run = make_run(); /* another process finished the same point */
    run->sweep = "plan";
    run->point = 3;
    run->repeat = 0;
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(run->id, 2);
    run->repeat = 1;
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(run->id, 3);
    assert_int_equal(ask("SELECT count(*) FROM runs"), 3);
    assert_int_equal(ask("SELECT count(*) FROM windows"), 12);
    kw__store_close(store);
    kw__run_free(run);
    kw__run_free(other);
}

static void deleting_leaves_nothing(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__store *store = open_store(KW__STORE_WRITE);
    struct kw__run *run = make_run();
    const struct kw__finding finding = {"code", NULL, "message", "advice", true};
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(kw__store_set_findings(store, 1, &finding, 1, &err), KW_OK);
    assert_int_equal(kw__store_delete(store, 1, &err), KW_OK);
    assert_int_equal(kw__store_delete(store, 1, &err), KW_ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "there is no run 1"));
    static const char *const tables[] = {"runs",    "windows",  "readings", "channels",
                                         "details", "settings", "findings"};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        char sql[64];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", tables[i]);
        assert_int_equal(ask(sql), 0);
    }
    kw__run_free(run);
    run = make_run();
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(run->id, 2); /* a number names one run for ever */
    kw__run_free(run);
    kw__store_close(store);
}

static void an_undone_import_leaves_nothing(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__store *store = open_store(KW__STORE_WRITE);
    struct kw__run *run = make_run(), *bad = make_run(), *last = make_run();
    assert_int_equal(kw__store_begin(store, &err), KW_OK);
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(kw__store_end(store, false, &err), KW_OK);
    assert_int_equal(ask("SELECT count(*) FROM runs"), 0);
    assert_int_equal(ask("SELECT count(*) FROM reasons"), 0);
    /* one that is refused leaves the others of its transaction */
    assert_int_equal(kw__store_begin(store, &err), KW_OK);
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    bad->channels[0].source = NULL;
    assert_int_equal(kw__store_add(store, bad, &err), KW_ERROR_USAGE);
    bad->channels[0].source = "nvml";
    assert_int_equal(kw__store_add(store, last, &err), KW_OK);
    assert_int_equal(kw__store_end(store, true, &err), KW_OK);
    assert_int_equal(ask("SELECT count(*) FROM runs"), 2);
    assert_int_equal(ask("SELECT count(*) FROM windows"), 8);
    kw__store_close(store);
    kw__run_free(run);
    kw__run_free(bad);
    kw__run_free(last);
}

/* ---- Repeats and settings ------------------------------------------------------------------------------ */

static void repeats_are_told_apart(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__run *a = make_run(), *b = make_run();
    assert_true(repeats(a, b));
    kw__run_set(b, "run.seed", "1", &err);
    kw__run_set(b, "run.exit_code", "0", &err);
    assert_true(repeats(a, b)); /* of this run alone */
    b->what = "pipeline";
    assert_true(repeats(a, b)); /* what NULL means */
    b->what = "decode";
    assert_false(repeats(a, b));
    b->what = NULL;
    kw__run_set(b, "attention", "flash", &err);
    assert_false(repeats(a, b));
    kw__run_set(b, "attention", "sdpa", &err);
    assert_true(repeats(a, b));
    kw__run_set(b, "zzz", "", &err);
    assert_false(repeats(a, b) || repeats(b, a));
    kw__run_set(a, "zzz", "", &err);
    b->request.fps = 16;
    assert_false(repeats(a, b));
    b->request.fps = a->request.fps;
    assert_true(repeats(a, b));
    a->model = b->model = NULL; /* nothing says what ran */
    assert_false(repeats(a, b));
    assert_true(repeats(a, a));
    kw__run_set(a, "codecarbon.project_name", "A", &err);
    kw__run_set(b, "codecarbon.project_name", "A", &err);
    assert_true(repeats(a, b));
    kw__run_set(b, "codecarbon.project_name", "B", &err);
    assert_false(repeats(a, b));
    kw__run_free(a);
    kw__run_free(b);
}

static void settings_stay_sorted(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__run *run = kw__run_new("record");
    for (int i = 0; i < 100; i++) {
        char name[16], value[16];
        snprintf(name, sizeof name, "%02d", i * 37 % 100);
        snprintf(value, sizeof value, "%d", i * 37 % 100);
        assert_int_equal(kw__run_set(run, name, "old", &err), KW_OK);
        assert_int_equal(kw__run_set(run, name, value, &err), KW_OK);
    }
    assert_int_equal(run->num_settings, 100);
    for (int i = 0; i < 100; i++) {
        char name[16], value[16];
        snprintf(name, sizeof name, "%02d", i);
        snprintf(value, sizeof value, "%d", i);
        assert_string_equal(run->settings[i].name, name);
        assert_string_equal(run->settings[i].value, value);
    }
    kw__run_free(run);
}

static void uuids_are_random_version_4(void **state)
{
    (void)state;
    struct kw__run *a = kw__run_new("x"), *b = kw__run_new("x");
    int end = 0;
    assert_int_equal(strlen(a->uuid), 36);
    assert_string_not_equal(a->uuid, b->uuid);
    assert_int_equal(a->uuid[14], '4');
    assert_non_null(strchr("89ab", a->uuid[19]));
    int year;
    assert_int_equal(sscanf(a->began, "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ%n", &year, &end), 1);
    assert_int_equal(end, 24);
    time_t now = time(NULL);
    assert_true(abs(year - (gmtime(&now)->tm_year + 1900)) <= 1);
    kw__run_free(a);
    kw__run_free(b);
}

/* The trace: a GPU at 400 W and a package at 50 W. */
static void takes_its_windows_from_a_meter(void **state)
{
    (void)state;
    kw_error err = {0};
    kw_meter *meter;
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    options.sources = "replay";
    options.trace = "tests/data/meter/gpu_and_cpu.csv";
    assert_int_equal(kw__meter_open_still(&options, &meter, &err), KW_OK);
    static const struct {
        double at_s;
        const char *begin, *end;
    } steps[] = {{0.2, "before", NULL}, {0.3, NULL, "before"}, {0.5, "total", NULL},   {0.6, "denoise", NULL},
                 {0.7, "step", NULL},   {0.9, NULL, "step"},   {1.1, NULL, "denoise"}, {1.2, "decode", NULL},
                 {1.3, NULL, "decode"}, {1.5, NULL, "total"}};
    struct kw__run *run = kw__run_new("record");
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        kw__meter_advance(meter, steps[i].at_s);
        if (steps[i].begin) assert_int_equal(kw_meter_begin(meter, steps[i].begin, &err), KW_OK);
        if (steps[i].end) assert_int_equal(kw_meter_end(meter, steps[i].end, &err), KW_OK);
        /* the run is over only when its window is */
        if (i == 8) assert_int_equal(kw__run_from_meter(run, meter, 1, &err), KW_ERROR_USAGE);
    }
    /* one that nobody ends, and another run's */
    size_t open_window, others;
    assert_int_equal(kw_meter_open_window(meter, "never", 1, 1.4, &open_window, &err), KW_OK);
    assert_int_equal(kw_meter_open_window(meter, "other", 0, 1.4, &others, &err), KW_OK);
    kw__meter_advance(meter, 1.6);
    assert_int_equal(kw_meter_begin(meter, "next", &err), KW_OK);
    kw__meter_advance(meter, 9);
    if (kw__run_from_meter(run, meter, 1, &err)) fail_msg("%s", err.message);
    kw_meter_close(meter);
    static const struct {
        const char *name;
        int parent;
        double begin_s, duration_s;
    } expected[] = {{"total", -1, 0, 1},
                    {"denoise", 0, 0.1, 0.5},
                    {"step", 1, 0.2, 0.2},
                    {"decode", 0, 0.7, 0.1},
                    {"never", 0, 0.9, 0.1}};
    assert_int_equal(run->num_windows, 5);
    assert_int_equal(run->num_channels, 2);
    assert_int_equal(run->num_details, 10);
    for (size_t i = 0; i < 5; i++) {
        const struct kw__run_window *w = &run->windows[i];
        assert_string_equal(w->name, expected[i].name);
        assert_int_equal(w->parent, expected[i].parent);
        assert_true(fabs(w->begin_s - expected[i].begin_s) < 1e-9);
        assert_true(fabs(w->duration_s - expected[i].duration_s) < 1e-9);
        assert_true(fabs(w->energy_j[KW_GPU].value - 400 * w->duration_s) < 0.5);
        assert_true(fabs(w->energy_j[KW_CPU].value - 50 * w->duration_s) < 0.5);
        assert_int_equal(w->energy_j[KW_RAM].status, KW_ABSENT);
        assert_non_null(w->energy_j[KW_RAM].reason);
        assert_int_equal(run->details[2 * i].window, i);
        assert_true(!w->note == (i < 4));
        assert_true(run->details[2 * i].sm_clock_mhz == 1980);
        assert_true(run->details[2 * i].highest_temperature_c == 58);
    }
    assert_string_equal(run->windows[4].note, "never closed");
    assert_string_equal(run->channels[0].label, "GPU-0");
    kw__run_free(run);
}

/* ---- Walking ------------------------------------------------------------------------------------------- */

struct walked {
    struct kw__store *store;
    int64_t ids[1000];
    int count, stop_after;
};

static kw_status note_id(void *user, struct kw__run *run, kw_error *err)
{
    struct walked *walked = user;
    walked->ids[walked->count++] = run->id;
    assert_int_equal(run->num_windows, 4);
    if (walked->count == walked->stop_after) {
        err->code = KW_ERROR_CANCELLED;
        return KW_ERROR_CANCELLED;
    }
    /* it may write */
    const struct kw__finding finding = {"odd", "denoise", "m", "a", false};
    if (walked->store && run->id % 2)
        assert_int_equal(kw__store_set_findings(walked->store, run->id, &finding, 1, err), KW_OK);
    return KW_OK;
}

static int walk(struct kw__store *store, struct walked *walked, const struct kw__run_filter *filter)
{
    kw_error err = {0};
    walked->count = 0;
    if (kw__store_each(store, filter, note_id, walked, &err)) fail_msg("%s", err.message);
    return walked->count;
}

static void walks_what_fits_oldest_first(void **state)
{
    (void)state;
    enum { RUNS = 600 }; /* several pages */
    kw_error err = {0};
    struct kw__store *store = open_store(KW__STORE_WRITE);
    struct walked walked = {0};
    struct kw__run *run = make_run();
    assert_int_equal(kw__store_begin(store, &err), KW_OK);
    for (int i = 0; i < RUNS; i++) {
        /* every second in the same millisecond as the one before, and imported in the wrong order */
        char uuid[37], began[32];
        snprintf(uuid, sizeof uuid, "00000000-0000-4000-8000-%012d", i);
        snprintf(began, sizeof began, "2026-01-01T00:00:%02d.%03dZ", (RUNS - 1 - i) / 2 / 100,
                 (RUNS - 1 - i) / 2 % 100);
        run->uuid = uuid;
        run->began = began;
        run->model = i % 10 ? "wan2.1-t2v-1.3b" : "ltx";
        run->state = i % 3 ? "done" : "failed";
        if (kw__store_add(store, run, &err)) fail_msg("%s", err.message);
    }
    assert_int_equal(kw__store_end(store, true, &err), KW_OK);
    kw__run_free(run);
    assert_int_equal(walk(store, &walked, NULL), RUNS);
    for (int i = 0; i < RUNS;
         i += 2) { /* began descends with id; of two equal ones the smaller id is older */
        assert_int_equal(walked.ids[i], RUNS - 1 - i);
        assert_int_equal(walked.ids[i + 1], RUNS - i);
    }
    assert_int_equal(walk(store, &walked, &(struct kw__run_filter){.limit = 3}), 3);
    assert_int_equal(walked.ids[0], 4); /* 4 is the second of the pair 3, 4 */
    assert_int_equal(walked.ids[2], 2);
    assert_int_equal(walk(store, &walked, &(struct kw__run_filter){.limit = 5000}), RUNS);
    assert_int_equal(walk(store, &walked, &(struct kw__run_filter){.model = "ltx"}), 60);
    assert_int_equal(walk(store, &walked, &(struct kw__run_filter){.model = "ltx", .done_only = true}), 40);
    assert_int_equal(walk(store, &walked, &(struct kw__run_filter){.model = "none"}), 0);
    assert_int_equal(
        walk(store, &walked,
             &(struct kw__run_filter){
                 .kind = "generate", .stack = "kinowatt-cpu", .hardware = "h200", .session = "s-1"}),
        RUNS);
    walked.store = store;
    assert_int_equal(walk(store, &walked, &(struct kw__run_filter){.limit = 100}), 100);
    walked.store = NULL;
    assert_int_equal(walk(store, &walked, &(struct kw__run_filter){.flagged = 1}), 50);
    assert_int_equal(walk(store, &walked, &(struct kw__run_filter){.flagged = -1}), RUNS - 50);
    walked = (struct walked){.stop_after = 7};
    assert_int_equal(kw__store_each(store, NULL, note_id, &walked, &err), KW_ERROR_CANCELLED);
    assert_int_equal(walked.count, 7);
    kw__store_close(store);
}

/* What a page gave, beside the same runs asked for one by one. */
struct page_read {
    struct kw__store *page, *single;
    unsigned parts;
    int64_t ids[16];
    int count;
};

static kw_status same_alone(void *user, struct kw__run *run, kw_error *err)
{
    struct page_read *read = user;
    struct kw__run *alone;
    struct kw__finding *findings, *findings_alone;
    size_t num, num_alone, details = 0;
    read->ids[read->count++] = run->id;
    assert_int_equal(kw__store_get(read->single, run->id, &alone, err), KW_OK);
    assert_string_equal(run->uuid, alone->uuid);
    assert_int_equal(run->num_windows, read->parts & KW__PART_NESTED ? alone->num_windows : 1);
    for (size_t i = 0; i < run->num_windows; i++) same_window(&run->windows[i], &alone->windows[i]);
    for (size_t i = 0; i < alone->num_details; i++)
        if ((read->parts & KW__PART_DETAILS) &&
            ((read->parts & KW__PART_NESTED) || alone->details[i].window == 0))
            same_detail(&run->details[details++], &alone->details[i]);
    assert_int_equal(run->num_details, details);
    assert_int_equal(run->num_channels, read->parts & KW__PART_CHANNELS ? alone->num_channels : 0);
    assert_int_equal(run->num_settings, read->parts & KW__PART_SETTINGS ? alone->num_settings : 0);
    for (size_t i = 0; i < run->num_settings; i++) {
        assert_string_equal(run->settings[i].name, alone->settings[i].name);
        assert_string_equal(run->settings[i].value, alone->settings[i].value);
    }
    assert_int_equal(
        kw__store_get_findings(read->single, run->id, &alone->arena, &findings_alone, &num_alone, err),
        KW_OK);
    assert_int_equal(kw__store_get_findings(read->page, run->id, &run->arena, &findings, &num, err), KW_OK);
    assert_int_equal(num, num_alone);
    for (size_t i = 0; i < num; i++) assert_string_equal(findings[i].message, findings_alone[i].message);
    kw__run_free(alone);
    return KW_OK;
}

/* Rows of runs that are not there, which a program left that does not know of foreign keys, are no one's. */
static void a_page_is_its_runs(void **state)
{
    (void)state;
    enum { RUNS = 12 };
    const int64_t ids[] = {1, 2, 3, 4, 5, 6, 7, 12, 10, 11, 9, 2, 8};
    kw_error err = {0};
    struct kw__store *store = open_store(KW__STORE_WRITE);
    for (int i = 1; i <= RUNS; i++) {
        struct kw__run *run = make_run();
        char text[32];
        snprintf(text, sizeof text, "of run %d", i);
        const struct kw__finding findings[] = {{"odd", NULL, text, "a", false},
                                               {"odd", NULL, "two", "a", true}};
        for (size_t w = 0; w < run->num_windows; w++) run->windows[w].duration_s = i;
        assert_int_equal(kw__run_set(run, i % 2 ? "attention" : "odd", text, &err), KW_OK);
        assert_int_equal(kw__store_add(store, run, &err), KW_OK);
        assert_int_equal(run->id, i);
        assert_int_equal(kw__store_set_findings(store, i, findings, (size_t)i % 3, &err), KW_OK);
        kw__run_free(run);
    }
    kw__store_close(store);
    execute("DELETE FROM runs WHERE id IN (4, 5)"); /* without its parts: foreign keys are off there */
    execute("DELETE FROM settings WHERE run = 6");
    assert_true(ask("SELECT count(*) FROM windows WHERE run = 4") == 4);
    for (unsigned parts = 0; parts <= KW__PART_ALL; parts++) {
        if ((parts & KW__PART_DETAILS) && !(parts & KW__PART_CHANNELS)) continue; /* which they refer to */
        struct page_read read = {
            .page = open_store(KW__STORE_READ), .single = open_store(KW__STORE_READ), .parts = parts};
        assert_int_equal(
            kw__store_read(read.page, ids, sizeof ids / sizeof ids[0], parts, same_alone, &read, &err),
            KW_OK);
        assert_int_equal(read.count, 11);
        for (int i = 0, at = 0; i < read.count; i++, at++) {
            if (ids[at] == 4) at += 2;
            assert_int_equal(read.ids[i], ids[at]);
        }
        kw__store_close(read.page);
        kw__store_close(read.single);
    }
}

static void findings_and_sweeps_are_kept(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__arena arena;
    struct kw__finding *found;
    const char *uuid, *plan;
    size_t count;
    struct kw__store *store = open_store(KW__STORE_WRITE);
    struct kw__run *run = make_run();
    const struct kw__finding findings[] = {{"power-above-limit", "denoise", "m1", "a1", true},
                                           {"too-few-repeats", NULL, "m2", "a2", false}};
    kw__arena_init(&arena);
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    assert_int_equal(kw__store_set_findings(store, 1, findings, 2, &err), KW_OK);
    assert_int_equal(kw__store_get_findings(store, 1, &arena, &found, &count, &err), KW_OK);
    assert_int_equal(count, 2);
    assert_string_equal(found[0].window, "denoise");
    assert_true(found[0].excludes && !found[1].excludes && !found[1].window);
    assert_string_equal(found[1].advice, "a2");
    assert_int_equal(kw__store_set_findings(store, 1, findings + 1, 1, &err), KW_OK);
    assert_int_equal(kw__store_get_findings(store, 1, &arena, &found, &count, &err), KW_OK);
    assert_int_equal(count, 1);
    assert_int_equal(kw__store_add_sweep(store, "u-1", "frames", "{}", &err), KW_OK);
    assert_int_equal(kw__store_add_sweep(store, "u-2", "frames", "{}", &err), KW_ERROR_USAGE);
    assert_int_equal(kw__store_get_sweep(store, "frames", &arena, &uuid, &plan, &err), KW_OK);
    assert_string_equal(uuid, "u-1");
    assert_int_equal(kw__store_get_sweep(store, "u-1", &arena, &uuid, &plan, &err), KW_OK);
    assert_string_equal(plan, "{}");
    assert_int_equal(kw__store_get_sweep(store, "other", &arena, &uuid, &plan, &err), KW_ERROR_NOT_FOUND);
    kw__arena_free(&arena);
    kw__run_free(run);
    kw__store_close(store);
}

static void finds_its_place(void **state)
{
    (void)state;
    kw_error err = {0};
    char *found, *old_data = getenv("XDG_DATA_HOME") ? strdup(getenv("XDG_DATA_HOME")) : NULL;
    unsetenv("KINOWATT_STORE");
    setenv("XDG_DATA_HOME", "relative", 1);
    setenv("HOME", "/h", 1);
    assert_int_equal(kw__store_path(NULL, &found, &err), KW_OK);
    assert_string_equal(found, "/h/.local/share/kinowatt/runs.db");
    free(found);
    setenv("XDG_DATA_HOME", "/x", 1);
    assert_int_equal(kw__store_path(NULL, &found, &err), KW_OK);
    assert_string_equal(found, "/x/kinowatt/runs.db");
    free(found);
    setenv("KINOWATT_STORE", "k.db", 1);
    assert_int_equal(kw__store_path(NULL, &found, &err), KW_OK);
    assert_string_equal(found, "k.db");
    free(found);
    assert_int_equal(kw__store_path("given", &found, &err), KW_OK);
    assert_string_equal(found, "given");
    free(found);
    unsetenv("KINOWATT_STORE");
    unsetenv("XDG_DATA_HOME");
    unsetenv("HOME");
    assert_int_equal(kw__store_path(NULL, &found, &err), KW_ERROR_USAGE);
    if (old_data) setenv("XDG_DATA_HOME", old_data, 1);
    free(old_data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(keeps_a_run_whole),
        IN_FOLDER(every_field_has_its_column),
        IN_FOLDER(a_run_is_kept_once),
        IN_FOLDER(deleting_leaves_nothing),
        IN_FOLDER(an_undone_import_leaves_nothing),
        cmocka_unit_test(repeats_are_told_apart),
        cmocka_unit_test(settings_stay_sorted),
        cmocka_unit_test(uuids_are_random_version_4),
        cmocka_unit_test(takes_its_windows_from_a_meter),
        IN_FOLDER(walks_what_fits_oldest_first),
        IN_FOLDER(a_page_is_its_runs),
        IN_FOLDER(findings_and_sweeps_are_kept),
        cmocka_unit_test(finds_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
