/* The prompts of a run as token ids. */
#ifndef KW_ENGINE_PROMPTS_H
#define KW_ENGINE_PROMPTS_H

#include "model/family.h"
#include "text/tokenizer.h"

struct kw__encoded_prompt {
    int32_t *ids; /* text_tokens of them: the real ones, then padding */
    size_t count, whole;
    char warning[256]; /* of tokens that were dropped; "": none were */
};

struct kw__prompts {
    struct kw__tokenizer *tokenizer;
    int count; /* 2 with guidance */
    struct kw__encoded_prompt prompts[2];
    char warning[256]; /* of the tokenizer; "": none */
};

/* Finds the tokenizer and encodes, prompts cleaned where the pipeline does so. One that is NULL is empty. On
 * failure there is nothing to close. */
kw_status kw__prompts_open(const kw_model *model, const kw_effective *request, const char *weights,
                           const char *prompt, const char *negative_prompt, struct kw__prompts *out,
                           kw_error *err);
void kw__prompts_close(struct kw__prompts *prompts);

#endif
