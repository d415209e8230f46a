/* The rapl meter on made-up powercap folders: which zones are added up, what can't be read, and a counter
 * that a thread of the test moves. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "meter/meter.h"
#include "support/folder.h"

static const double range_j = 262143.32885;

/* ---- The folder ---- */

static void write_in(const char *folder, const char *zone, const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", zone, file);
    folder_write(folder, path, text);
}

static void add_zone(const char *folder, const char *zone, const char *name, const char *energy_uj)
{
    char line[128];
    snprintf(line, sizeof line, "%s\n", name);
    write_in(folder, zone, "name", line);
    write_in(folder, zone, "max_energy_range_uj", "262143328850\n");
    snprintf(line, sizeof line, "%s\n", energy_uj);
    write_in(folder, zone, "energy_uj", line);
}

/* Two packages with all that a server has beside them. */
static void server(char *folder)
{
    folder_new(folder);
    add_zone(folder, "intel-rapl:0", "package-0", "0000001000000");
    add_zone(folder, "intel-rapl:0:0", "core", "0000000500000");
    add_zone(folder, "intel-rapl:0:1", "dram", "0000000200000");
    add_zone(folder, "intel-rapl:1", "package-1", "0000077000000");
    add_zone(folder, "intel-rapl:1:0", "dram", "0000000300000");
    add_zone(folder, "intel-rapl:2", "psys", "0000088000000");
    add_zone(folder, "intel-rapl-mmio:0", "package-0", "0000001000000");
    folder_write(folder, "intel-rapl/name", "no zone\n");
    write_in(folder, "intel-rapl:0", "constraint_0_power_limit_uw", "150000000\n");
}

static kw_meter *open_on(const char *folder)
{
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    kw_error err = {0};
    kw_meter *meter = NULL;
    options.sources = "rapl";
    options.powercap = folder;
    options.settle_s = 0.5;
    if (kw_meter_open(&options, &meter, &err)) fail_msg("%s", err.message);
    return meter;
}

static kw_meter_window get(kw_meter *meter, size_t window)
{
    kw_meter_window w = {.struct_size = sizeof w};
    kw_error err = {0};
    if (kw_meter_window_get(meter, window, &w, &err)) fail_msg("%s", err.message);
    return w;
}

static void is_absent(kw_reading reading, const char *why)
{
    assert_int_equal(reading.status, KW_ABSENT);
    assert_true(isnan(reading.value));
    if (!strstr(reading.reason, why)) fail_msg("\"%s\" does not say \"%s\"", reading.reason, why);
}

static void holds(kw_reading reading, double truth)
{
    if (reading.status != KW_MEASURED) fail_msg("absent: %s", reading.reason);
    if (!(reading.low <= truth && truth <= reading.high))
        fail_msg("%g in [%g, %g] does not hold %g", reading.value, reading.low, reading.high, truth);
}

/* The labels of all channels, each behind a space. */
static void labels(kw_meter *meter, char *out, size_t size)
{
    out[0] = '\0';
    for (size_t c = 0; c < kw_meter_channel_count(meter); c++) {
        kw_meter_channel channel = {.struct_size = sizeof channel};
        assert_int_equal(kw_meter_channel_get(meter, c, &channel, NULL), KW_OK);
        size_t used = strlen(out);
        snprintf(out + used, size - used, " %s", channel.label);
    }
}

static void sleep_s(double seconds)
{
    kw__sleep_until(kw__monotonic_s() + seconds);
}

/* ---- Which zones ---- */

static void test_zones(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], text[512];
    server(folder);
    kw_meter *meter = open_on(folder);
    labels(meter, text, sizeof text);
    /* no core, no psys, and package-0 once */
    assert_string_equal(text, " package-0 dram of package-0 package-1 dram of package-1");
    kw_meter_channel channel = {.struct_size = sizeof channel};
    assert_int_equal(kw_meter_channel_get(meter, 0, &channel, NULL), KW_OK);
    assert_int_equal(channel.device, KW_CPU);
    assert_true(channel.limit_w == 150);
    assert_non_null(strstr(channel.note, "intel-rapl-mmio:0"));
    assert_int_equal(kw_meter_channel_get(meter, 3, &channel, NULL), KW_OK);
    assert_int_equal(channel.device, KW_RAM);
    assert_true(isnan(channel.limit_w) && channel.note == NULL);
    kw_meter_close(meter);
    folder_remove(folder);
}

