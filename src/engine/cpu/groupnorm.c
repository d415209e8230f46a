/* Group norm of images that lie channels last: sums over each channel in f64, block by block of pixels so
 * that they do not depend on the number of threads, put together to a gain and a shift for each channel;
 * then one pass that applies them. */
#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/vec.h"

struct groupnorm {
    const struct kw__cpu_step *step;
    int64_t channels, pixels, units; /* normalized on their own: videos, or their frames */
    int64_t first;                   /* pixel of the unit that is under way */
    int64_t blocks;
    double *sums;        /* of each block: [2, channels] */
    float *gain, *shift; /* [channels] */
};

static size_t scratch_bytes(const struct groupnorm *j)
{
    return (size_t)j->channels * (2 * (size_t)j->blocks * sizeof(double) + 2 * sizeof(float));
}

KW__CLONES static void sum_pixels(void *argument, int64_t from, int64_t to)
{
    const struct groupnorm *j = argument;
    const struct kw__cpu_step *s = j->step;
    float in[KW__PIECE];
    for (int64_t block = from; block < to; block++) {
        double *sum = j->sums + block * 2 * j->channels, *square = sum + j->channels;
        memset(sum, 0, (size_t)(2 * j->channels) * sizeof *sum);
        int64_t end = j->first + (block + 1) * j->pixels / j->blocks;
        for (int64_t p = j->first + block * j->pixels / j->blocks; p < end; p++)
            for (int64_t c = 0; c < j->channels; c += KW__PIECE) {
                int64_t n = j->channels - c < KW__PIECE ? j->channels - c : KW__PIECE;
                const float *x = kw__load(s->in_type[0], s->x[0], p * j->channels + c, n, in);
                KW__EACH for (int64_t i = 0; i < n; i++) sum[c + i] += (double)x[i];
                KW__EACH for (int64_t i = 0; i < n; i++) square[c + i] += (double)x[i] * (double)x[i];
            }
    }
}

/* y = x gain + shift is (x - mean) / sqrt(var + eps) gamma + beta of the channel's group. */
static void solve_groups(struct groupnorm *j)
{
    const struct kw__cpu_step *s = j->step;
    const float *gamma = s->x[1], *beta = s->x[2];
    int64_t size = j->channels / s->a->groups;
    for (int64_t g = 0; g < s->a->groups; g++) {
        double sum = 0, square = 0, count = (double)(size * j->pixels);
        for (int64_t t = 0; t < j->blocks; t++)
            for (int64_t c = g * size; c < (g + 1) * size; c++) {
                sum += j->sums[2 * t * j->channels + c];
                square += j->sums[(2 * t + 1) * j->channels + c];
            }
        double mean = sum / count, variance = square / count - mean * mean;
        double factor = 1 / sqrt((variance > 0 ? variance : 0) + s->a->eps);
        for (int64_t c = g * size; c < (g + 1) * size; c++) {
            double gain = factor * (gamma ? (double)gamma[c] : 1);
            j->gain[c] = (float)gain;
            j->shift[c] = (float)((beta ? (double)beta[c] : 0) - mean * gain);
        }
    }
}

KW__CLONES static void apply_pixels(void *argument, int64_t from, int64_t to)
{
    const struct groupnorm *j = argument;
    const struct kw__cpu_step *s = j->step;
    bool silu = s->a->activation == KW__ACT_SILU;
    float in[KW__PIECE], out[KW__PIECE];
    for (int64_t p = from; p < to; p++)
        for (int64_t c = 0; c < j->channels; c += KW__PIECE) {
            int64_t n = j->channels - c < KW__PIECE ? j->channels - c : KW__PIECE;
            int64_t at = (j->first + p) * j->channels + c;
            const float *x = kw__load(s->in_type[0], s->x[0], at, n, in);
            float *y = kw__target(s->out_type[0], s->y[0], at, out);
            KW__EACH for (int64_t i = 0; i < n; i++) y[i] = x[i] * j->gain[c + i] + j->shift[c + i];
            if (silu) KW__EACH for (int64_t i = 0; i < n; i++) y[i] = kw__silu(y[i]);
            kw__store(s->out_type[0], s->y[0], at, n, y);
        }
}

static void run_groupnorm(struct kw__cpu_plan *plan, struct kw__cpu_step *step)
{
    struct groupnorm *j = step->kernel;
    int64_t grain = 1 + 16384 / j->channels;
    j->sums = step->scratch;
    j->gain = (float *)(j->sums + j->blocks * 2 * j->channels);
    j->shift = j->gain + j->channels;
    for (int64_t unit = 0; unit < j->units; unit++) {
        j->first = unit * j->pixels;
        kw__cpu_parallel(plan->device, j->blocks, 1, sum_pixels, j);
        solve_groups(j);
        kw__cpu_parallel(plan->device, j->pixels, grain, apply_pixels, j);
    }
}

kw_status kw__cpu_compile_groupnorm(struct kw__cpu_plan *plan, struct kw__cpu_step *step, kw_error *err)
{
    struct groupnorm *j = kw__arena_alloc(&plan->arena, 1, sizeof *j);
    if (!j) return kw__fail_memory(err);
    const int64_t *d = step->in[0]->dim;
    *j = (struct groupnorm){.step = step, .channels = d[1]};
    j->units = step->a->per_frame ? d[0] * d[2] : d[0];
    j->pixels = d[0] * d[2] * d[3] * d[4] / j->units;
    enum { MOST_BLOCKS = 64 };
    j->blocks = 1 + j->pixels * j->channels / 65536;
    if (j->blocks > MOST_BLOCKS) j->blocks = MOST_BLOCKS;
    step->kernel = j;
    step->run = run_groupnorm;
    step->scratch_bytes = scratch_bytes(j);
    plan->overwrite[step->op->output[0]] = 1u;
    return KW_OK;
}
