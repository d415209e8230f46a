/* What sends marks to a record that runs, if one does; also built into libkinowatt-nvtx.so. */
#ifndef KW_RECORD_SEND_H
#define KW_RECORD_SEND_H

#include <stdint.h>

#include "record/marks.h"

uint64_t kw__mark_now_ns(void);

/* verb: "begin", "all mark", ...; for settings "set", "all set". */
void kw__mark_send(const char *verb, const char *name, uint64_t at_ns);
void kw__mark_send_setting(const char *verb, const char *name, const char *value);

#endif