/* A board that shows one package's counter for each of its dies; and one whose dies have their own. */
static void test_dies(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], text[512];
    for (int own = 0; own < 2; own++) {
        folder_new(folder);
        add_zone(folder, "intel-rapl:0", "package-0-die-0", "0000123456789");
        add_zone(folder, "intel-rapl:1", "package-0-die-1", own ? "0000023456789" : "0000123457001");
        add_zone(folder, "intel-rapl:2", "package-1-die-0", "0000123456789"); /* another package: no twin */
        kw_meter *meter = open_on(folder);
        labels(meter, text, sizeof text);
        assert_string_equal(text, own ? " package-0-die-0 package-0-die-1 package-1-die-0"
                                      : " package-0-die-0 package-1-die-0");
        kw_meter_close(meter);
        folder_remove(folder);
    }
}

static void test_nothing_there(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    folder_new(folder);
    kw_meter *meter = open_on(folder);
    assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
    assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    is_absent(get(meter, 0).energy_j[KW_CPU], "has no energy counter");
    is_absent(get(meter, 0).energy_j[KW_RAM], "has no energy counter");
    kw_meter_close(meter);

    add_zone(folder, "intel-rapl:0", "psys", "1");
    meter = open_on(folder);
    assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
    assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    is_absent(get(meter, 0).energy_j[KW_CPU], "psys alone");
    is_absent(get(meter, 0).energy_j[KW_RAM], "no dram zone");
    kw_meter_close(meter);
    folder_remove(folder);
}

