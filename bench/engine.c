/* The engine on WAN2.1-1.3B at 256x256, 17 frames: one transformer forward and the VAE decode in bf16
 * (f32 without AVX512_BF16), with weights that are constants, against the rate that oneDNN's matrix
 * product of 2048 x 1536 x 1536 reaches in the same run. FLOPs are those of the reference graph.
 *
 *     bench/engine [WIDTH HEIGHT FRAMES [f32]] */
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "engine/run.h"
#include "graph/count.h"
#include "graph/rewrite.h"
#include "graph/stack.h"
#include "model/family.h"

static void stop(const char *what)
{
    fprintf(stderr, "engine: %s\n", what);
    exit(1);
}

/* ---- The yardstick -------------------------------------------------------------------------------- */

/* GFLOP/s of oneDNN on packed weights, the best of some. */
static double matmul_rate(dnnl_data_type_t type, int64_t m, int64_t n, int64_t k)
{
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t p;
    dnnl_memory_t mx, mw, my;
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) || dnnl_stream_create(&stream, engine, 0) ||
        dnnl_memory_desc_init_by_tag(&x, 2, (dnnl_dims_t){m, k}, type, dnnl_ab) ||
        dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){k, n}, type, dnnl_format_tag_any) ||
        dnnl_memory_desc_init_by_tag(&y, 2, (dnnl_dims_t){m, n}, type, dnnl_ab) ||
        dnnl_matmul_desc_init(&desc, &x, &w, NULL, &y) ||
        dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL) || dnnl_primitive_create(&p, pd))
        return 0;
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    if (dnnl_memory_create(&mx, &x, engine, DNNL_MEMORY_ALLOCATE) ||
        dnnl_memory_create(&mw, packed, engine, DNNL_MEMORY_ALLOCATE) ||
        dnnl_memory_create(&my, &y, engine, DNNL_MEMORY_ALLOCATE))
        return 0;
    void *data;
    dnnl_memory_get_data_handle(mx, &data);
    memset(data, 0, dnnl_memory_desc_get_size(&x));
    dnnl_memory_get_data_handle(mw, &data);
    memset(data, 0, dnnl_memory_desc_get_size(packed));
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, mx}, {DNNL_ARG_WEIGHTS, mw}, {DNNL_ARG_DST, my}};
    double best = 1e9;
    for (int i = 0; i < 30; i++) {
        double t = kw__monotonic_s();
        if (dnnl_primitive_execute(p, stream, 3, args) || dnnl_stream_wait(stream)) return 0;
        t = kw__monotonic_s() - t;
        if (t < best) best = t;
    }
    dnnl_memory_destroy(mx);
    dnnl_memory_destroy(mw);
    dnnl_memory_destroy(my);
    dnnl_primitive_destroy(p);
    dnnl_primitive_desc_destroy(pd);
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    return 2e-9 * (double)m * (double)n * (double)k / best;
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
            printf("    %-20s %6zu calls %9.2f ms %5.1f %% %8.0f GFLOP/s\n", kw__op_info(c)->name, p->calls[c],
                   1e3 * p->seconds[c], 100 * p->seconds[c] / sum, 1e-9 * p->flop[c] / p->seconds[c]);
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

static void bench_stage(struct kw__run *run, const char *stage, double flop, double yardstick,
                        struct profile *profile, int repeats)
{
    kw_error err;
    struct kw__weights weights;
    kw_error *e = &err;
    if (kw__weights_open("random:0:constant", kw__run_program(run), &weights, e) ||
        kw__run_prepare(run, stage, &weights, e))
        stop(err.message);
    kw__weights_close(&weights);
    double best = 1e9;
    struct profile fastest = {0};
    for (int i = 0; i < repeats; i++) {
        kw__run_restart(run);
        *profile = (struct profile){.last = kw__monotonic_s()};
        double t = profile->last;
        if (kw__run_stage(run, stage, e)) stop(err.message);
        t = kw__monotonic_s() - t;
        if (t < best) {
            best = t;
            fastest = *profile;
        }
    }
    printf("%s: %.3f s, %.2f TFLOP, %.0f GFLOP/s, %.1f %% of the matrix product's rate\n", stage, best,
           1e-12 * flop, 1e-9 * flop / best, 1e-7 * flop / best / yardstick);
    print_profile(&fastest);
}

int main(int argc, char **argv)
{
    kw_catalog *catalog;
    kw_model *model;
    kw_error err;
    kw_request request = KW_REQUEST_INIT;
    request.width = argc > 3 ? atoi(argv[1]) : 256;
    request.height = argc > 3 ? atoi(argv[2]) : 256;
    request.num_frames = argc > 3 ? atoi(argv[3]) : 17;
    request.num_inference_steps = 1;
    request.guidance_scale = 1;
    kw_effective r;
    if (kw_catalog_open(getenv("KINOWATT_DATA") ? NULL : "data", &catalog, &err) ||
        kw_model_open(catalog, "wan2.1-t2v-1.3b", &model, &err) ||
        kw_request_resolve(model, &request, &r, &err))
        stop(err.message);
    bool single = argc > 4 && strcmp(argv[4], "f32") == 0;
    struct kw__dtypes dtypes = {KW__BF16, KW__BF16, KW__F32, KW__BF16}, f32 = {KW__F32, KW__F32, KW__F32, KW__F32};
    if (!matmul_rate(dnnl_bf16, 16, 16, 16)) single = true;
    if (single) dtypes = f32;
    struct kw__program *reference = lower(catalog, model, &r, &dtypes, false);
    struct kw__program *program = lower(catalog, model, &r, &dtypes, true);
    struct profile profile = {0};
    struct kw__run_options options = {.user = &profile, .after = after};
    struct kw__run *run;
    double t = kw__monotonic_s();
    if (kw__run_open(&kw__backend_cpu, &options, program, &run, &err)) stop(err.message);
    struct kw__run_memory m = kw__run_memory(run);
    printf("compiled in %.2f s; weights %.2f GiB, states %.3f GiB, workspace %.3f GiB\n", kw__monotonic_s() - t,
           m.weights / 0x1p30, m.states / 0x1p30, m.workspace / 0x1p30);
    double rate = matmul_rate(single ? dnnl_f32 : dnnl_bf16, 2048, 1536, 1536);
    printf("oneDNN %s matrix product 2048 x 1536 x 1536: %.0f GFLOP/s\n", single ? "f32" : "bf16", rate);
    bench_stage(run, "denoise", stage_flop(reference, "denoise"), rate, &profile, 3);
    bench_stage(run, "decode", stage_flop(reference, "decode"), rate, &profile, 2);
    kw__run_close(run);
    kw__program_free(program);
    kw__program_free(reference);
    kw_model_close(model);
    kw_catalog_close(catalog);
    return 0;
}
