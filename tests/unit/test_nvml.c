/* The nvml meter on stand-ins for NVIDIA's library (tests/support/fake_nvml.c): what is not there, what
 * is old, what fails, what hangs, which GPUs are meant. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "meter/meter.h"
#include "support/fake_nvml.h"

struct fakes {
    char now_path[512], old_path[512];
    struct fake_nvml *now, *old;
};

static void sleep_s(double seconds)
{
    kw__sleep_until(kw__monotonic_s() + seconds);
}

static struct fake_nvml *load(const char *name, char *path, size_t size)
{
    const char *build = getenv("BUILD");
    snprintf(path, size, "%s/tests/support/%s", build ? build : "build", name);
    void *library = dlopen(path, RTLD_NOW);
    if (!library) fail_msg("%s", dlerror());
    return dlsym(library, "fake_nvml");
}

static int setup(void **state)
{
    static struct fakes fakes;
    fakes.now = load("fake_nvml.so", fakes.now_path, sizeof fakes.now_path);
    fakes.old = load("fake_nvml_old.so", fakes.old_path, sizeof fakes.old_path);
    *state = &fakes;
    return fakes.now && fakes.old ? 0 : -1;
}

static void reset(struct fake_nvml *fake)
{
    static const unsigned power_mw[FAKE_GPUS] = {400000, 300000, 200000, 100000};
    fake->gpus = 1;
    fake->init_code = fake->hang_init = fake->hang_reads = fake->fail_reads = fake->frozen = 0;
    fake->no_energy = fake->no_instant = fake->grace = fake->burn_us = fake->num_pids = 0;
    fake->counter_percent = 100;
    fake->throttle = 4;
    for (int i = 0; i < FAKE_GPUS; i++) {
        fake->mig[i] = fake->lost[i] = 0;
        fake->power_mw[i] = power_mw[i];
    }
}

static int before_each(void **state)
{
    struct fakes *fakes = *state;
    reset(fakes->now);
    reset(fakes->old);
    return 0;
}

static kw_meter *open_meter(const char *library, const char *visible)
{
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    kw_error err = {0};
    kw_meter *meter = NULL;
    options.sources = "nvml";
    options.nvml_library = library;
    options.visible_devices = visible;
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

static kw_meter_detail detail(kw_meter *meter, size_t window, size_t channel)
{
    kw_meter_detail d = {.struct_size = sizeof d};
    kw_error err = {0};
    if (kw_meter_detail_get(meter, window, channel, &d, &err)) fail_msg("%s", err.message);
    return d;
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

/* The window "w" of `seconds`, on a meter that has seen a step of the counter. */
static kw_meter_window measure(kw_meter *meter, double seconds)
{
    sleep_s(0.15);
    assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
    sleep_s(seconds);
    assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    return get(meter, kw_meter_window_count(meter) - 1);
}

/* The labels of the meter's channels, "GPU-0000... GPU-1111...", by the digit that repeats. */
static void shows(const char *library, const char *visible, const char *digits)
{
    kw_meter *meter = open_meter(library, visible);
    char found[FAKE_GPUS + 1] = "";
    for (size_t c = 0; c < kw_meter_channel_count(meter); c++) {
        kw_meter_channel channel = {.struct_size = sizeof channel};
        assert_int_equal(kw_meter_channel_get(meter, c, &channel, NULL), KW_OK);
        assert_string_equal(channel.source, "nvml");
        found[c] = channel.label[4];
        found[c + 1] = '\0';
    }
    if (strcmp(found, digits) != 0) fail_msg("\"%s\" shows %s, not %s", visible, found, digits);
    kw_meter_close(meter);
}

/* ---- What is there ---- */

static void test_absent(void **state)
{
    (void)state;
    kw_meter *meter = open_meter("no/such/libnvidia-ml.so.1", NULL);
    kw_meter_window w = measure(meter, 0.01);
    is_absent(w.energy_j[KW_GPU], "is not there");
    is_absent(w.energy_j[KW_CPU], "no meter that measures cpu was asked for");
    kw_meter_close(meter);
}

/* A library that is there and is none, as a copy that was cut short: the loader's reason is said. */
static void test_not_loaded(void **state)
{
    (void)state;
    char path[] = "/tmp/kinowatt-nvml-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "\177ELF", 4) == 4 && close(fd) == 0);
    kw_meter *meter = open_meter(path, NULL);
    kw_meter_window w = measure(meter, 0.01);
    is_absent(w.energy_j[KW_GPU], "cannot be loaded: ");
    assert_null(strstr(w.energy_j[KW_GPU].reason, "not there"));
    kw_meter_close(meter);
    unlink(path);
}

