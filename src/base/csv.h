/* Reading CSV as RFC 4180 has it, in place: quoted fields may hold commas, doubled quotes and line breaks;
 * lines end in LF or CRLF, the last one too; nothing stands between a quote and a comma; no NUL bytes. What
 * is wrong is said with file and line, and reading may go on behind that line.
 *
 * A record that ends with the file and not with its line is refused: a number that was cut off is still a
 * number. */
#ifndef KW_BASE_CSV_H
#define KW_BASE_CSV_H

#include <stdbool.h>

#include "base/arena.h"
#include "kinowatt.h"

enum { KW__CSV_COLUMNS = 128 };

struct kw__csv {
    const char *path;
    int line; /* of the record that was read last, from 1 */
    char *fields[KW__CSV_COLUMNS];
    size_t num_fields;
    /* the reader's own */
    char *at, *end; /* NUL-terminated at `end` */
    bool is_cut;    /* the last line does not end */
    int next_line;
};

/* Reads the whole file into the arena, which owns the fields. A byte order mark is passed over.
 * KW_ERROR_FORMAT: no regular file, or a larger one. */
kw_status kw__csv_open(const char *path, size_t largest_bytes, struct kw__arena *arena, struct kw__csv *out,
                       kw_error *err);

/* The next record; *more is false at the end of the file. After a failure the next call reads on behind the
 * line that the bad record began with. */
kw_status kw__csv_next(struct kw__csv *csv, bool *more, kw_error *err);

#endif
