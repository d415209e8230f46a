/* A store of 100,000 runs, as `generate` keeps them on a machine with a GPU: how long it takes to fill, to
 * list and to export. An export is on the disk when its file appears, so beside its rate stands that of as
 * many bytes written and synced, nothing else done, in turn with it: a disk's rate changes from second to
 * second.
 *
 *     bench/store [RUNS]       FOLDER=/somewhere: another disk than that of TMPDIR */
#define _DEFAULT_SOURCE /* wait4 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "store/store.h"

static char path[512], out[512];

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench/store: %s\n", what);
    exit(1);
}

static kw_reading reading(double value)
{
    return (kw_reading){value, value * 0.995, value * 1.005, KW_MEASURED, NULL};
}

/* A run that differs from the others in its figures. */
static struct kw__run *make_run(int i)
{
    static const char *const names[] = {"total", "text_encode", "denoise", "decode"},
                             *const settings[] = {"attention",       "backend",          "cpu",
                                                  "dtype.decoder",   "dtype.denoiser",   "dtype.text_encoder",
                                                  "negative_prompt", "prompt",           "run.load_s",
                                                  "run.meter",       "run.peak_bytes",   "run.seed",
                                                  "tokenizer",       "version.kinowatt", "version.kernel"};
    static struct kw__run_window windows[4];
    static struct kw__run_channel channels[2] = {{"nvml", "GPU-0", "NVIDIA H200", NULL, KW_GPU, 700},
                                                 {"rapl", "package-0", NULL, NULL, KW_CPU, NAN}};
    static struct kw__run_detail details[8];
    static char began[32];
    const kw_reading absent = {NAN, NAN, NAN, KW_ABSENT, "no powercap zone measures memory here"};
    struct kw__run *run = kw__run_new("generate");
    if (!run) die("out of memory");
    kw__time_format(1.7e9 + 90.0 * i, began, sizeof began);
    run->began = began;
    run->state = "done";
    run->session = run->uuid;
    run->model = i % 7 ? "wan2.1-t2v-1.3b" : "ltx-video";
    run->hardware = "h200";
    run->stack = "kinowatt-cuda";
    run->weights = "random:0:normal";
    run->request = (struct kw__run_request){832, 480, 81, 81, 50, 1, 20, 1, 1, 5, 16, 3};
    for (int w = 0; w < 4; w++) {
        double seconds = 12.3456789 * (w + 1) + 1e-4 * i / 3;
        windows[w] = (struct kw__run_window){
            .name = names[w], .parent = w ? 0 : -1, .begin_s = w * 3.3, .duration_s = seconds, .gap_s = 0.02};
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            windows[w].energy_j[d] = d == KW_RAM ? absent : reading(612.3 * seconds / (d + 1));
            windows[w].power_w[d] = d == KW_RAM ? absent : reading(612.3 / (d + 1));
            windows[w].max_power_w[d] = d == KW_RAM ? absent : reading(698.1 / (d + 1));
            windows[w].idle_power_w[d] = d == KW_RAM ? absent : reading(71.2 / (d + 1));
        }
        for (int c = 0; c < 2; c++)
            details[2 * w + c] = (struct kw__run_detail){w,
                                                         c,
                                                         KW_METER_BY_COUNTER,
                                                         0,
                                                         612.3 * seconds,
                                                         612.3 * seconds,
                                                         611.9 * seconds,
                                                         600 + i % 7,
                                                         1755,
                                                         NAN,
                                                         61.5,
                                                         1700,
                                                         64,
                                                         4,
                                                         true,
                                                         0};
    }
    run->windows = windows;
    run->channels = channels;
    run->details = details;
    run->num_windows = 4;
    run->num_channels = 2;
    run->num_details = 8;
    for (size_t s = 0; s < sizeof settings / sizeof settings[0]; s++)
        if (kw__run_set(run, settings[s], "some value of usual length", NULL)) die("out of memory");
    return run;
}

static double fill(int runs)
{
    struct kw__store *store;
    kw_error err = {0};
    double start = kw__monotonic_s();
    if (kw__store_open(path, KW__STORE_WRITE, &store, &err)) die(err.message);
    if (kw__store_begin(store, &err)) die(err.message);
    for (int i = 0; i < runs; i++) {
        struct kw__run *run = make_run(i);
        if (kw__store_add(store, run, &err)) die(err.message);
        kw__run_free(run);
    }
    if (kw__store_end(store, true, &err)) die(err.message);
    kw__store_close(store);
    return kw__monotonic_s() - start;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + 1e-6 * (double)time.tv_usec;
}

