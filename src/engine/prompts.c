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

/* Rows of the text encoder's embedding, 0 when it has none. */
static int64_t find_vocabulary(const struct kw__program *program)
{
    for (int s = 0; s < program->num_stages; s++)
        for (int p = 0; p < program->stages[s].num_phases; p++) {
            const struct kw__graph *g = program->stages[s].phases[p].graph;
            for (size_t i = 0; i < g->num_ops; i++)
                if (g->ops[i].code == KW__EMBEDDING) return g->values[g->ops[i].input[1]].dim[0];
        }
    return 0;
}

static kw_status vocabulary_of(const kw_model *model, const kw_effective *request, int64_t *out,
                               kw_error *err)
{
    const struct kw__dtypes dtypes = KW__ALL_F32;
    struct kw__program *program;
    kw_status status = kw__lower(model, request, &dtypes, &program, err);
    if (status) return status;
    *out = find_vocabulary(program);
    kw__program_free(program);
    if (*out >= 4) return KW_OK;
    return kw__fail(err, KW_ERROR_FORMAT, "%s: the text encoder's vocabulary has %d entries", model->folder,
                    (int)*out);
}

/* Opens FOLDER/tokenizer with spiece.model or vocab.json; *out stays NULL when there is neither. A file that
 * is there but cannot be read is the tokenizer's to report. */
static kw_status open_in(const char *folder, int64_t vocabulary, struct kw__tokenizer **out, kw_error *err)
{
    static const char *const files[] = {"/spiece.model", "/vocab.json"};
    char *in = kw__text("%s/tokenizer", folder);
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

static kw_status open_tokenizer(const kw_model *model, const char *weights, int64_t vocabulary,
                                struct kw__prompts *out, kw_error *err)
{
    kw_status status = is_random(weights) ? KW_OK : open_in(weights, vocabulary, &out->tokenizer, err);
    if (!status && !out->tokenizer) status = open_in(model->folder, vocabulary, &out->tokenizer, err);
    if (status || out->tokenizer) return status;
    struct stat info;
    if (!is_random(weights) && (stat(weights, &info) != 0 || !S_ISDIR(info.st_mode)))
        return kw__fail(err, KW_ERROR_NOT_FOUND,
                        "there is no folder %s with weights; with \"random\" none is needed", weights);
    if (!is_random(weights))
        return kw__fail(
            err, KW_ERROR_FORMAT,
            "neither %s nor %s has tokenizer/spiece.model or vocab.json; copy the checkpoint's folder tokenizer",
            weights, model->folder);
    snprintf(
        out->warning, sizeof out->warning,
        "no tokenizer/spiece.model or vocab.json: each byte of a prompt is a token, about five times as many as "
        "the model's own tokenizer would make");
    return kw__tokenizer_open_bytes(vocabulary, &out->tokenizer, err);
}

static kw_status encode(const struct kw__prompts *p, const kw_model *model, const char *what,
                        const char *text, size_t width, struct kw__encoded_prompt *out, kw_error *err)
{
    out->ids = calloc(width, sizeof *out->ids);
    if (!out->ids) return kw__fail_memory(err);
    return kw__prompt_encode(p->tokenizer, what, text ? text : "", model->family->cleans_prompts, width,
                             out->ids, &out->count, &out->whole, out->warning, sizeof out->warning, err);
}

kw_status kw__prompts_open(const kw_model *model, const kw_effective *request, const char *weights,
                           const char *prompt, const char *negative_prompt, struct kw__prompts *out,
                           kw_error *err)
{
    int64_t vocabulary = 0;
    *out = (struct kw__prompts){.count = (int)request->guidance_passes};
    kw_status status = vocabulary_of(model, request, &vocabulary, err);
    if (!status) status = open_tokenizer(model, weights, vocabulary, out, err);
    size_t width = (size_t)request->text_tokens;
    if (!status) status = encode(out, model, "the prompt", prompt, width, &out->prompts[0], err);
    if (!status && out->count > 1)
        status = encode(out, model, "the negative prompt", negative_prompt, width, &out->prompts[1], err);
    if (status) kw__prompts_close(out);
    return status;
}

void kw__prompts_close(struct kw__prompts *p)
{
    kw__tokenizer_close(p->tokenizer);
    for (int i = 0; i < 2; i++) free(p->prompts[i].ids);
    *p = (struct kw__prompts){0};
}
