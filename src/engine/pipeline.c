/* The pipeline; pipeline.h is the manual. What a run measures is in measure.c, prompts in prompts.c. */
#include "engine/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/time.h"
#include "engine/machine.h"
#include "engine/measure.h"
#include "engine/prompts.h"
#include "engine/random.h"
#include "graph/rewrite.h"
#include "graph/stack.h"
#include "model/family.h"

struct kw__pipeline {
    struct kw__pipeline_options options;
    struct kw__pipeline_info info;
    struct kw__stack *stack;
    struct kw__program *program;
    struct kw__exec *run;
    struct kw__weights weights;
    struct kw__prompts prompts;
    struct kw__measure measure;
    size_t latent_count, frame_count;
    /* looking for values that are not finite */
    bool every_value;
    bool not_finite;      /* one was found */
    char culprit[384];    /* which */
    double read, to_read; /* elements of weights, for progress */
};

/* ---- Opening --------------------------------------------------------------------------------------- */

static bool on_progress(void *user, const struct kw__progress *at);
static void on_stage(void *user, const char *stage, bool begins);
static bool after_op(void *user, struct kw__plan *plan, size_t i);

static kw_status lower(struct kw__pipeline *p, const kw_model *model, kw_error *err)
{
    kw_status status = kw__lower(model, &p->info.request, &p->info.dtypes, &p->program, err);
    for (size_t i = 0; !status && i < p->stack->num_rewrites; i++)
        status = kw__rewrite_apply(p->program, p->stack->rewrites[i], err);
    return status;
}

static kw_status check_memory(struct kw__pipeline *p, kw_error *err)
{
    struct kw__cpu_need *m = &p->info.memory;
    kw_status status = kw__cpu_need(p->program, p->stack, m, err);
    if (status) return status;
    struct kw__machine_memory machine = kw__machine_memory();
    double limit = p->options.memory_limit_bytes > 0 ? p->options.memory_limit_bytes : machine.available;
    p->info.needed_bytes = kw__cpu_need_sum(m).value;
    if (!(p->info.needed_bytes > limit)) return KW_OK;
    const char *advice = p->info.needed_bytes < machine.installed
                             ? "free some or lift its limits, or ask for fewer frames or a smaller size"
                         : m->weights > limit ? "take a smaller model, or a machine with more memory"
                                              : "ask for fewer frames or a smaller size";
    return kw__fail(
        err, KW_ERROR_MEMORY,
        "this needs %.2f GiB of memory (weights %.2f, states %.2f, workspace %.2f, frames %.2f, kernels %.2f) "
        "and there are %.2f GiB available of %.2f GiB; %s",
        p->info.needed_bytes / 0x1p30, m->weights / 0x1p30, m->states / 0x1p30, m->workspace / 0x1p30,
        m->buffers / 0x1p30, (m->library + m->process) / 0x1p30, limit / 0x1p30, machine.installed / 0x1p30,
        advice);
}

static kw_status compile(struct kw__pipeline *p, const kw_catalog *catalog, const kw_model *model,
                         const char *stack, kw_error *err)
{
    const struct kw__exec_options options = {
        .device = p->options.device,
        .user = p,
        .progress = on_progress,
        .stage = on_stage,
        .after = after_op,
    };
    kw__program_free(p->program);
    p->program = NULL;
    kw__stack_close(p->stack);
    p->stack = NULL;
    kw_status status = kw__stack_open(catalog, stack, &p->stack, err);
    if (status) return status;
    p->info.stack = p->stack->name;
    p->info.dtypes = *kw__stack_dtypes(p->stack, model->family->pipeline);
    status = lower(p, model, err);
    if (!status) status = check_memory(p, err);
    return status ? status : kw__exec_open(p->options.backend, &options, p->program, &p->run, err);
}

