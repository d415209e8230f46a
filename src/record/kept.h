/* What a record measured, as a run of the store: the same from `record` and from `sweep`. */
#ifndef KW_RECORD_KEPT_H
#define KW_RECORD_KEPT_H

#include "record/record.h"
#include "store/run.h"

/* Fills windows, what marks said of the run, its hardware, where the meter tells, and its exit code. */
kw_status kw__kept_record(const struct kw__record *record, kw_meter *meter, const kw_catalog *catalog,
                          struct kw__run *run, kw_error *err);

/* What somebody says of a run: a name that it has a field for (model, num_frames, ...) fills that, if its
 * value is of the field's kind; any other is a setting. */
kw_status kw__kept_label(struct kw__run *run, const char *name, const char *text, kw_error *err);

#endif
