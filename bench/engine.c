/* The engine on WAN2.1-1.3B at 256x256, 17 frames: one transformer forward and the VAE decode in bf16
 * (f32 without AVX512_BF16), with random numbers in weights and states, against the rate that oneDNN's matrix
 * product of 2048 x 1536 x 1536 reaches in the same run. FLOPs are those of the reference graph.
 *
 *     bench/engine [WIDTH HEIGHT FRAMES [f32]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "engine/exec.h"
#include "engine/random.h"
#include "graph/count.h"
#include "graph/rewrite.h"
#include "graph/stack.h"
#include "model/family.h"
#include "support/yardstick.h"

static void stop(const char *what)
{
    fprintf(stderr, "engine: %s\n", what);
    exit(1);
}

/* ---- Where the time goes ---------------------------------------------------------------------------- */

struct profile {
    double last, seconds[KW__NUM_OPCODES], flop[KW__NUM_OPCODES];
    size_t calls[KW__NUM_OPCODES];
};

static bool after(void *user, struct kw__plan *plan, size_t i)
{
    struct profile *p = user;
    const struct kw__op *op = &plan->phase->graph->ops[i];
    double now = kw__monotonic_s();
    p->seconds[op->code] += now - p->last;
    p->flop[op->code] += kw__op_flop(plan->phase->graph, op);
    p->calls[op->code]++;
    p->last = now;
    return true;
}

static void print_profile(const struct profile *p)
{
    double sum = 0;
    for (int c = 0; c < KW__NUM_OPCODES; c++) sum += p->seconds[c];
    for (int c = 0; c < KW__NUM_OPCODES; c++)
        if (p->seconds[c] > 0.002 * sum)
            printf("    %-20s %6zu calls %9.2f ms %5.1f %% %8.0f GFLOP/s\n", kw__op_info(c)->name,
                   p->calls[c], 1e3 * p->seconds[c], 100 * p->seconds[c] / sum,
                   1e-9 * p->flop[c] / p->seconds[c]);
}

/* ---- The engine ---------------------------------------------------------------------------------------- */

static struct kw__program *lower(const kw_catalog *catalog, const kw_model *model, const kw_effective *r,
                                 const struct kw__dtypes *dtypes, bool rewritten)
{
    struct kw__program *program;
    struct kw__stack *stack;
    kw_error err;
    if (kw__lower(model, r, dtypes, &program, &err) || kw__stack_open(catalog, "kinowatt", &stack, &err))
        stop(err.message);
    for (size_t i = 0; rewritten && i < stack->num_rewrites; i++)
        if (kw__rewrite_apply(program, stack->rewrites[i], &err)) stop(err.message);
    kw__stack_close(stack);
    return program;
}

/* FLOPs of a stage of the reference. */
static double stage_flop(const struct kw__program *program, const char *stage)
{
    struct kw__sums sums = {0};
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; strcmp(program->stages[s].name, stage) == 0 && p < program->stages[s].num_phases; p++)
            kw__graph_flop(program->stages[s].phases[p].graph, NULL,
                           (double)program->stages[s].phases[p].calls, &sums);
    return sums.flop;
}

/* What a stage goes on from: latents and text. */
static void write_states(struct kw__exec *run, const char *stage)
{
    const struct kw__random stream = kw__random_stream("noise", "states", 0);
    const struct kw__program *program = kw__exec_program(run);
    kw_error err;
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; strcmp(program->stages[s].name, stage) == 0 && p < program->stages[s].num_phases;
             p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t v = 1; v < g->num_values; v++) {
                const struct kw__value *state = &g->values[v];
                if (state->kind != KW__STATE ||
                    (strcmp(state->name, "latents") != 0 && strncmp(state->name, "text.", 5) != 0))
                    continue;
                size_t count = (size_t)kw__elements(state);
                float *noise = malloc(count * sizeof *noise);
                if (!noise) stop("no memory");
                kw__random_fill(&stream, 0, KW__RANDOM_UNIT, 0, count, noise);
                if (kw__exec_write(run, state->name, noise, count, &err)) stop(err.message);
                free(noise);
            }
        }
}