static kw_status compile_best(struct kw__pipeline *p, const kw_catalog *catalog, const kw_model *model,
                              kw_error *err)
{
    if (p->options.stack) return compile(p, catalog, model, p->options.stack, err);
    kw_status status = compile(p, catalog, model, "kinowatt-cpu", err);
    return status == KW_ERROR_UNSUPPORTED ? compile(p, catalog, model, "kinowatt-cpu-f32", err) : status;
}

static void take_prompts(struct kw__pipeline *p)
{
    struct kw__pipeline_info *info = &p->info;
    info->tokenizer = kw__tokenizer_name(p->prompts.tokenizers[0]);
    for (int e = 0; e < p->prompts.encoders; e++)
        for (int i = 0; i < p->prompts.count; i++) {
            const struct kw__encoded_prompt *prompt = &p->prompts.prompts[e][i];
            if (e == 0) info->tokens[i] = prompt->count;
            if (e == 0) info->whole_tokens[i] = prompt->whole;
            if (*prompt->warning) info->warnings[info->num_warnings++] = prompt->warning;
        }
    if (info->request.guidance_passes == 1 && p->options.negative_prompt && *p->options.negative_prompt)
        info->warnings[info->num_warnings++] =
            "the negative prompt is not read: guidance takes no second pass here";
    if (*p->prompts.warning) info->warnings[info->num_warnings++] = p->prompts.warning;
}

static kw_status open_parts(struct kw__pipeline *p, const kw_catalog *catalog, const kw_model *model,
                            kw_request request, kw_error *err)
{
    const struct kw__pipeline_options *o = &p->options;
    kw_status status = kw_request_resolve(model, &request, &p->info.request, err);
    if (!status)
        status = kw__prompts_open(model, &p->info.request, o->weights, o->prompt, o->negative_prompt,
                                  &p->prompts, err);
    if (status) return status;
    take_prompts(p);
    request.prompt_tokens = (int64_t)p->info.tokens[0];
    if (p->prompts.count > 1) request.negative_tokens = (int64_t)p->info.tokens[1];
    status = kw_request_resolve(model, &request, &p->info.request, err);
    if (!status) status = compile_best(p, catalog, model, err);
    if (status) return status;
    const kw_effective *r = &p->info.request;
    p->latent_count =
        (size_t)(r->batch_size * r->latent_channels * r->latent_frames * r->latent_height * r->latent_width);
    p->frame_count = (size_t)(r->batch_size * r->num_frames * r->height * r->width * 3);
    status = kw__weights_open(o->weights, p->program, &p->weights, err);
    if (!status) p->info.weights = kw__weights_label(&p->weights);
    return status;
}

kw_status kw__pipeline_open(const kw_catalog *catalog, const kw_model *model, const kw_request *request,
                            const struct kw__pipeline_options *options, struct kw__pipeline **out,
                            kw_error *err)
{
    kw__error_clear(err);
    struct kw__pipeline *p = calloc(1, sizeof *p);
    if (!p) return kw__fail_memory(err);
    p->options = *options;
    if (!p->options.backend) p->options.backend = &kw__backend_cpu;
    if (!p->options.weights) p->options.weights = "random";
    p->info.backend = p->options.backend->name;
    p->info.load_s = NAN;
    p->every_value = options->check;
    kw_status status = open_parts(p, catalog, model, *request, err);
    if (status)
        kw__pipeline_close(p);
    else
        *out = p;
    return status;
}

void kw__pipeline_close(struct kw__pipeline *p)
{
    if (!p) return;
    kw__exec_close(p->run);
    if (p->weights.self) kw__weights_close(&p->weights);
    kw__prompts_close(&p->prompts);
    kw__program_free(p->program);
    kw__stack_close(p->stack);
    free(p);
}

struct kw__pipeline_info kw__pipeline_info(const struct kw__pipeline *p)
{
    return p->info;
}

/* ---- What the runner reports --------------------------------------------------------------------------- */

static bool on_progress(void *user, const struct kw__progress *at)
{
    struct kw__pipeline *p = user;
    return !p->options.progress || p->options.progress(p->options.user, at);
}

