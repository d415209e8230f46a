/* Clips of the nano model on this machine, stage by stage: what their operators take when nothing disturbs
 * them, beside what `kinowatt predict` says. The neighbours of a virtual machine take execution units and
 * caches of the cores it runs on, for a millisecond or for minutes and seen in no counter; of one clip that
 * cannot be told from slowness. So clips of all sizes are made in turn, several times, and each operator of a
 * phase counts as the median of its undisturbed runs (predict/micro.h), in all calls and clips; what a stage
 * takes beside them, and until its first is done, counts as its median over the clips. How long whole stages
 * took is printed beside.
 *
 *     bench/clip_stages [CLIPS [WIDTH HEIGHT FRAMES STEPS]...]
 *
 * A line for a stage: size, stage, predicted, undisturbed, quickest and slowest of the clips, in ms;
 * nan is what nothing predicts, as without a calibration of this machine. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "engine/pipeline.h"
#include "model/catalog.h"
#include "predict/micro.h"

enum { MAX_CLIPS = 100, MAX_SIZES = 16 };

/* Of one phase: a row of operators for each call, one after the other; NaN: a stage's first. */
struct phase_times {
    const char *name;
    size_t ops, count, capacity;
    double *times;
};

struct stage_times {
    const char *name;
    struct phase_times phases[KW__MAX_PHASES];
    bool begun;         /* in this clip */
    double operators_s; /* of it */
    double whole_s[MAX_CLIPS], rest_s[MAX_CLIPS];
};

/* One size. */
struct watch {
    kw_request request;
    struct kw__pipeline *pipeline;
    kw_prediction *prediction;
    struct stage_times stages[KW__MAX_STAGES];
    double last;
};

static void stop(const char *what)
{
    fprintf(stderr, "clip_stages: %s\n", what);
    exit(1);
}

static struct stage_times *stage_of(struct watch *w, const char *name)
{
    int s = 0;
    while (w->stages[s].name && strcmp(w->stages[s].name, name) != 0)
        if (++s == KW__MAX_STAGES) stop("more stages than there can be");
    w->stages[s].name = name;
    return &w->stages[s];
}

static void add_time(struct stage_times *stage, const struct kw__progress *at, double seconds)
{
    int p = 0;
    while (stage->phases[p].name && strcmp(stage->phases[p].name, at->phase) != 0)
        if (++p == KW__MAX_PHASES) stop("more phases than there can be");
    struct phase_times *phase = &stage->phases[p];
    if (phase->count == phase->capacity) {
        phase->capacity = phase->capacity ? 2 * phase->capacity : 1024;
        phase->times = realloc(phase->times, phase->capacity * sizeof *phase->times);
        if (!phase->times) stop("no memory");
    }
    phase->name = at->phase;
    phase->ops = at->ops;
    phase->times[phase->count++] = stage->begun ? seconds : NAN; /* it began some time after the last stage */
    if (stage->begun) stage->operators_s += seconds;
    stage->begun = true;
}

static bool progress(void *user, const struct kw__progress *at)
{
    struct watch *w = user;
    double now = kw__monotonic_s();
    if (at->phase && at->ops) add_time(stage_of(w, at->stage), at, now - w->last);
    w->last = kw__monotonic_s();
    return true;
}

