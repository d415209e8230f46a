/* Prompts to token ids: which tokenizer, and how many tokens. */
#include "engine/prompts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "model/catalog.h"

static bool is_random(const char *weights)
{
    return strncmp(weights, "random", 6) == 0 && (weights[6] == '\0' || weights[6] == ':');
}

/* What a text encoder reads: so many ids, which are rows of a table of so many. */
struct reading {
    int64_t vocabulary, width;
    bool template; /* after those of a template, which are made of the same table */
};

static const char *const inputs[KW__TEXT_ENCODERS] = {"ids", "ids_2"};
static const char *const folders[KW__TEXT_ENCODERS] = {"tokenizer", "tokenizer_2"};

/* Vocabulary 0: there is no such encoder. */
static struct reading find_reading(const struct kw__program *program, const char *input)
{
    struct reading out = {0, 0, false};
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t i = 0; i < g->num_ops; i++) {
                const struct kw__value *ids = &g->values[g->ops[i].input[0]];
                if (g->ops[i].code != KW__EMBEDDING) continue;
                out.template |= strcmp(ids->name, "template") == 0;
                if (strcmp(ids->name, input) != 0) continue;
                out.vocabulary = g->values[g->ops[i].input[1]].dim[0];
                out.width = ids->dim[1];
            }
        }
    return out;
}

static kw_status find_readings(const kw_model *model, const kw_effective *request,
                               struct reading out[KW__TEXT_ENCODERS], int *count, kw_error *err)
{
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program;
    kw_status status = kw__lower(model, request, &dtypes, &program, err);
    if (status) return status;
    for (int i = 0; i < KW__TEXT_ENCODERS; i++) out[i] = find_reading(program, inputs[i]);
    kw__program_free(program);
    *count = out[1].vocabulary ? 2 : 1;
    for (int i = 0; i < *count; i++)
        if (out[i].vocabulary < 4)
            return kw__fail(err, KW_ERROR_FORMAT, "%s: the text encoder's vocabulary has %d entries",
                            model->folder, (int)out[i].vocabulary);
    return KW_OK;
}

/* Opens FOLDER/NAME with spiece.model or vocab.json; *out stays NULL when there is neither. A file that is
 * there but cannot be read is the tokenizer's to report. */
static kw_status open_in(const char *folder, const char *name, int64_t vocabulary, struct kw__tokenizer **out,
                         kw_error *err)
{
    static const char *const files[] = {"/spiece.model", "/vocab.json"};
    char *in = kw__text("%s/%s", folder, name);
    kw_status status = in ? KW_OK : kw__fail_memory(err);
    for (int i = 0; !status && !*out && i < 2; i++) {
        char *path = kw__text("%s%s", in, files[i]);
        if (!path)
            status = kw__fail_memory(err);
        else if (access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR))
            status = i == 0 ? kw__tokenizer_open(path, vocabulary, out, err)
                            : kw__tokenizer_open_bpe(in, vocabulary, out, err);
        free(path);
    }
    free(in);
    return status;
}

/* Llama's tokenizer is none that is known; where random weights do without any, bytes stand in. */
static kw_status open_tokenizer(const kw_model *model, const char *weights, const char *name,
                                const struct reading *reading, struct kw__tokenizer **out, char warning[256],
                                kw_error *err)
{
    int64_t vocabulary = reading->vocabulary;
    bool random = is_random(weights), known = !reading->template;
    kw_status status = random || !known ? KW_OK : open_in(weights, name, vocabulary, out, err);
    if (!status && !*out && known) status = open_in(model->folder, name, vocabulary, out, err);
    if (status || *out) return status;
    struct stat info;
    if (!random && (stat(weights, &info) != 0 || !S_ISDIR(info.st_mode)))
        return kw__fail(err, KW_ERROR_NOT_FOUND,
                        "there is no folder %s with weights; with \"random\" none is needed", weights);
    if (!random && !known)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s reads a prompt as Llama's tokenizer cuts it (tokenizer.json), which is not "
                        "supported yet; leave --weights out for random ones, which need none",
                        model->family->pipeline);
    if (!random)
        return kw__fail(
            err, KW_ERROR_FORMAT,
            "neither %s nor %s has %s/spiece.model or vocab.json; copy the checkpoint's folder %s", weights,
            model->folder, name, name);
    if (!*warning)
        snprintf(
            warning, 256,
            "%s: each byte of a prompt is a token, about five times as many as the model's own tokenizer "
            "would make",
            known ? "no tokenizer/spiece.model or vocab.json" : "Llama's tokenizer is not supported yet");
    return kw__tokenizer_open_bytes(vocabulary, out, err);
}

static kw_status encode(const struct kw__tokenizer *tokenizer, const kw_model *model, const char *what,
                        const char *text, size_t width, struct kw__encoded_prompt *out, kw_error *err)
{
    out->ids = calloc(width, sizeof *out->ids);
    if (!out->ids) return kw__fail_memory(err);
    return kw__prompt_encode(tokenizer, what, text ? text : "", model->family->cleans_prompts, width,
                             out->ids, &out->count, &out->whole, out->warning, sizeof out->warning, err);
}

kw_status kw__prompts_open(const kw_model *model, const kw_effective *request, const char *weights,
                           const char *prompt, const char *negative_prompt, struct kw__prompts *out,
                           kw_error *err)
{
    static const char *const names[KW__TEXT_ENCODERS][2] = {
        {"the prompt", "the negative prompt"},
        {"the prompt for the second text encoder", "the negative prompt for the second text encoder"}};
    const char *const texts[] = {prompt, negative_prompt};
    struct reading readings[KW__TEXT_ENCODERS];
    *out = (struct kw__prompts){.count = (int)request->guidance_passes};
    kw_status status = find_readings(model, request, readings, &out->encoders, err);
    if (!status) out->vocabulary = readings[0].vocabulary;
    for (int e = 0; !status && e < out->encoders; e++) {
        size_t width = (size_t)readings[e].width;
        status =
            open_tokenizer(model, weights, folders[e], &readings[e], &out->tokenizers[e], out->warning, err);
        const char *const *what = names[e];
        for (int i = 0; !status && i < out->count; i++)
            status = encode(out->tokenizers[e], model, what[i], texts[i], width, &out->prompts[e][i], err);
    }
    if (status) kw__prompts_close(out);
    return status;
}

void kw__prompts_close(struct kw__prompts *p)
{
    for (int e = 0; e < KW__TEXT_ENCODERS; e++) {
        kw__tokenizer_close(p->tokenizers[e]);
        for (int i = 0; i < 2; i++) free(p->prompts[e][i].ids);
    }
    *p = (struct kw__prompts){0};
}
