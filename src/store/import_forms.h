/* The forms of store/import.h, each in a file of its own. */
#ifndef KW_STORE_IMPORT_FORMS_H
#define KW_STORE_IMPORT_FORMS_H

#include <jansson.h>

#include "base/csv.h"
#include "predict/dataset.h"
#include "store/import.h"

struct kw__importing {
    const struct kw__import *import;
    struct kw__import_counts *counts;
    const char *path, *dataset;
    int in_transaction; /* runs added since it began */
};

/* Tells of what is bad, and counts it. Other failures than KW_ERROR_FORMAT and KW_ERROR_USAGE are returned.
 */
kw_status kw__import_bad(struct kw__importing *importing, kw_status status, const kw_error *why,
                         kw_error *err);
/* Adds the run and frees it. */
kw_status kw__import_add(struct kw__importing *importing, struct kw__run *run,
                         const struct kw__finding *findings, size_t num_findings, kw_error *err);
/* The same for one that says nothing of its identity: its uuid is made of its content. `began` NULL: not
 * known. */
kw_status kw__import_add_foreign(struct kw__importing *importing, struct kw__run *run, const char *began,
                                 kw_error *err);

/* An empty run with one window that is the whole of it, all of its readings absent because of `reason`. */
struct kw__run *kw__import_new(const char *reason);
/* A reading without an interval; NaN leaves it absent. */
void kw__import_figure(kw_reading *reading, double value, kw_reading_status status);
/* The energy, and the mean power that follows from it where none is given (NaN). */
void kw__import_energy(struct kw__run *run, int device, double energy_j, double power_w,
                       kw_reading_status status);
/* Sets model and hardware, each NULL: not known: the catalog's names where it has some ("H100-SXM-80GB":
 * "h100-sxm"), else the file's own, which are kept as settings in any case. The model's text must live as
 * long as the run. */
kw_status kw__import_names(struct kw__importing *importing, struct kw__run *run, const char *model,
                           const char *gpu, kw_error *err);

/* Whether the header is CodeCarbon's. */
bool kw__import_is_codecarbon(const struct kw__csv *header);
kw_status kw__import_codecarbon(struct kw__importing *importing, kw_error *err);
kw_status kw__import_published(struct kw__importing *importing, kw_error *err);
kw_status kw__import_json(struct kw__importing *importing, kw_error *err);

#endif