static void on_stage(void *user, const char *stage, bool begins)
{
    struct kw__pipeline *p = user;
    if (begins)
        kw__measure_begin(&p->measure, stage);
    else
        kw__measure_end(&p->measure, stage);
}

/* Values that are looked at in every run: what the prompts, a step and the decoder give. */
static bool is_result(const struct kw__graph *g, int v)
{
    for (size_t s = 1; s < g->num_values; s++) {
        if (g->values[s].kind != KW__STATE || g->values[s].next != v) continue;
        const char *name = g->values[s].name;
        if (strncmp(name, "latents", 7) == 0 || strcmp(name, "frames") == 0 || strncmp(name, "text.", 5) == 0)
            return true;
    }
    return false;
}

/* The last tensor of the checkpoint on the way to an operator, which tells the block it stands in: one of its
 * own, else of what its operands come from. NULL: there is none. */
static const struct kw__tensor *nearest_tensor(const struct kw__graph *g, const struct kw__op *op)
{
    for (int depth = 0; op && depth < 64; depth++) {
        const struct kw__op *before = NULL;
        for (int k = 0; k < op->num_inputs; k++) {
            const struct kw__value *x = &g->values[op->input[k]];
            if (op->input[k] && x->kind == KW__WEIGHT && x->num_tensors)
                return &g->program->tensors[x->tensor[0]];
            if (op->input[k] && x->producer >= 0 && (!before || &g->ops[x->producer] > before))
                before = &g->ops[x->producer];
        }
        op = before;
    }
    return NULL;
}

static bool after_op(void *user, struct kw__plan *plan, size_t i)
{
    struct kw__pipeline *p = user;
    const struct kw__graph *g = plan->phase->graph;
    const struct kw__op *op = &g->ops[i];
    for (int k = 0; k < op->num_outputs; k++) {
        int v = op->output[k];
        if (plan->memory.storage[v] < 0 || !(p->every_value || is_result(g, v))) continue;
        if (p->options.backend->finite(plan, v)) continue;
        p->not_finite = true;
        const struct kw__tensor *tensor = nearest_tensor(g, op);
        snprintf(p->culprit, sizeof p->culprit, "operator %s of %s (value %s of %s; at %s %s)",
                 kw__op_info(op->code)->name, op->component, g->values[v].name, plan->phase->name,
                 tensor ? tensor->component : "no tensor", tensor ? tensor->name : "before it");
        return false;
    }
    return true;
}

/* ---- Loading --------------------------------------------------------------------------------------- */

static kw_status get_weight(void *self, const struct kw__tensor *tensor, enum kw__dtype wanted, void *out,
                            kw_error *err)
{
    struct kw__pipeline *p = self;
    const struct kw__progress at = {
        .stage = "weights", .phase = tensor->component, .done = p->to_read > 0 ? p->read / p->to_read : 0};
    if (!on_progress(p, &at)) return kw__fail(err, KW_ERROR_CANCELLED, "stopped while reading weights");
    double elements = 1;
    for (int i = 0; i < tensor->ndim; i++) elements *= (double)tensor->dim[i];
    p->read += elements;
    return p->weights.get(p->weights.self, tensor, wanted, out, err);
}

kw_status kw__pipeline_load(struct kw__pipeline *p, kw_error *err)
{
    const struct kw__weights counted = {p, get_weight};
    double start = kw__monotonic_s();
    p->read = p->to_read = 0;
    for (size_t i = 0; i < p->program->num_tensors; i++) {
        double elements = 1;
        for (int k = 0; k < p->program->tensors[i].ndim; k++)
            elements *= (double)p->program->tensors[i].dim[k];
        p->to_read += elements;
    }
    kw_status status = kw__exec_prepare(p->run, NULL, &counted, err);
    if (!status) p->info.load_s = kw__monotonic_s() - start;
    return status;
}

/* ---- Running --------------------------------------------------------------------------------------- */

