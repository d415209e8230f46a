#include "support/stores.h"

#include <math.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

char folder[FOLDER_BYTES], path[FOLDER_BYTES + 32];

int make_folder(void **state)
{
    (void)state;
    folder_new(folder);
    snprintf(path, sizeof path, "%s/runs.db", folder);
    return 0;
}

int remove_folder(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

struct kw__store *open_store(enum kw__store_mode mode)
{
    kw_error err = {0};
    struct kw__store *store = NULL;
    if (kw__store_open(path, mode, &store, &err)) fail_msg("%s", err.message);
    return store;
}

double ask(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(db, 10000), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL)) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    double value =
        sqlite3_column_type(statement, 0) == SQLITE_NULL ? NAN : sqlite3_column_double(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

void execute(const char *sql)
{
    sqlite3 *db;
    char *message = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message)) fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

static kw_reading measured(double value)
{
    return (kw_reading){value, value * 0.99, value * 1.03, KW_MEASURED, NULL};
}

static kw_reading absent(const char *reason)
{
    return (kw_reading){NAN, NAN, NAN, KW_ABSENT, reason};
}

struct kw__run *make_run(void)
{
    static struct kw__run_window windows[4];
    static struct kw__run_channel channels[2] = {{"nvml", "GPU-0", "NVIDIA H200", NULL, KW_GPU, 700},
                                                 {"rapl", "package-0", NULL, "a note", KW_CPU, NAN}};
    static struct kw__run_detail details[3];
    static const char *const names[] = {"total", "text_encode", "denoise", "decode"};
    kw_error err = {0};
    struct kw__run *run = kw__run_new("generate");
    assert_non_null(run);
    run->state = "done";
    run->session = "s-1";
    run->model = "wan2.1-t2v-1.3b";
    run->hardware = "h200";
    run->stack = "kinowatt-cpu";
    run->weights = "random:0:normal";
    run->note = "quote ' and \xC3\xBC";
    run->request.width = 832;
    run->request.height = 480;
    run->request.num_frames = 81;
    run->request.guidance_scale = 5.1;
    run->predicted_energy_j[KW_CPU] = 1.0 / 3;
    for (int i = 0; i < 4; i++) {
        windows[i] = (struct kw__run_window){.name = names[i],
                                             .parent = i ? 0 : -1,
                                             .begin_s = i * 1.1,
                                             .duration_s = 1e-300,
                                             .failed_reads = i,
                                             .gap_s = 0.25,
                                             .note = i == 2 ? "never closed" : NULL};
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            windows[i].energy_j[d] = d == KW_RAM ? absent("no counter") : measured(100.0 / 3 * (i + 1));
            windows[i].power_w[d] = d == KW_RAM ? absent("no counter") : measured(350.5);
            windows[i].max_power_w[d] = d == KW_RAM ? absent("another reason") : measured(700);
            windows[i].idle_power_w[d] = absent("no idle baseline was measured");
        }
    }
    windows[1].energy_j[KW_CPU].status = KW_MODELLED;
    for (int i = 0; i < 3; i++)
        details[i] = (struct kw__run_detail){.window = (size_t)i,
                                             .channel = (size_t)i % 2,
                                             .method = (kw_meter_method)i,
                                             .flags = KW_METER_DISAGREES,
                                             .energy_j = i ? 12.5 : NAN,
                                             .by_counter_j = 12.5,
                                             .by_power_j = NAN,
                                             .samples = 1000 + i,
                                             .sm_clock_mhz = 1980,
                                             .memory_clock_mhz = NAN,
                                             .temperature_c = 61.5,
                                             .lowest_sm_clock_mhz = 1755,
                                             .highest_temperature_c = 64,
                                             .throttle_reasons = i == 2 ? UINT64_MAX : 4,
                                             .throttle_known = i > 0,
                                             .other_processes = i - 1};
    run->windows = windows;
    run->channels = channels;
    run->details = details;
    run->num_windows = 4;
    run->num_channels = 2;
    run->num_details = 3;
    assert_int_equal(kw__run_set(run, "prompt", "a cat", &err), KW_OK);
    assert_int_equal(kw__run_set(run, "attention", "sdpa", &err), KW_OK);
    assert_int_equal(kw__run_set(run, "run.seed", "18446744073709551615", &err), KW_OK);
    return run;
}
