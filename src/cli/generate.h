/* What cmd_generate.c hands to its report. */
#ifndef KW__CLI_GENERATE_H
#define KW__CLI_GENERATE_H

#include "cli/cli.h"
#include "engine/pipeline.h"

struct kw__generate_report {
    const char *model, *device;
    const char *output, *latents; /* the files that were written, NULL: none */
    const char *prompt, *negative_prompt;
    uint64_t seed;
    struct kw__pipeline_info info;
    const struct kw__clip *clip;
    kw_meter *meter;
    const char *meter_name;          /* as --meter has it */
    bool metered[KW_NUM_DEVICES];    /* measured by it when the run began */
    const kw_prediction *prediction; /* NULL: none, because of */
    const char *no_prediction;
    int64_t run_id; /* in the store; 0: not kept */
};

/* The settings and the seed as one line of JSON, for the clip's metadata: nothing in it changes from run to
 * run. The caller frees it; NULL without memory. */
char *kw__generate_comment(const struct kw__generate_report *report);

/* Prints the report as the options ask; returns the exit code. */
int kw__generate_print(const struct kw__generate_report *report, const struct kw__options *options);

#endif