/* Element i of an input of a row of the batch: ids of the prompt or its length, of each text encoder. The
 * tokens of a template stand in for it: no tokenizer that makes its own is known. NaN: of no prompt. */
static double prompt_element(const struct kw__pipeline *p, int pass, const char *name, size_t i)
{
    static const char *const ids[] = {"ids", "ids_2"}, *const lengths[] = {"length", "length_2"};
    for (int e = 0; e < p->prompts.encoders; e++) {
        const struct kw__encoded_prompt *prompt = &p->prompts.prompts[e][pass];
        if (strcmp(name, ids[e]) == 0) return prompt->ids[i];
        if (strcmp(name, lengths[e]) == 0) return (double)prompt->count;
    }
    return strcmp(name, "template") == 0 ? (double)((int64_t)i % p->prompts.vocabulary) : (double)NAN;
}

/* What a phase reads of a prompt: as much as the graph has, the same for the whole batch. */
static kw_status write_prompt(struct kw__pipeline *p, const struct kw__phase *phase, int pass, kw_error *err)
{
    const struct kw__graph *g = phase->graph;
    kw_status status = KW_OK;
    for (size_t v = 1; !status && v < g->num_values; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind != KW__INPUT) continue;
        size_t count = (size_t)kw__elements(value), width = count / (size_t)value->dim[0];
        if (!count || isnan(prompt_element(p, pass, value->name, 0))) continue;
        float *data = malloc((count ? count : 1) * sizeof *data);
        char name[64];
        if (!data) return kw__fail_memory(err);
        for (size_t i = 0; i < count; i++) data[i] = (float)prompt_element(p, pass, value->name, i % width);
        snprintf(name, sizeof name, "%s/%s", phase->name, value->name);
        status = kw__exec_write(p->run, name, data, count, err);
        free(data);
    }
    return status;
}

/* Inputs whose name begins with "noise" are that, a stream of their own for each name. */
static kw_status write_noise(struct kw__pipeline *p, const struct kw__graph *g, uint64_t seed, kw_error *err)
{
    kw_status status = KW_OK;
    for (size_t v = 1; !status && v < g->num_values; v++) {
        const struct kw__value *value = &g->values[v];
        if (value->kind != KW__INPUT || strncmp(value->name, "noise", 5) != 0) continue;
        size_t count = (size_t)kw__elements(value);
        float *data = malloc((count ? count : 1) * sizeof *data);
        if (!data) return kw__fail_memory(err);
        const struct kw__random stream = kw__random_stream("noise", value->name, seed);
        kw__random_fill(&stream, 0.0f, KW__RANDOM_UNIT, 0, count, data);
        status = kw__exec_write(p->run, value->name, data, count, err);
        free(data);
    }
    return status;
}

static kw_status write_inputs(struct kw__pipeline *p, uint64_t seed, float *latents, kw_error *err)
{
    static const char *const phases[2] = {"prompt", "negative_prompt"};
    kw_status status = KW_OK;
    for (int s = 0; s < p->program->num_stages; s++)
        for (int i = 0; !status && i < p->program->stages[s].num_phases; i++)
            for (int k = 0; !status && k < p->prompts.count; k++)
                if (strcmp(p->program->stages[s].phases[i].name, phases[k]) == 0)
                    status = write_prompt(p, &p->program->stages[s].phases[i], k, err);
    for (int s = 0; s < p->program->num_stages; s++)
        for (int i = 0; !status && i < p->program->stages[s].num_phases; i++)
            status = write_noise(p, p->program->stages[s].phases[i].graph, seed, err);
    const struct kw__random stream = kw__random_stream("noise", "latents", seed);
    kw__random_fill(&stream, 0.0f, KW__RANDOM_UNIT, 0, p->latent_count, latents);
    return status ? status : kw__exec_write(p->run, "latents", latents, p->latent_count, err);
}

