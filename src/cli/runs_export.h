/* What the files of `kinowatt runs export` share. */
#ifndef KW__CLI_RUNS_EXPORT_H
#define KW__CLI_RUNS_EXPORT_H

#include "base/pending.h"
#include "cli/runs.h"
#include "predict/dataset.h"

struct kw__export {
    const struct kw__runs_settings *settings;
    struct kw__store *store;
    struct kw__pending file;
    bool to_file;
    struct kw__out out; /* what is not yet written */
    size_t runs;
    bool plain_only; /* measurements of whole runs that nothing is wrong with */
    unsigned parts;  /* of a run that the format has a place for */
    struct kw__arena arena;
    struct kw__left_outs left_out;
    const char *between; /* two runs */
    void (*put)(struct kw__export *export, const struct kw__run *run, const struct kw__finding *findings,
                size_t count);
};

/* Appends one run to `out`, or counts it among those left out. `user` is the export. */
kw_status kw__export_run(void *user, struct kw__run *run, kw_error *err);
/* Writes a text of the export's, its own or that of a part, and empties it. */
kw_status kw__export_flush(struct kw__export *export, struct kw__out *out, kw_error *err);
/* All runs that fit the filter. */
kw_status kw__export_pages(struct kw__export *export, kw_error *err);

#endif