static void test_does_not_start(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->init_code = 9;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    kw_meter_window w = measure(meter, 0.01);
    is_absent(w.energy_j[KW_GPU], "Driver Not Loaded");
    kw_meter_close(meter);
    fakes->now->init_code = 0;
    fakes->now->gpus = 0;
    meter = open_meter(fakes->now_path, NULL);
    w = measure(meter, 0.01);
    is_absent(w.energy_j[KW_GPU], "sees no GPU");
    kw_meter_close(meter);
    assert_int_equal(fakes->now->open, 0); /* each start was ended */
}

static void test_measures(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->gpus = 2;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    kw_meter_window w = measure(meter, 0.6);
    kw_meter_detail first = detail(meter, 0, 0), second = detail(meter, 0, 1);
    holds(w.energy_j[KW_GPU], 700 * w.duration_s);
    holds(first.by_counter_j, 400 * w.duration_s);
    holds(second.by_counter_j, 300 * w.duration_s);
    holds(first.by_power_j, 400 * w.duration_s);
    assert_int_equal(first.method, KW_METER_BY_COUNTER);
    assert_false(first.flags & (KW_METER_FROZEN | KW_METER_DISAGREES));
    assert_true(fabs(w.max_power_w[KW_GPU].value - 700) < 1e-6);
    assert_true(first.sm_clock_mhz.value == 1755 && first.memory_clock_mhz.value == 2619);
    assert_true(first.temperature_c.value == 61);
    assert_true(first.throttle_known && first.throttle_reasons == 4);
    kw_meter_close(meter);
    assert_int_equal(fakes->now->open, 0);
}

/* Of this process, a child, a child's orphaned child would be ours; the first process of all is not. */
static void test_other_processes(void **state)
{
    struct fakes *fakes = *state;
    char name[64] = "";
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    fakes->now->pids[0] = getpid();
    fakes->now->pids[1] = child;
    fakes->now->pids[2] = getppid();
    fakes->now->num_pids = 3;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    measure(meter, 0.3);
    int64_t others = detail(meter, 0, 0).other_processes;
    kw_meter_close(meter);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(readlink("/proc/self/ns/pid", name, sizeof name - 1) > 0);
    /* in a container NVML's numbers are of another space than ours */
    assert_int_equal(others, strcmp(name, "pid:[4026531836]") == 0 ? 1 : -1);
    meter = open_meter(fakes->old_path, NULL); /* can't tell */
    measure(meter, 0.1);
    assert_int_equal(detail(meter, 0, 0).other_processes, -1);
    kw_meter_close(meter);
}

static double processor_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A read that takes 2 ms of a core, 50 times a second, would take a tenth of it. */
static void test_dear_reads_are_fewer(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->burn_us = 2000;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    double processor = processor_s(), wall = kw__monotonic_s(), width = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
        sleep_s(1.5);
        assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    }
    double share = (processor_s() - processor) / (kw__monotonic_s() - wall);
    for (size_t i = 0; i < 3; i++) {
        kw_meter_window w = get(meter, i);
        if (i == 0) continue; /* the moment of the first step of all is not known as well */
        holds(w.energy_j[KW_GPU], 400 * w.duration_s);
        width = fmax(width, w.energy_j[KW_GPU].high - w.energy_j[KW_GPU].low);
    }
    print_message("# %.1f %% of a core, intervals of %.0f J\n", 100 * share, width);
    assert_true(share < 0.025); /* 2 %, and what was put aside for the first edges */
    /* by step 40 J of the fake's counter, and 700 W that might have been drawn: an edge is known to some 50 J
     */
    assert_true(width < 120);
    kw_meter_close(meter);
}

static void test_old_driver(void **state)
{
    struct fakes *fakes = *state;
    kw_meter *meter = open_meter(fakes->old_path, NULL);
    kw_meter_channel channel = {.struct_size = sizeof channel};
    assert_int_equal(kw_meter_channel_get(meter, 0, &channel, NULL), KW_OK);
    assert_non_null(strstr(channel.note, "mean over a second"));
    kw_meter_window w = measure(meter, 0.3);
    kw_meter_detail d = detail(meter, 0, 0);
    holds(w.energy_j[KW_GPU], 400 * w.duration_s);
    assert_int_equal(d.method, KW_METER_BY_POWER);
    is_absent(d.by_counter_j, "no energy counter");
    assert_false(d.throttle_known);
    kw_meter_close(meter);
}

static void test_nothing_to_read(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->fail_reads = 3; /* while it opens: not supported */
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    kw_meter_window w = measure(meter, 0.05);
    is_absent(w.energy_j[KW_GPU], "neither an energy counter nor a power reading");
    is_absent(w.max_power_w[KW_GPU], "neither");
    kw_meter_close(meter);
}