static void test_not_readable(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], path[FOLDER_BYTES + 64];
    server(folder);
    snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", folder);
    assert_int_equal(chmod(path, 0), 0);
    bool root = geteuid() == 0;
    if (root) {
        assert_int_equal(chmod(folder, 0755), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    kw_meter *meter = open_on(folder);
    assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
    assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    kw_meter_window w = get(meter, 0);
    is_absent(w.energy_j[KW_CPU], "package-0: energy_uj cannot be read: permission denied");
    kw_meter_close(meter);

    struct kw__meter_line lines[16];
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    options.sources = "rapl";
    options.powercap = folder;
    size_t count = kw__meter_describe(&options, lines, 16), cannot = 0;
    for (size_t i = 0; i < count; i++) {
        if (lines[i].can) continue;
        cannot++;
        assert_int_equal(lines[i].device, KW_CPU);
        assert_non_null(strstr(lines[i].detail, "permission denied"));
        assert_non_null(strstr(lines[i].remedy, "root"));
    }
    assert_int_equal(cannot, 1);
    assert_int_equal(count, 3); /* cpu: one can, one can't; ram */
    if (root) assert_int_equal(seteuid(0), 0);
    folder_remove(folder);
}

/* What is no number is no reading. */
static void test_odd_contents(void **state)
{
    (void)state;
    static const char *const odd[] = {"", "\n", "-5\n", "12 34\n", "abc\n", "99999999999999999999999\n"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        char folder[FOLDER_BYTES];
        server(folder);
        write_in(folder, "intel-rapl:0", "energy_uj", odd[i]);
        kw_meter *meter = open_on(folder);
        assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
        assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
        is_absent(get(meter, 0).energy_j[KW_CPU], "package-0: energy_uj cannot be read");
        kw_meter_close(meter);
        folder_remove(folder);
    }
}

/* ---- A counter that moves ---- */

struct mover {
    int file;
    double start_s, start_j, watt;
    atomic_bool stop, silent; /* silent: the file is empty */
    pthread_t thread;
};

static void *move(void *argument)
{
    struct mover *mover = argument;
    bool empty = false;
    while (!mover->stop) {
        double now_s = kw__monotonic_s() - mover->start_s;
        double count_j = fmod(mover->start_j + mover->watt * now_s, range_j);
        char line[32];
        int length = snprintf(line, sizeof line, "%013.0f\n", count_j * 1e6);
        if (mover->silent && !empty) empty = ftruncate(mover->file, 0) == 0;
        if (!mover->silent) {
            empty = false;
            if (pwrite(mover->file, line, (size_t)length, 0) != length) return NULL;
        }
        sleep_s(0.0005);
    }
    return NULL;
}

/* package-0 alone, at `watt` from `start_j` on. */
static void moving(struct mover *mover, char *folder, double start_j, double watt)
{
    char path[FOLDER_BYTES + 64], energy[32];
    folder_new(folder);
    snprintf(energy, sizeof energy, "%013.0f", start_j * 1e6);
    add_zone(folder, "intel-rapl:0", "package-0", energy);
    write_in(folder, "intel-rapl:0", "constraint_0_power_limit_uw", "400000000\n");
    snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", folder);
    mover->file = open(path, O_WRONLY);
    assert_true(mover->file >= 0);
    mover->start_s = kw__monotonic_s();
    mover->start_j = start_j;
    mover->watt = watt;
    mover->stop = mover->silent = false;
    assert_int_equal(pthread_create(&mover->thread, NULL, move, mover), 0);
    sleep_s(0.01);
}

static void stop(struct mover *mover, const char *folder)
{
    mover->stop = true;
    pthread_join(mover->thread, NULL);
    close(mover->file);
    folder_remove(folder);
}

/* The test's counter may be late by what its thread is: bounds get that much room. */
static void about(kw_reading reading, double truth, double room)
{
    if (reading.status != KW_MEASURED) fail_msg("absent: %s", reading.reason);
    if (!(reading.low - room <= truth && truth <= reading.high + room))
        fail_msg("%g in [%g, %g] is not about %g", reading.value, reading.low, reading.high, truth);
}

static void test_measures(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    struct mover mover;
    moving(&mover, folder, 1000, 200);
    kw_meter *meter = open_on(folder);
    assert_int_equal(kw_meter_begin(meter, "all", NULL), KW_OK);
    assert_int_equal(kw_meter_begin(meter, "first", NULL), KW_OK);
    sleep_s(0.43);
    assert_int_equal(kw_meter_switch(meter, "second", NULL), KW_OK);
    sleep_s(0.017);
    assert_int_equal(kw_meter_end(meter, "second", NULL), KW_OK);
    assert_int_equal(kw_meter_end(meter, "all", NULL), KW_OK);
    kw_meter_window all = get(meter, 0), first = get(meter, 1), second = get(meter, 2);
    about(all.energy_j[KW_CPU], 200 * all.duration_s, 4);
    about(first.energy_j[KW_CPU], 200 * first.duration_s, 4);
    about(second.energy_j[KW_CPU], 200 * second.duration_s, 4);
    double sum = first.energy_j[KW_CPU].value + second.energy_j[KW_CPU].value;
    assert_true(sum <= all.energy_j[KW_CPU].value + 1e-9);
    is_absent(all.energy_j[KW_RAM], "no dram zone");
    assert_true(fabs(all.max_power_w[KW_CPU].value - 200) < 40);
    is_absent(second.max_power_w[KW_CPU], "no whole period");
    kw_meter_close(meter);
    stop(&mover, folder);
}

static void test_wraps(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    struct mover mover;
    moving(&mover, folder, range_j - 30, 200); /* wraps after 0.15 s */
    kw_meter *meter = open_on(folder);
    assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
    sleep_s(0.5);
    assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    kw_meter_window w = get(meter, 0);
    about(w.energy_j[KW_CPU], 200 * w.duration_s, 4);
    assert_int_equal(w.failed_reads, 0);
    kw_meter_close(meter);
    stop(&mover, folder);
}

static void test_fails_for_a_while(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    struct mover mover;
    moving(&mover, folder, 5000, 200);
    kw_meter *meter = open_on(folder);
    assert_int_equal(kw_meter_begin(meter, "across", NULL), KW_OK);
    sleep_s(0.15);
    mover.silent = true;
    sleep_s(0.4);
    assert_int_equal(kw_meter_begin(meter, "within", NULL), KW_OK);
    sleep_s(0.05);
    assert_int_equal(kw_meter_end(meter, "within", NULL), KW_OK);
    is_absent(get(meter, 1).energy_j[KW_CPU], "energy_uj cannot be read"); /* until it can */
    mover.silent = false;
    sleep_s(0.3);
    assert_int_equal(kw_meter_end(meter, "across", NULL), KW_OK);
    kw_meter_window across = get(meter, 0), within = get(meter, 1);
    about(across.energy_j[KW_CPU], 200 * across.duration_s, 4);
    assert_true(across.failed_reads > 0 && across.gap_s > 0.3);
    /* inside the gap the counter leaves much open, and says so */
    holds(within.energy_j[KW_CPU], 200 * within.duration_s);
    assert_true(within.energy_j[KW_CPU].high > 300 * within.duration_s);
    assert_true(within.gap_s > 0.04 && within.gap_s <= within.duration_s);
    kw_meter_close(meter);
    stop(&mover, folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zones),         cmocka_unit_test(test_dies),
        cmocka_unit_test(test_nothing_there), cmocka_unit_test(test_not_readable),
        cmocka_unit_test(test_odd_contents),  cmocka_unit_test(test_measures),
        cmocka_unit_test(test_wraps),         cmocka_unit_test(test_fails_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
