#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

kw_status kw__fail(kw_error *err, kw_status code, const char *format, ...)
{
    if (!err) return code;
    err->code = code;
    va_list args;
    va_start(args, format);
    (void)kw__number_vformat(err->message, sizeof err->message, format, args);
    va_end(args);
    for (char *c = err->message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return code;
}

kw_status kw__fail_memory(kw_error *err)
{
    return kw__fail(err, KW_ERROR_MEMORY, "out of memory");
}

void kw__error_clear(kw_error *err)
{
    if (err) *err = (kw_error){KW_OK, ""};
}

const char *kw_status_name(kw_status status)
{
    static const char *const names[] = {"ok",           "usage",     "not found", "format",   "unsupported",
                                        "input/output", "no memory", "no device", "cancelled"};
    size_t index = (size_t)status;
    return index < sizeof names / sizeof names[0] ? names[index] : "unknown status";
}

const char *kw_version(void)
{
#define TEXT_OF(x) #x
#define VERSION(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)
    return VERSION(KW_VERSION_MAJOR, KW_VERSION_MINOR, KW_VERSION_PATCH);
}

/* Levenshtein distance with one row; names are short, longer ones are never near. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 64 };
    size_t m = strlen(a), n = strlen(b), row[LONGEST + 1];
    if (m > LONGEST || n > LONGEST) return LONGEST;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
            size_t best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = substitute < best ? substitute : best;
        }
    }
    return row[n];
}

const char *kw__nearest_name(const char *text, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t least = strlen(text) / 3 + 2;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(text, names[i]);
        if (strlen(text) >= 2 && strstr(names[i], text)) d = 1;
        if (d < least) {
            least = d;
            nearest = names[i];
        }
    }
    return nearest;
}
