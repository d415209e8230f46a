#include "store/json_split.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"

/* Longer ones are no runs. */
enum { LARGEST_ELEMENT = 256 << 20 };

kw_status kw__json_split_open(const char *path, struct kw__json_split *out, kw_error *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a named pipe must not hang us */
    FILE *file = fd < 0 ? NULL : fdopen(fd, "rb");
    if (!file) {
        int error = errno;
        if (fd >= 0) close(fd);
        return kw__fail(err, error == ENOENT ? KW_ERROR_NOT_FOUND : KW_ERROR_IO, "cannot read %s: %s", path,
                        strerror(error));
    }
    *out = (struct kw__json_split){.path = path, .file = file, .at_line = 1, .members = json_object()};
    kw__out_init(&out->text);
    kw_status status = KW_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        status = kw__fail(err, KW_ERROR_FORMAT, "%s is no regular file", path);
    else if (!out->members)
        status = kw__fail_memory(err);
    char mark[3];
    if (fread(mark, 1, 3, file) != 3 || memcmp(mark, "\xEF\xBB\xBF", 3) != 0) rewind(file);
    if (status) kw__json_split_close(out);
    return status;
}

void kw__json_split_close(struct kw__json_split *split)
{
    if (split->file) fclose(split->file);
    json_decref(split->members);
    kw__out_free(&split->text);
    *split = (struct kw__json_split){0};
}

static int next_char(struct kw__json_split *s)
{
    int c = getc(s->file);
    s->at_line += c == '\n';
    return c;
}

static void unget(struct kw__json_split *s, int c)
{
    s->at_line -= c == '\n';
    if (c != EOF) (void)ungetc(c, s->file);
}

/* The first character that is neither blank nor a comma. */
static int next_token(struct kw__json_split *s)
{
    int c;
    do c = next_char(s);
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',');
    return c;
}

static void keep(struct kw__json_split *s, int c)
{
    const char byte = (char)c;
    kw__out_write(&s->text, &byte, 1);
}

/* Nothing more can be read. */
static kw_status fail_for_good(struct kw__json_split *s, const char *why, kw_error *err)
{
    s->place = KW__JSON_END;
    return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: %s", s->path, s->at_line, why);
}

static const char ends_too_soon[] = "the file ends too soon";

static kw_status check_size(struct kw__json_split *s, kw_error *err)
{
    if (s->text.failed) return kw__fail_memory(err);
    if (s->text.len <= LARGEST_ELEMENT) return KW_OK;
    s->place = KW__JSON_END;
    return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s:%d: one value of more than %d MiB", s->path, s->at_line,
                    LARGEST_ELEMENT >> 20);
}

/* Appends the rest of a string whose quote has been read. False: the file ends in it. */
static bool copy_string(struct kw__json_split *s)
{
    for (int c; (c = next_char(s)) != EOF;) {
        keep(s, c);
        if (c == '"') return true;
        if (c != '\\') continue;
        c = next_char(s);
        if (c == EOF) return false;
        keep(s, c);
    }
    return false;
}

/* Appends a value that begins with `c`, brackets and all. *whole is false when the file ends in it. */
static kw_status copy_value(struct kw__json_split *s, int c, bool *whole, kw_error *err)
{
    int depth = 0;
    *whole = true;
    for (; c != EOF; c = next_char(s)) {
        bool closes = c == ']' || c == '}';
        if (depth == 0 && (closes || c == ',')) { /* behind a number or a word */
            unget(s, c);
            return KW_OK;
        }
        keep(s, c);
        if (c == '"' && !copy_string(s)) break;
        if (c == '{' || c == '[') depth++;
        if (closes) depth--;
        kw_status status = check_size(s, err);
        if (status) return status;
        if (depth == 0 && (closes || c == '"')) return KW_OK;
    }
    *whole = false;
    return s->text.failed ? kw__fail_memory(err) : KW_OK;
}

/* Behind an element that breaks off: to the next line, after the element's first, that begins with '{'. */
static void find_next_line(struct kw__json_split *s)
{
    s->place = KW__JSON_END;
    if (fseek(s->file, s->begin, SEEK_SET) != 0) return;
    s->at_line = s->line;
    for (int c, before = 0; (c = next_char(s)) != EOF; before = c)
        if (c == '{' && before == '\n') {
            unget(s, c);
            s->place = KW__JSON_ARRAY;
            return;
        }
}

