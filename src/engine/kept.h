/* What a pipeline's run measured, as a run of the store: the same from `generate` and from `sweep`. */
#ifndef KW_ENGINE_KEPT_H
#define KW_ENGINE_KEPT_H

#include "engine/pipeline.h"
#include "store/run.h"

struct kw__kept {
    const char *model, *prompt, *negative_prompt;
    uint64_t seed;
    const struct kw__pipeline_info *info;
    const struct kw__clip *clip;
    kw_meter *meter;
    size_t first_window;    /* of the meter's that may be the run's: how many there were before it */
    const char *meter_name; /* as --meter has it */
};

/* Fills all but the session and what was predicted. */
kw_status kw__kept_fill(const struct kw__kept *kept, const kw_catalog *catalog, struct kw__run *run,
                        kw_error *err);

#endif
