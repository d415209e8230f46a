#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

enum { LARGEST_FILE = 16 << 20 };

/* jansson 2.14 loses a character when its lexer's buffer cannot grow, without a word, and reads past the
 * end when that was a string's last. So a text is read as the second element of an array whose first is a
 * zero with more digits than any token of the text has characters: that number grows the buffer, where a lost
 * digit does no harm, and malloc's errno, looked at before each character, tells. The comma behind it, which
 * jansson saves and takes back, must not be what the buffer grows for. What is said of a text that ends too
 * soon is ours, since the array's end follows it. */
struct source {
    const char *text, *end;
    size_t zeros;     /* still to come */
    const char *rest; /* of what stands before the zeros, then before the text */
    bool at_end;      /* the array's ] was given */
    bool starved;
};

/* An upper bound of the characters of a token: none reaches beyond the next quote that is not escaped. */
static size_t longest_token(const char *text, size_t length)
{
    size_t longest = 0, token = 0;
    for (size_t i = 0; i < length; i++) {
        token++;
        if (token > longest) longest = token;
        if (text[i] == '"' && (!i || text[i - 1] != '\\')) token = 1; /* the quote may open a string */
    }
    return longest;
}

static int next_character(struct source *source)
{
    if (*source->rest) return *source->rest++;
    if (source->zeros) {
        source->zeros--;
        if (!source->zeros) source->rest = ",";
        return '0';
    }
    if (source->text < source->end) return (unsigned char)*source->text++;
    if (source->at_end) return EOF;
    source->at_end = true;
    return ']';
}

static size_t next_byte(void *buffer, size_t size, void *data)
{
    struct source *source = data;
    if (errno == ENOMEM) source->starved = true;
    int c = size && !source->starved ? next_character(source) : EOF;
    if (c == EOF) return 0;
    *(char *)buffer = (char)c;
    return 1;
}

json_t *kw__json_parse(const char *text, size_t length, size_t flags, json_error_t *problem)
{
    struct source source = {text, text + length, longest_token(text, length) + 16, "[0.", false, false};
    size_t digits = source.zeros + 2; /* "0." and the zeros; a buffer of 2^n holds one character less */
    if (!((digits + 1) & digits)) source.zeros++;
    errno = 0;
    json_t *array = json_load_callback(next_byte, &source, JSON_REJECT_DUPLICATES | flags, problem),
           *value = NULL;
    if (source.starved || errno == ENOMEM) {
        *problem = (json_error_t){.line = -1};
        problem->text[sizeof problem->text - 1] = json_error_out_of_memory; /* where json_error_code looks */
    } else if (json_array_size(array) == 2) {
        value = json_incref(json_array_get(array, 1));
    } else if (array) {
        snprintf(problem->text, sizeof problem->text - 1, "more than one value");
    } else if (source.at_end) {
        enum json_error_code code = json_error_code(problem);
        if (code == json_error_premature_end_of_input || code == json_error_invalid_syntax)
            snprintf(problem->text, sizeof problem->text - 1, "it ends too soon, or has a bracket too many");
    }
    json_decref(array);
    return value;
}

/* All of a file; the caller frees *text. */
static kw_status read_file(FILE *file, const char *path, char **text, size_t *length, kw_error *err)
{
    struct stat info;
    if (fstat(fileno(file), &info) != 0) return kw__fail(err, KW_ERROR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return kw__fail(err, KW_ERROR_FORMAT, "%s is not a regular file; give a JSON file", path);
    if (info.st_size > LARGEST_FILE)
        return kw__fail(err, KW_ERROR_FORMAT, "%s is larger than 16 MiB; that is no config file", path);
    *text = malloc((size_t)info.st_size + 1);
    if (!*text) return kw__fail_memory(err);
    *length = fread(*text, 1, (size_t)info.st_size, file);
    return ferror(file) ? kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", path, strerror(errno)) : KW_OK;
}

kw_status kw__json_load(const char *path, json_t **root, kw_error *err)
{
    /* O_NONBLOCK: a named pipe must not hang us */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "rb");
    if (!file) {
        int problem = errno;
        if (fd >= 0) close(fd);
        kw_status code = problem == ENOMEM                         ? KW_ERROR_MEMORY
                         : problem == ENOENT || problem == ENOTDIR ? KW_ERROR_NOT_FOUND
                                                                   : KW_ERROR_IO;
        return kw__fail(err, code, "cannot read %s: %s", path, strerror(problem));
    }
    char *text = NULL;
    size_t length = 0;
    json_t *value = NULL;
    kw_status status = read_file(file, path, &text, &length, err);
    fclose(file);
    if (!status) {
        json_error_t problem;
        value = kw__json_parse(text, length, 0, &problem);
        /* as a double a huge integer can be told from a broken file, with its key */
        if (!value && json_error_code(&problem) == json_error_numeric_overflow)
            value = kw__json_parse(text, length, JSON_DECODE_INT_AS_REAL, &problem);
        if (!value && json_error_code(&problem) == json_error_out_of_memory)
            status = kw__fail_memory(err);
        else if (!value)
            status = kw__fail(err, KW_ERROR_FORMAT, "%s is not valid JSON: line %d: %s", path, problem.line,
                              problem.text);
        else if (!json_is_object(value))
            status = kw__fail(err, KW_ERROR_FORMAT, "%s does not hold a JSON object", path);
    }
    free(text);
    if (status)
        json_decref(value);
    else
        *root = value;
    return status;
}