/* Seconds that the command takes, and those of the processors. */
static double command(const char *const *arguments, double *processor_s)
{
    double start = kw__monotonic_s();
    pid_t child = fork();
    int status;
    struct rusage used;
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout)) _exit(1);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child || status) die(arguments[2]);
    *processor_s = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
    return kw__monotonic_s() - start;
}

static double file_mb(const char *name)
{
    struct stat info;
    return stat(name, &info) == 0 ? (double)info.st_size / 1e6 : NAN;
}

/* Seconds to write and sync so many MB to a new file. */
static double disk(double mb)
{
    static char block[1 << 20];
    double start = kw__monotonic_s();
    FILE *file = fopen(out, "wb");
    if (!file) die("cannot write");
    memset(block, 'x', sizeof block);
    for (double left = mb * 1e6; left > 0; left -= sizeof block)
        (void)fwrite(block, 1, left < sizeof block ? (size_t)left : sizeof block, file);
    if (fflush(file) || fsync(fileno(file)) || fclose(file)) die("cannot write");
    return kw__monotonic_s() - start;
}

enum { TIMES = 9, EXPORTS = 5 };

static void time_lists(const char *kinowatt)
{
    const struct {
        const char *what, *arguments[10];
    } lists[] = {{"runs", {kinowatt, "runs", "--store", path}},
                 {"runs --model, rare", {kinowatt, "runs", "--store", path, "--model", "ltx-video"}},
                 {"runs --kind, none", {kinowatt, "runs", "--store", path, "--kind", "sweep"}},
                 {"runs show", {kinowatt, "runs", "show", "1", "--store", path}}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        double took[TIMES], ignored;
        for (int t = 0; t < TIMES; t++) took[t] = command(lists[i].arguments, &ignored);
        printf("%-20s %6.1f ms\n", lists[i].what, 1e3 * median(took, TIMES));
    }
}

static void time_exports(const char *kinowatt)
{
    const char *const formats[][2] = {
        {"kinowatt", NULL}, {"kinowatt", "--csv"}, {"codecarbon", NULL}, {"mlenergy", NULL}};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        const char *arguments[] = {kinowatt, "runs",     "export",      "--store",     path, "-o",
                                   out,      "--format", formats[i][0], formats[i][1], NULL};
        double took[EXPORTS], processor_s[EXPORTS], alone[EXPORTS], mb = 0;
        for (int t = 0; t < EXPORTS; t++) {
            unlink(out);
            took[t] = command(arguments, &processor_s[t]);
            mb = file_mb(out);
            unlink(out);
            alone[t] = disk(mb);
        }
        double seconds = median(took, EXPORTS);
        printf(
            "export %-10s %-5s %6.2f s, %5.2f of the processors, %6.1f MB, %4.0f MB/s; the disk alone %4.0f "
            "MB/s\n",
            formats[i][0], formats[i][1] ? formats[i][1] : "", seconds, median(processor_s, EXPORTS), mb,
            mb / seconds, mb / median(alone, EXPORTS));
    }
}

int main(int argc, char **argv)
{
    const char *kinowatt = getenv("KINOWATT"), *folder = getenv("FOLDER"), *tmp = getenv("TMPDIR");
    int runs = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 100000;
    char place[256];
    snprintf(place, sizeof place, "%s/kinowatt-bench-XXXXXX", folder ? folder : tmp ? tmp : "/tmp");
    if (!kinowatt || !mkdtemp(place)) die("KINOWATT names the command");
    setvbuf(stdout, NULL, _IOLBF, 0); /* children have nothing to repeat */
    snprintf(path, sizeof path, "%s/runs.db", place);
    snprintf(out, sizeof out, "%s/out", place);
    double filled = fill(runs);
    printf("%d runs kept in %.1f s (one transaction), %.0f MB\n", runs, filled, file_mb(path));
    time_lists(kinowatt);
    time_exports(kinowatt);
    unlink(out);
    /* what readers leave beside it */
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        snprintf(out, sizeof out, "%s%s", path, ends[i]);
        unlink(out);
    }
    return rmdir(place);
}