static void bench_stage(struct kw__exec *run, const char *stage, double flop, double rate,
                        struct profile *profile, int repeats)
{
    kw_error err;
    struct kw__weights weights;
    kw_error *e = &err;
    if (kw__weights_open("random", kw__exec_program(run), &weights, e) ||
        kw__exec_prepare(run, stage, &weights, e))
        stop(err.message);
    kw__weights_close(&weights);
    double best = 1e9;
    struct profile fastest = {0};
    for (int i = 0; i < repeats; i++) {
        kw__exec_restart(run);
        write_states(run, stage);
        *profile = (struct profile){.last = kw__monotonic_s()};
        double t = profile->last;
        if (kw__exec_stage(run, stage, e)) stop(err.message);
        t = kw__monotonic_s() - t;
        if (t < best) {
            best = t;
            fastest = *profile;
        }
    }
    printf("%s: %.3f s, %.2f TFLOP, %.0f GFLOP/s, %.1f %% of the matrix product's rate\n", stage, best,
           1e-12 * flop, 1e-9 * flop / best, 1e-7 * flop / best / rate);
    print_profile(&fastest);
}

int main(int argc, char **argv)
{
    kw_catalog *catalog;
    kw_model *model = NULL;
    kw_error err;
    kw_request request = KW_REQUEST_INIT;
    request.width = argc > 3 ? strtol(argv[1], NULL, 10) : 256;
    request.height = argc > 3 ? strtol(argv[2], NULL, 10) : 256;
    request.num_frames = argc > 3 ? strtol(argv[3], NULL, 10) : 17;
    request.num_inference_steps = 1;
    request.guidance_scale = 1;
    kw_effective r;
    if (kw_catalog_open(getenv("KINOWATT_DATA") ? NULL : "data", &catalog, &err) ||
        kw_model_open(catalog, "wan2.1-t2v-1.3b", &model, &err) ||
        kw_request_resolve(model, &request, &r, &err))
        stop(err.message);
    bool single = argc > 4 && strcmp(argv[4], "f32") == 0;
    struct kw__dtypes dtypes = {.text_encoder = KW__BF16, .denoiser = KW__BF16, .vae = KW__BF16},
                      f32 = KW__ALL_F32;
    if (yardstick(KW__BF16, 16, 16, 16) <= 0) single = true;
    if (single) dtypes = f32;
    struct kw__program *reference = lower(catalog, model, &r, &dtypes, false);
    struct kw__program *program = lower(catalog, model, &r, &dtypes, true);
    struct profile profile = {0};
    struct kw__exec_options options = {.user = &profile, .after = after};
    struct kw__exec *run;
    double t = kw__monotonic_s();
    if (kw__exec_open(&kw__backend_cpu, &options, program, &run, &err)) stop(err.message);
    struct kw__exec_memory m = kw__exec_memory(run);
    printf("compiled in %.2f s; weights %.2f GiB, states %.3f GiB, workspace %.3f GiB\n",
           kw__monotonic_s() - t, m.weights / 0x1p30, m.states / 0x1p30, m.workspace / 0x1p30);
    double rate = yardstick(single ? KW__F32 : KW__BF16, 2048, 1536, 1536);
    printf("oneDNN %s matrix product 2048 x 1536 x 1536: %.0f GFLOP/s\n", single ? "f32" : "bf16", rate);
    bench_stage(run, "denoise", stage_flop(reference, "denoise"), rate, &profile, 3);
    bench_stage(run, "decode", stage_flop(reference, "decode"), rate, &profile, 2);
    kw__exec_close(run);
    kw__program_free(program);
    kw__program_free(reference);
    kw_model_close(model);
    kw_catalog_close(catalog);
    return 0;
}