kw_status kw__json_text(const char *text, const char *what, json_t **value, kw_error *err)
{
    json_error_t problem;
    json_t *found = kw__json_parse(text, strlen(text), 0, &problem);
    if (!found && json_error_code(&problem) == json_error_out_of_memory) return kw__fail_memory(err);
    if (!found) return kw__fail(err, KW_ERROR_FORMAT, "%s is not valid JSON: %s", what, problem.text);
    *value = found;
    return KW_OK;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE: return "true or false";
    default: return "null";
    }
}

static kw_status wrong_type(struct kw__json in, const char *key, const json_t *value, const char *wanted,
                            kw_error *err)
{
    if (!value)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: key \"%s\" is missing; it must be %s", in.path, key,
                        wanted);
    return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" is %s; it must be %s", in.path, key, type_name(value),
                    wanted);
}

static kw_status read_int(struct kw__json in, const char *key, const json_t *value, int64_t low, int64_t high,
                          int64_t *out, kw_error *err)
{
    int64_t number;
    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else if (json_is_real(value) && nearbyint(json_real_value(value)) == json_real_value(value)) {
        double real = json_real_value(value); /* "5.0" where an integer is meant */
        if (fabs(real) >= 1e15)
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" is %g; it must be from %" PRId64 " to %" PRId64,
                            in.path, key, real, low, high);
        number = (int64_t)real;
    } else {
        return wrong_type(in, key, value, "an integer", err);
    }
    if (number < low || number > high)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"%s\" is %" PRId64 "; it must be from %" PRId64 " to %" PRId64, in.path, key,
                        number, low, high);
    *out = number;
    return KW_OK;
}

kw_status kw__json_int(struct kw__json in, const char *key, int64_t low, int64_t high, int64_t *out,
                       kw_error *err)
{
    return read_int(in, key, json_object_get(in.object, key), low, high, out, err);
}

kw_status kw__json_number(struct kw__json in, const char *key, double low, double high, double *out,
                          kw_error *err)
{
    const json_t *value = json_object_get(in.object, key);
    if (!json_is_number(value)) return wrong_type(in, key, value, "a number", err);
    double number = json_number_value(value);
    if (!(number >= low && number <= high))
        return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" is %g; it must be from %g to %g", in.path, key,
                        number, low, high);
    *out = number;
    return KW_OK;
}

kw_status kw__json_bool(struct kw__json in, const char *key, bool *out, kw_error *err)
{
    const json_t *value = json_object_get(in.object, key);
    if (!json_is_boolean(value)) return wrong_type(in, key, value, "true or false", err);
    *out = json_is_true(value);
    return KW_OK;
}

kw_status kw__json_string(struct kw__json in, const char *key, const char **out, kw_error *err)
{
    const json_t *value = json_object_get(in.object, key);
    if (!json_is_string(value)) return wrong_type(in, key, value, "a string", err);
    *out = json_string_value(value);
    return KW_OK;
}

kw_status kw__json_object(struct kw__json in, const char *key, const json_t **out, kw_error *err)
{
    const json_t *value = json_object_get(in.object, key);
    if (!json_is_object(value)) return wrong_type(in, key, value, "an object", err);
    *out = value;
    return KW_OK;
}

kw_status kw__json_array(struct kw__json in, const char *key, const json_t **out, kw_error *err)
{
    const json_t *value = json_object_get(in.object, key);
    if (!json_is_array(value)) return wrong_type(in, key, value, "an array", err);
    *out = value;
    return KW_OK;
}

static kw_status array_of(struct kw__json in, const char *key, size_t count, const json_t **array,
                          kw_error *err)
{
    kw_status status = kw__json_array(in, key, array, err);
    if (status == KW_OK && json_array_size(*array) != count)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" has %zu elements; it must have %zu", in.path, key,
                        json_array_size(*array), count);
    return status;
}

kw_status kw__json_ints(struct kw__json in, const char *key, size_t count, int64_t low, int64_t high,
                        int64_t *out, kw_error *err)
{
    const json_t *array;
    kw_status status = array_of(in, key, count, &array, err);
    for (size_t i = 0; status == KW_OK && i < count; i++)
        status = read_int(in, key, json_array_get(array, i), low, high, &out[i], err);
    return status;
}

kw_status kw__json_numbers(struct kw__json in, const char *key, size_t count, double *out, kw_error *err)
{
    const json_t *array;
    kw_status status = array_of(in, key, count, &array, err);
    for (size_t i = 0; status == KW_OK && i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_number(value)) return wrong_type(in, key, value, "an array of numbers", err);
        out[i] = json_number_value(value);
    }
    return status;
}

bool kw__json_has(struct kw__json in, const char *key)
{
    const json_t *value = json_object_get(in.object, key);
    return value && !json_is_null(value);
}