static kw_status parse(struct kw__json_split *s, json_t **out, kw_error *err)
{
    json_error_t problem;
    *out = kw__json_parse(s->text.data, s->text.len, 0, &problem);
    if (*out) return KW_OK;
    if (json_error_code(&problem) == json_error_out_of_memory) return kw__fail_memory(err);
    return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: not valid JSON: %s", s->path, s->line + problem.line - 1,
                    problem.text);
}

/* An element whose first character is `c`. */
static kw_status read_element(struct kw__json_split *s, int c, json_t **out, kw_error *err)
{
    bool whole;
    s->text.len = 0;
    s->line = s->at_line;
    s->begin = ftell(s->file) - 1;
    kw_status status = copy_value(s, c, &whole, err);
    if (status) return status;
    if (whole) return parse(s, out, err);
    find_next_line(s);
    return kw__fail(err, KW_ERROR_FORMAT, "%s:%d: what begins here does not end", s->path, s->line);
}

/* A member of the object around, `c` being its first character. Texts are kept; so is all of the object's
 * text, which may be an element itself. */
static kw_status read_member(struct kw__json_split *s, int c, kw_error *err)
{
    bool whole = c == '"';
    size_t from = s->text.len + 1;
    char key[64] = "";
    if (!whole) return fail_for_good(s, "not valid JSON: a key must stand here", err);
    keep(s, c);
    whole = copy_string(s);
    if (whole && s->text.len - 1 - from < sizeof key)
        memcpy(key, s->text.data + from, s->text.len - 1 - from);
    c = next_token(s);
    keep(s, c);
    if (c == ':') c = next_token(s);
    if (c == '[' && (strcmp(key, "runs") == 0 || strcmp(key, "configurations") == 0)) {
        s->place = KW__JSON_ARRAY;
        s->around = KW__JSON_OBJECT;
        s->found = true;
        return KW_OK;
    }
    from = s->text.len;
    kw_status status = copy_value(s, c, &whole, err);
    if (status) return status;
    if (!whole) return fail_for_good(s, ends_too_soon, err);
    if (c == '"' && *key) {
        json_error_t problem;
        json_t *value = kw__json_parse(s->text.data + from, s->text.len - from, 0, &problem);
        bool starved = value ? json_object_set_new(s->members, key, value) != 0
                             : json_error_code(&problem) == json_error_out_of_memory;
        if (starved) return kw__fail_memory(err);
    }
    if (s->found) s->text.len = 0;
    keep(s, ',');
    return check_size(s, err);
}

/* In the object around: its next member, or its end. *out is the object itself when it has no elements. */
static kw_status read_object(struct kw__json_split *s, json_t **out, kw_error *err)
{
    int c = next_token(s);
    if (c == EOF) return fail_for_good(s, ends_too_soon, err);
    if (c != '}') return read_member(s, c, err);
    s->place = KW__JSON_TOP;
    if (s->found) return KW_OK;
    if (s->text.len > 1) s->text.len--; /* the comma */
    keep(s, '}');
    return s->text.failed ? kw__fail_memory(err) : parse(s, out, err);
}

static kw_status read_top(struct kw__json_split *s, kw_error *err)
{
    int c = next_token(s);
    s->line = s->at_line;
    switch (c) {
    case EOF: s->place = KW__JSON_END; return KW_OK;
    case '[':
        s->place = KW__JSON_ARRAY;
        s->around = KW__JSON_TOP;
        return KW_OK;
    case '{':
        s->place = KW__JSON_OBJECT;
        s->found = false;
        s->text.len = 0;
        keep(s, c);
        return KW_OK;
    default: return fail_for_good(s, "not valid JSON: an object or array must stand here", err);
    }
}

static kw_status read_array(struct kw__json_split *s, json_t **out, kw_error *err)
{
    int c = next_token(s);
    if (c == EOF) return fail_for_good(s, ends_too_soon, err);
    if (c == '}' || c == ':') return fail_for_good(s, "not valid JSON: an element must stand here", err);
    if (c != ']') return read_element(s, c, out, err);
    s->place = s->around;
    return KW_OK;
}

kw_status kw__json_split_next(struct kw__json_split *s, json_t **element, kw_error *err)
{
    kw_status status = KW_OK;
    *element = NULL;
    while (!status && !*element && s->place != KW__JSON_END) switch (s->place) {
        case KW__JSON_TOP: status = read_top(s, err); break;
        case KW__JSON_OBJECT: status = read_object(s, element, err); break;
        case KW__JSON_ARRAY: status = read_array(s, element, err); break;
        case KW__JSON_END: break;
        }
    if (!status && ferror(s->file))
        return kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", s->path, strerror(errno));
    return status;
}