static double undisturbed_phase(const struct phase_times *phase, int clips)
{
    size_t calls = phase->ops ? phase->count / phase->ops : 0;
    double *column = malloc((calls + 1) * sizeof *column), sum = 0, sd;
    if (!column) stop("no memory");
    for (size_t op = 0; op < phase->ops; op++) {
        size_t timed = 0;
        for (size_t c = 0; c < calls; c++)
            if (!isnan(phase->times[c * phase->ops + op]))
                column[timed++] = phase->times[c * phase->ops + op];
        if (timed) sum += (double)timed * kw__undisturbed(column, timed, &sd, &(size_t){0});
    }
    free(column);
    return sum / clips;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double undisturbed_stage(struct stage_times *stage, int clips)
{
    qsort(stage->rest_s, (size_t)clips, sizeof stage->rest_s[0], ascending);
    double sum = stage->rest_s[clips / 2];
    for (int p = 0; p < KW__MAX_PHASES; p++) sum += undisturbed_phase(&stage->phases[p], clips);
    return sum;
}

static double predicted_s(const kw_prediction *prediction, const char *stage)
{
    if (!prediction) return NAN;
    for (size_t i = 0; i < prediction->num_stages; i++)
        if (strcmp(prediction->stages[i].name, stage) == 0) return prediction->stages[i].latency_s.value;
    stop("a stage is not predicted");
    return 0;
}

static void open_size(const kw_catalog *catalog, const kw_model *model, struct watch *w)
{
    const struct kw__pipeline_options options = {
        .prompt = "a cat walks on the grass", .user = w, .progress = progress};
    kw_predict_options predict = KW_PREDICT_OPTIONS_INIT;
    char calibration[64];
    kw_error err;
    if (kw__pipeline_open(catalog, model, &w->request, &options, &w->pipeline, &err)) stop(err.message);
    struct kw__pipeline_info info = kw__pipeline_info(w->pipeline);
    snprintf(calibration, sizeof calibration, "%s@cpu", info.stack); /* of `kinowatt calibrate` */
    predict.calibration = calibration;
    predict.hardware = "cpu";
    predict.stack = info.stack;
    kw_request request = w->request;
    request.prompt_tokens = (int64_t)info.tokens[0];
    request.negative_tokens = (int64_t)info.tokens[1];
    if (kw_predict(catalog, model, &request, &predict, &w->prediction, &err))
        fprintf(stderr, "clip_stages: nothing is predicted: %s\n", err.message);
    if (kw__pipeline_load(w->pipeline, &err)) stop(err.message);
}

static void make_clip(struct watch *w, int number)
{
    struct kw__clip clip;
    kw_error err;
    for (int s = 0; s < KW__MAX_STAGES; s++) {
        w->stages[s].begun = false;
        w->stages[s].operators_s = 0;
    }
    if (kw__pipeline_run(w->pipeline, (uint64_t)number, &clip, &err)) stop(err.message);
    for (int s = 0; s < clip.num_stages; s++) {
        struct stage_times *stage = stage_of(w, clip.stages[s].name);
        stage->whole_s[number] = clip.stages[s].seconds;
        stage->rest_s[number] = clip.stages[s].seconds - stage->operators_s;
    }
    kw__clip_free(&clip);
}

static void print_size(struct watch *w, int clips)
{
    for (struct stage_times *s = w->stages; s < w->stages + KW__MAX_STAGES && s->name; s++) {
        qsort(s->whole_s, (size_t)clips, sizeof s->whole_s[0], ascending);
        printf("%" PRId64 "x%" PRId64 "x%" PRId64 " %s %.3f %.3f %.3f %.3f\n", w->request.width,
               w->request.height, w->request.num_frames, s->name, 1e3 * predicted_s(w->prediction, s->name),
               1e3 * undisturbed_stage(s, clips), 1e3 * s->whole_s[0], 1e3 * s->whole_s[clips - 1]);
    }
}

static void close_size(struct watch *w)
{
    for (int s = 0; s < KW__MAX_STAGES; s++)
        for (int p = 0; p < KW__MAX_PHASES; p++) free(w->stages[s].phases[p].times);
    if (w->prediction) kw_prediction_free(w->prediction);
    kw__pipeline_close(w->pipeline);
}

int main(int argc, char **argv)
{
    static struct watch sizes[MAX_SIZES];
    kw_catalog *catalog;
    kw_model *model;
    kw_error err;
    const int clips = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 3,
              num_sizes = argc > 5 ? (argc - 2) / 4 : 1;
    if (clips < 1 || clips > MAX_CLIPS || num_sizes > MAX_SIZES) stop("1 to 100 CLIPS of 1 to 16 sizes");
    if (kw_catalog_open(getenv("KINOWATT_DATA") ? NULL : "data", &catalog, &err) ||
        kw_model_open(catalog, "wan2.1-t2v-nano", &model, &err))
        stop(err.message);
    for (int i = 0; i < num_sizes; i++) {
        const bool given = argc > 5;
        struct watch *w = &sizes[i];
        w->request = (kw_request)KW_REQUEST_INIT;
        w->request.width = given ? strtol(argv[4 * i + 2], NULL, 10) : 256;
        w->request.height = given ? strtol(argv[4 * i + 3], NULL, 10) : 144;
        w->request.num_frames = given ? strtol(argv[4 * i + 4], NULL, 10) : 17;
        w->request.num_inference_steps = given ? strtol(argv[4 * i + 5], NULL, 10) : 4;
        open_size(catalog, model, w);
    }
    for (int n = 0; n < clips; n++)
        for (int i = 0; i < num_sizes; i++) make_clip(&sizes[i], n);
    for (int i = 0; i < num_sizes; i++) print_size(&sizes[i], clips);
    for (int i = 0; i < num_sizes; i++) close_size(&sizes[i]);
    kw_model_close(model);
    kw_catalog_close(catalog);
    return 0;
}
