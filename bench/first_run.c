/* What the first run in a process takes beyond a second one, stage by stage: time, processor time and pages
 * that were touched for the first time. What is not the same should have been done as the model was loaded;
 * predictions know later runs alone. The nano model with random weights, in what dtype this CPU has.
 *
 *     bench/first_run [WIDTH HEIGHT FRAMES [STEPS]] */
#define _XOPEN_SOURCE 700 /* getrusage */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/pipeline.h"
#include "model/catalog.h"

enum { RUNS = 2 };

struct counts {
    double processor_s, faults;
};

struct watch {
    struct counts last, stages[RUNS][KW__MAX_STAGES];
    const char *names[KW__MAX_STAGES];
    int run;
};

static void stop(const char *what)
{
    fprintf(stderr, "first_run: %s\n", what);
    exit(1);
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

static struct counts counts_now(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) stop("getrusage fails");
    return (struct counts){seconds(usage.ru_utime) + seconds(usage.ru_stime), (double)usage.ru_minflt};
}

/* After each operator: what was counted since the one before belongs to its stage. */
static bool progress(void *user, const struct kw__progress *at)
{
    struct watch *w = user;
    struct counts now = counts_now();
    int s = 0;
    if (strcmp(at->stage, "weights") == 0) return true;
    while (s < KW__MAX_STAGES - 1 && w->names[s] && strcmp(w->names[s], at->stage) != 0) s++;
    w->names[s] = at->stage;
    w->stages[w->run][s].processor_s += now.processor_s - w->last.processor_s;
    w->stages[w->run][s].faults += now.faults - w->last.faults;
    w->last = now;
    return true;
}

static void print(const struct watch *w, struct kw__clip *clips)
{
    printf("%-12s %30s   %30s\n%-12s", "", "first run", "second run", "stage");
    for (int run = 0; run < RUNS; run++) printf(" %10s %10s %8s  ", "ms", "processor", "pages");
    printf("\n");
    for (int s = 0; s < clips[0].num_stages; s++) {
        printf("%-12s", clips[0].stages[s].name);
        for (int run = 0; run < RUNS; run++)
            printf(" %10.1f %10.1f %8.0f  ", 1e3 * clips[run].stages[s].seconds,
                   1e3 * w->stages[run][s].processor_s, w->stages[run][s].faults);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    struct watch watch = {0};
    struct kw__clip clips[RUNS];
    struct kw__pipeline *pipeline;
    kw_catalog *catalog;
    kw_model *model;
    kw_error err;
    kw_request request = KW_REQUEST_INIT;
    request.width = argc > 3 ? strtol(argv[1], NULL, 10) : 256;
    request.height = argc > 3 ? strtol(argv[2], NULL, 10) : 144;
    request.num_frames = argc > 3 ? strtol(argv[3], NULL, 10) : 17;
    request.num_inference_steps = argc > 4 ? strtol(argv[4], NULL, 10) : 4;
    const struct kw__pipeline_options options = {
        .prompt = "a cat walks on the grass", .user = &watch, .progress = progress};
    if (kw_catalog_open(getenv("KINOWATT_DATA") ? NULL : "data", &catalog, &err) ||
        kw_model_open(catalog, "wan2.1-t2v-nano", &model, &err) ||
        kw__pipeline_open(catalog, model, &request, &options, &pipeline, &err) ||
        kw__pipeline_load(pipeline, &err))
        stop(err.message);
    for (watch.run = 0; watch.run < RUNS; watch.run++) {
        watch.last = counts_now();
        if (kw__pipeline_run(pipeline, 0, &clips[watch.run], &err)) stop(err.message);
    }
    print(&watch, clips);
    for (int run = 0; run < RUNS; run++) kw__clip_free(&clips[run]);
    kw__pipeline_close(pipeline);
    kw_model_close(model);
    kw_catalog_close(catalog);
    return 0;
}