static kw_status deliver_latents(struct kw__pipeline *p, float *latents, kw_error *err)
{
    const kw_effective *r = &p->info.request;
    const int64_t dim[5] = {r->batch_size, r->latent_channels, r->latent_frames, r->latent_height,
                            r->latent_width};
    if (!p->options.latents) return KW_OK;
    kw_status status = kw__exec_read(p->run, "latents", latents, p->latent_count, err);
    return status ? status : p->options.latents(p->options.user, dim, latents, err);
}

static kw_status run_stages(struct kw__pipeline *p, uint64_t seed, float *latents, bool deliver,
                            kw_error *err)
{
    kw__exec_restart(p->run);
    p->not_finite = false;
    kw_status status = write_inputs(p, seed, latents, err);
    for (int s = 0; !status && s < p->program->num_stages; s++) {
        const char *name = p->program->stages[s].name;
        if (deliver && strcmp(name, "decode") == 0) status = deliver_latents(p, latents, err);
        if (!status) status = kw__exec_stage(p->run, name, err);
    }
    return status;
}

/* After a value was not finite: which operator made the first. */
static kw_status name_culprit(struct kw__pipeline *p, uint64_t seed, float *latents, kw_error *err)
{
    char seen[sizeof p->culprit];
    kw_error again;
    memcpy(seen, p->culprit, sizeof seen);
    if (!p->every_value) {
        if (p->options.note) {
            char text[sizeof seen + 160];
            snprintf(text, sizeof text,
                     "NaN or infinity came out of %s; running again with each operator checked, to name the "
                     "first that made one",
                     seen);
            p->options.note(p->options.user, text);
        }
        p->every_value = true;
        kw_status status = run_stages(p, seed, latents, false, &again);
        p->every_value = p->options.check;
        if (status && !p->not_finite) return kw__fail(err, again.code, "%s", again.message);
    }
    if (!p->not_finite)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s gave NaN or infinity, but not when it ran again: this machine does not compute "
                        "reliably",
                        seen);
    return kw__fail(err, KW_ERROR_FORMAT, "NaN or infinity, first in %s; look at the weights%s", p->culprit,
                    p->info.dtypes.denoiser == KW__F32 ? "" : ", or try --dtype f32");
}

/* In place: element i of bytes lies in front of element i of floats. */
static uint8_t *to_bytes(float *frames, size_t count)
{
    uint8_t *bytes = (uint8_t *)frames;
    for (size_t i = 0; i < count; i++) {
        float x = frames[i];
        bytes[i] = (uint8_t)(x > 0 ? (x < 1 ? lrintf(x * 255) : 255) : 0);
    }
    uint8_t *smaller = realloc(bytes, count);
    return smaller ? smaller : bytes;
}

kw_status kw__pipeline_run(struct kw__pipeline *p, uint64_t seed, struct kw__clip *out, kw_error *err)
{
    float *latents = malloc(p->latent_count * sizeof *latents), *frames = NULL;
    if (!latents) return kw__fail_memory(err);
    kw__measure_open(&p->measure, p->options.meter);
    kw__measure_begin(&p->measure, "generate");
    kw_status status = run_stages(p, seed, latents, true, err);
    kw__measure_end(&p->measure, "generate");
    kw__measure_stop(&p->measure);
    if (status && p->not_finite) status = name_culprit(p, seed, latents, err);
    free(latents);
    if (!status && !(frames = malloc(p->frame_count * sizeof *frames))) status = kw__fail_memory(err);
    if (!status) status = kw__exec_read(p->run, "frames", frames, p->frame_count, err);
    if (status) {
        free(frames);
        return status;
    }
    *out = (struct kw__clip){.peak_anonymous_bytes =
                                 fmax(p->measure.peak_anonymous_bytes, kw__process_memory("RssAnon")),
                             .peak_resident_bytes = kw__process_memory("VmHWM")};
    out->frames = to_bytes(frames, p->frame_count);
    kw__measure_results(&p->measure, out);
    return KW_OK;
}

void kw__clip_free(struct kw__clip *clip)
{
    free(clip->frames);
    clip->frames = NULL;
}
