/*
 * A result of several files: figures, tables and the page that shows them, written into one folder.
 *
 * Invariants
 * - Nothing half-written: all files are written into a temporary folder first. A new folder appears by
 *   one rename; into one that is there the files are renamed in the order given, so the page that links
 *   to the others comes last.
 * - Other files of an existing folder are left alone. After a failure the temporary folder is gone.
 */
#ifndef KW__CLI_FOLDER_H
#define KW__CLI_FOLDER_H

#include "kinowatt.h"
#include "report/out.h"

struct kw__file {
    char name[64]; /* no slash */
    struct kw__out out;
};

/* Makes the folder, and those above it, where they are not there. KW_ERROR_IO says what failed. */
kw_status kw__folder_write(const char *path, const struct kw__file *files, size_t count, kw_error *err);

#endif
