/* What cmd_record.c hands to its report. */
#ifndef KW__CLI_RECORD_H
#define KW__CLI_RECORD_H

#include "cli/cli.h"
#include "record/record.h"
#include "store/run.h"

/* The run for people: its stages, devices and what was odd about it. */
void kw__record_put(struct kw__out *out, const struct kw__run *run, const struct kw__record *record,
                    const char *command);

/* Warnings about marks, output and children, one line each. */
void kw__record_warn(const struct kw__record *record, const struct kw__run *run);

#endif