static void test_grace_hopper(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->grace = 1;
    fakes->now->counter_percent = 180; /* the module's */
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    kw_meter_channel channel = {.struct_size = sizeof channel};
    assert_int_equal(kw_meter_channel_get(meter, 0, &channel, NULL), KW_OK);
    assert_non_null(strstr(channel.note, "whole module"));
    kw_meter_window w = measure(meter, 0.3);
    holds(w.energy_j[KW_GPU], 400 * w.duration_s);
    kw_meter_close(meter);
}

/* ---- Which GPUs ---- */

static void test_visible_devices(void **state)
{
    struct fakes *fakes = *state;
    const char *path = fakes->now_path;
    fakes->now->gpus = 4;
    shows(path, NULL, "0123");
    shows(path, "", "");
    shows(path, "-1", "");
    shows(path, "2", "2");
    shows(path, "3,0", "30");
    shows(path, " 1 , 2 ", "12");
    shows(path, "1,7,2", "1"); /* CUDA stops at what is not there */
    shows(path, "1,-1,2", "1");
    shows(path, "1,1", "");
    shows(path, "GPU-2222aaaa-0000", "2");
    shows(path, "GPU-2,GPU-0", "20"); /* the beginning suffices where it fits one alone */
    shows(path, "GPU-", "");
    shows(path, "gpu-3333AAAA", "3");
    shows(path, "GPU-9", "");
    shows(path, "nonsense", "");
    shows(path, "MIG-2222aaaa-0000", "");
    kw_meter *meter = open_meter(path, "7");
    is_absent(measure(meter, 0.01).energy_j[KW_GPU], "CUDA_VISIBLE_DEVICES shows no GPU: it stops at 7");
    kw_meter_close(meter);
    meter = open_meter(path, "MIG-2222aaaa-0000");
    is_absent(measure(meter, 0.01).energy_j[KW_GPU], "MIG instance");
    kw_meter_close(meter);
}

static void test_environment(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->gpus = 3;
    assert_int_equal(setenv("CUDA_VISIBLE_DEVICES", "1", 1), 0);
    shows(fakes->now_path, NULL, "1");
    assert_int_equal(unsetenv("CUDA_VISIBLE_DEVICES"), 0);
    shows(fakes->now_path, NULL, "012");
}

static void test_mig_and_lost(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->gpus = 3;
    fakes->now->mig[1] = 1;
    fakes->now->lost[2] = 1;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    kw_meter_window w = measure(meter, 0.2);
    is_absent(w.energy_j[KW_GPU], "MIG"); /* one that can't be measured keeps the sum absent */
    assert_int_equal(detail(meter, 0, 0).energy_j.status, KW_MEASURED);
    is_absent(detail(meter, 0, 1).energy_j, "MIG");
    is_absent(detail(meter, 0, 2).energy_j, "GPU is lost");
    kw_meter_close(meter);

    struct kw__meter_line lines[8];
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    options.nvml_library = fakes->now_path;
    options.powercap = "no/such/folder";
    size_t count = kw__meter_describe(&options, lines, 8);
    assert_int_equal(count, 5); /* the GPU, MIG, the lost one, cpu, ram */
    int can = 0;
    for (size_t i = 0; i < count; i++) {
        can += lines[i].can;
        assert_true(lines[i].detail[0] && (lines[i].can || lines[i].remedy[0]));
    }
    assert_int_equal(can, 1);
    assert_int_equal(kw__meter_describe(&options, lines, 2), 2);
}

/* ---- What goes wrong while it runs ---- */

static void test_frozen(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->frozen = 1;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    kw_meter_window w = measure(meter, 1.3);
    kw_meter_detail d = detail(meter, 0, 0);
    holds(w.energy_j[KW_GPU], 400 * w.duration_s);
    assert_int_equal(d.method, KW_METER_BY_POWER);
    assert_true(d.flags & KW_METER_FROZEN);
    is_absent(d.by_counter_j, "stood still");
    kw_meter_close(meter);
}

static void test_disagrees(void **state)
{
    struct fakes *fakes = *state;
    fakes->now->counter_percent = 50;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    measure(meter, 0.6);
    kw_meter_detail d = detail(meter, 0, 0);
    assert_true(d.flags & KW_METER_DISAGREES);
    assert_int_equal(d.method, KW_METER_BY_COUNTER);
    kw_meter_close(meter);
}

