/* Errors are filled once, at the place that knows, and passed up unchanged. */
#ifndef KW_BASE_ERROR_H
#define KW_BASE_ERROR_H

#include "kinowatt.h"

/* Fills `err` (NULL is allowed) and returns `code`, so that `return kw__fail(err, ...)` reads well.
 * Control characters in the message become '?': it stays one line. */
kw_status kw__fail(kw_error *err, kw_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "out of memory" */
kw_status kw__fail_memory(kw_error *err);

/* Clears `err`. */
void kw__error_clear(kw_error *err);

/* The name among `names` that is nearest to `text` by edit distance, or NULL when none is near. */
const char *kw__nearest_name(const char *text, const char *const *names, size_t count);

#endif
