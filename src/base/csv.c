#include "base/csv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"

kw_status kw__csv_open(const char *path, size_t largest_bytes, struct kw__arena *arena, struct kw__csv *out,
                       kw_error *err)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return kw__fail(err, errno == ENOENT ? KW_ERROR_NOT_FOUND : KW_ERROR_IO, "cannot read %s: %s", path,
                        strerror(errno));
    if (!S_ISREG(info.st_mode) || (uintmax_t)info.st_size > largest_bytes)
        return kw__fail(err, KW_ERROR_FORMAT, "%s is not a regular file of at most %zu MiB", path,
                        largest_bytes >> 20);
    size_t size = (size_t)info.st_size;
    char *text = kw__arena_alloc(arena, size + 2, 1);
    if (!text) return kw__fail_memory(err);
    FILE *file = fopen(path, "rb");
    if (!file) return kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
    size_t got = fread(text, 1, size, file);
    int bad = ferror(file) ? errno : 0;
    fclose(file);
    if (bad) return kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", path, strerror(bad));
    size_t mark = got >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    *out = (struct kw__csv){.path = path,
                            .at = text + mark,
                            .end = text + got,
                            .is_cut = got > 0 && text[got - 1] != '\n',
                            .next_line = 1};
    return KW_OK;
}

/* The quote that closes the field which `at` begins; NULL: there is none. Changes nothing. */
static char *closing_quote(const struct kw__csv *csv)
{
    char *at = csv->at + 1;
    for (; at < csv->end; at++) {
        if (*at != '"') continue;
        if (at[1] != '"') return at;
        at++;
    }
    return NULL;
}

/* Reads a quoted field in place, doubled quotes made single; `at` is left behind the closing quote. */
static kw_status read_quoted(struct kw__csv *csv, char **field, kw_error *err)
{
    char *from = csv->at + 1, *to = csv->at, *last = closing_quote(csv);
    if (!last) return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: a quote is not closed", csv->path, csv->line);
    char *behind = last + 1;
    if (behind < csv->end && *behind != ',' && *behind != '\n' && !(*behind == '\r' && behind[1] == '\n'))
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: text follows a closing quote", csv->path, csv->line);
    *field = to;
    for (; from < last; from++) {
        if (*from == '\n') csv->next_line++;
        if (*from == '"') from++;
        *to++ = *from;
    }
    *to = '\0'; /* before `from`, which is past the opening quote */
    csv->at = behind;
    return KW_OK;
}

static kw_status read_plain(struct kw__csv *csv, char **field, kw_error *err)
{
    *field = csv->at;
    csv->at += strcspn(csv->at, ",\n\"");
    if (*csv->at == '"')
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: a quote within a field", csv->path, csv->line);
    if (*csv->at == '\0' && csv->at != csv->end)
        return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: a NUL byte: this is no text file", csv->path,
                        csv->line);
    return KW_OK;
}

static kw_status read_record(struct kw__csv *csv, kw_error *err)
{
    for (;;) {
        if (csv->num_fields == KW__CSV_COLUMNS)
            return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: more than %d fields", csv->path, csv->line,
                            KW__CSV_COLUMNS);
        char **field = &csv->fields[csv->num_fields++];
        kw_status status = *csv->at == '"' ? read_quoted(csv, field, err) : read_plain(csv, field, err);
        if (status) return status;
        char *stop = csv->at;
        char separator = stop < csv->end ? *stop : '\n';
        if (separator == '\r') separator = *++csv->at;
        if (csv->at < csv->end) csv->at++;
        if (separator == '\n' && stop > *field && stop[-1] == '\r') stop[-1] = '\0';
        *stop = '\0';
        if (separator == ',') continue;
        csv->next_line++;
        return KW_OK;
    }
}

kw_status kw__csv_next(struct kw__csv *csv, bool *more, kw_error *err)
{
    csv->num_fields = 0;
    *more = csv->at < csv->end;
    csv->line = csv->next_line;
    if (!*more) return KW_OK;
    char *newline = memchr(csv->at, '\n', (size_t)(csv->end - csv->at));
    kw_status status = read_record(csv, err);
    if (status) {
        csv->at = newline ? newline + 1 : csv->end;
        csv->next_line = csv->line + 1;
        return status;
    }
    if (csv->at == csv->end && csv->is_cut)
        return kw__fail(
            err, KW_ERROR_FORMAT,
            "%s:%d: the file ends within this line, and its last value may be cut off; if the line "
            "is whole, end it with a line break",
            csv->path, csv->line);
    return KW_OK;
}
