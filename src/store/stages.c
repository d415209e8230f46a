#include "store/stages.h"

#include <math.h>
#include <string.h>

const char *const kw__run_stage_names[KW__RUN_STAGES] = {"text_encode", "denoise", "upscale", "refine",
                                                         "decode"};

/* ---- Sums ------------------------------------------------------------------------------------------- */

void kw__run_sum_window(struct kw__run_sum *sum, const struct kw__run_window *w)
{
    const double to_sd = 2 * 1.6449; /* a 90 % interval */
    sum->seconds += w->duration_s;
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        sum->energy_j[d] += w->energy_j[d].status == KW_ABSENT ? NAN : w->energy_j[d].value;
    double sd = (w->energy_j[KW_GPU].high - w->energy_j[KW_GPU].low) / to_sd;
    sum->gpu_variance += sd * sd;
    sum->windows++;
}

void kw__run_sum_add(struct kw__run_sum *sum, const struct kw__run_sum *more)
{
    sum->seconds += more->seconds;
    for (int d = 0; d < KW_NUM_DEVICES; d++) sum->energy_j[d] += more->energy_j[d];
    sum->gpu_variance += more->gpu_variance;
    sum->windows += more->windows;
}

/* ---- What counts ------------------------------------------------------------------------------------ */

const struct kw__run_window *kw__run_last(const struct kw__run *run, const char *name, size_t length)
{
    for (size_t i = run->num_windows; i-- > 0;)
        if (strlen(run->windows[i].name) == length && strncmp(run->windows[i].name, name, length) == 0)
            return &run->windows[i];
    return NULL;
}

/* -1: of none. */
static int stage_of(const char *name)
{
    for (int s = 0; s < KW__RUN_STAGES; s++)
        if (strcmp(name, kw__run_stage_names[s]) == 0) return s;
    return -1;
}

static bool is_kind(const struct kw__run *run, const char *kind)
{
    return run->kind && strcmp(run->kind, kind) == 0;
}

static bool is_sweeps_command(const struct kw__run *run)
{
    return is_kind(run, "sweep") && kw__run_setting(run, "command") != NULL;
}

size_t kw__run_work(const struct kw__run *run)
{
    const char *name = kw__run_setting(run, "run.counted");
    const struct kw__run_window *w = NULL;
    if (name && stage_of(name) < 0) w = kw__run_last(run, name, strlen(name));
    if (w) return (size_t)(w - run->windows);
    if (is_sweeps_command(run)) w = kw__run_last(run, "decode", strlen("decode"));
    return w && w->parent > 0 ? (size_t)w->parent : 0;
}

bool kw__run_stages(const struct kw__run *run, struct kw__run_sum stages[KW__RUN_STAGES])
{
    enum { OUTPUT = KW__RUN_STAGES, TEXT_BEFORE, NAMES };
    const struct kw__run_window *last[NAMES] = {NULL};
    bool again = false, text_again = false;
    int64_t work = (int64_t)kw__run_work(run);
    memset(stages, 0, KW__RUN_STAGES * sizeof *stages);
    for (size_t i = 0; i < run->num_windows; i++) {
        const struct kw__run_window *w = &run->windows[i];
        int s = w->parent != work ? -1 : strcmp(w->name, "output") == 0 ? OUTPUT : stage_of(w->name);
        if (s < 0) continue;
        if (s == KW__RUN_TEXT_ENCODE) {
            text_again = last[s] != NULL;
            last[TEXT_BEFORE] = last[s];
        } else {
            again = again || last[s];
        }
        last[s] = w;
    }
    if (!last[KW__RUN_REFINE]) last[TEXT_BEFORE] = NULL;
    if (!last[KW__RUN_DECODE]) last[OUTPUT] = NULL; /* of what decodes elsewhere */
    for (int s = 0; s < NAMES; s++)
        if (last[s])
            kw__run_sum_window(&stages[s == OUTPUT        ? KW__RUN_DECODE
                                       : s == TEXT_BEFORE ? KW__RUN_TEXT_ENCODE
                                                          : s],
                               last[s]);
    return again || (text_again && !last[KW__RUN_REFINE]);
}

double kw__run_work_s(const struct kw__run *run)
{
    struct kw__run_sum stages[KW__RUN_STAGES], all = {0};
    if (!run->num_windows) return NAN;
    (void)kw__run_stages(run, stages);
    for (int s = 0; s < KW__RUN_STAGES; s++) kw__run_sum_add(&all, &stages[s]);
    if (stages[KW__RUN_TEXT_ENCODE].windows && stages[KW__RUN_DENOISE].windows &&
        stages[KW__RUN_DECODE].windows)
        return all.seconds;
    size_t work = kw__run_work(run);
    bool starts = is_kind(run, "record") || is_sweeps_command(run);
    return work == 0 && starts ? NAN : run->windows[work].duration_s;
}
