/* What of a run is the work of its model and request, and what it took and drew: what `runs show`, the
 * linter, fits and sweeps hold against a prediction.
 *
 * The work is a pipeline's stages text_encode, denoise, upscale, refine and decode, as windows of these names
 * right in the window that holds it; some pipelines have no upscale and refine. A window "output" (what
 * diffusers does after the VAE: frames to the host) is of decode, as it is in a prediction. Of each name the
 * last window counts, since a program may warm up before; but text that is encoded for each of two sizes is
 * two of them. */
#ifndef KW_STORE_STAGES_H
#define KW_STORE_STAGES_H

#include "store/run.h"

/* In the order in which they run. */
enum kw__run_stage {
    KW__RUN_TEXT_ENCODE,
    KW__RUN_DENOISE,
    KW__RUN_UPSCALE,
    KW__RUN_REFINE,
    KW__RUN_DECODE,
    KW__RUN_STAGES
};
extern const char *const kw__run_stage_names[KW__RUN_STAGES];

/* Of several windows together. */
struct kw__run_sum {
    double seconds, energy_j[KW_NUM_DEVICES]; /* NaN: of one of them it is not known */
    double gpu_variance;                      /* of the GPU's joules, as the intervals say; NaN: not known */
    int windows;
};
void kw__run_sum_window(struct kw__run_sum *sum, const struct kw__run_window *window);
void kw__run_sum_add(struct kw__run_sum *sum, const struct kw__run_sum *more);

/* The last window of this name, of which the first `length` bytes count: what a program did before under the
 * same name was a warm-up. NULL: there is none. */
const struct kw__run_window *kw__run_last(const struct kw__run *run, const char *name, size_t length);
/* The window that holds the work: the last one of the name that the setting "run.counted" gives, unless that
 * is a stage; else, of a command of a sweep, which runs one request, the one that holds the last decode; else
 * the whole run, 0. */
size_t kw__run_work(const struct kw__run *run);
/* Sums of the work's stages, those of a stage that is not there 0. True when a stage was timed several times,
 * so that which of them is the work is a guess. */
bool kw__run_stages(const struct kw__run *run, struct kw__run_sum stages[KW__RUN_STAGES]);
/* Seconds of the work: of its stages when text_encode, denoise and decode are there, else of the window.
 * NaN: not known, as the whole of a command that no window divides holds the program's start. */
double kw__run_work_s(const struct kw__run *run);

#endif