static void test_reads_fail_for_a_while(void **state)
{
    struct fakes *fakes = *state;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    sleep_s(0.15);
    assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
    sleep_s(0.2);
    fakes->now->fail_reads = 15;
    sleep_s(0.3);
    fakes->now->fail_reads = 0;
    sleep_s(0.2);
    assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    kw_meter_window w = get(meter, 0);
    kw_meter_detail d = detail(meter, 0, 0);
    holds(w.energy_j[KW_GPU], 400 * w.duration_s); /* the counter counted on */
    assert_true(d.flags & KW_METER_GAP);
    assert_true(w.failed_reads > 0 && w.gap_s > 0.2 && w.gap_s < w.duration_s);
    holds(d.by_power_j, 400 * w.duration_s);
    assert_true(d.by_power_j.high - d.by_power_j.low > 0.3 * 400); /* it may have been anything in the gap */
    kw_meter_close(meter);
}

static void test_stops_for_good(void **state)
{
    struct fakes *fakes = *state;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    sleep_s(0.15);
    assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
    sleep_s(0.2);
    fakes->now->fail_reads = 15;
    sleep_s(0.3);
    assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    kw_meter_window w = get(meter, 0);
    is_absent(w.energy_j[KW_GPU], "GPU is lost");
    is_absent(w.power_w[KW_GPU], "no reading since");
    assert_true(w.gap_s > 0.2);
    kw_meter_close(meter);
}

/* A read that does not return holds up nobody; when it does return, the window is whole again. */
static void test_read_hangs(void **state)
{
    struct fakes *fakes = *state;
    kw_meter *meter = open_meter(fakes->now_path, NULL);
    sleep_s(0.15);
    assert_int_equal(kw_meter_begin(meter, "w", NULL), KW_OK);
    sleep_s(0.1);
    fakes->now->hang_reads = 1;
    sleep_s(0.4);
    double start = kw__monotonic_s();
    assert_int_equal(kw_meter_end(meter, "w", NULL), KW_OK);
    assert_true(kw__monotonic_s() - start < 0.1);
    kw_meter_window w = get(meter, 0);
    assert_true(kw__monotonic_s() - start < 2); /* settle_s is half a second */
    is_absent(w.energy_j[KW_GPU], "no reading since");
    assert_true(w.gap_s > 0.2);
    fakes->now->hang_reads = 0;
    sleep_s(0.4);
    w = get(meter, 0);
    holds(w.energy_j[KW_GPU], 400 * w.duration_s);
    assert_true(w.gap_s > 0.2);

    fakes->now->hang_reads = 1;
    sleep_s(0.1);
    start = kw__monotonic_s();
    kw_meter_close(meter); /* leaves the thread behind */
    assert_true(kw__monotonic_s() - start < 3);
    fakes->now->hang_reads = 0;
    for (int i = 0; i < 300 && fakes->now->open > 0; i++) sleep_s(0.01);
    assert_int_equal(fakes->now->open, 0); /* which ended by itself */
    sleep_s(0.05);
}

static void test_start_hangs(void **state)
{
    struct fakes *fakes = *state;
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    kw_meter *meter;
    options.sources = "nvml";
    options.nvml_library = fakes->now_path;
    options.start_timeout_s = 0.2;
    fakes->now->hang_init = 1;
    double start = kw__monotonic_s();
    assert_int_equal(kw_meter_open(&options, &meter, NULL), KW_OK);
    assert_true(kw__monotonic_s() - start < 2);
    kw_meter_window w = measure(meter, 0.01);
    is_absent(w.energy_j[KW_GPU], "did not answer within 0.2 s");
    fakes->now->hang_init = 0; /* too late: it is not used any more */
    w = measure(meter, 0.3);
    is_absent(w.energy_j[KW_GPU], "did not answer");
    kw_meter_close(meter);
    assert_int_equal(fakes->now->open, 0);
}

#define EACH(test) cmocka_unit_test_setup(test, before_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_absent),
        EACH(test_not_loaded),
        EACH(test_does_not_start),
        EACH(test_measures),
        EACH(test_dear_reads_are_fewer),
        EACH(test_other_processes),
        EACH(test_old_driver),
        EACH(test_nothing_to_read),
        EACH(test_grace_hopper),
        EACH(test_visible_devices),
        EACH(test_environment),
        EACH(test_mig_and_lost),
        EACH(test_frozen),
        EACH(test_disagrees),
        EACH(test_reads_fail_for_a_while),
        EACH(test_stops_for_good),
        EACH(test_read_hangs),
        EACH(test_start_hangs),
    };
    unsetenv("CUDA_VISIBLE_DEVICES");
    return cmocka_run_group_tests(tests, setup, NULL);
}
