/* Reading JSON config files: every value is checked for type and range, and what is wrong is said
 * with file and key. */
#ifndef KW_BASE_JSON_H
#define KW_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "kinowatt.h"

/* A JSON object and what it is called in messages: the file's path, with the object's key behind it
 * when it is nested. */
struct kw__json {
    const char *path;
    const json_t *object;
};

/* Loads a file that must hold one JSON object (16 MiB at most, no key twice). The caller releases
 * *root with json_decref. */
kw_status kw__json_load(const char *path, json_t **root, kw_error *err);

/* As json_loadb of jansson 2.14 should be: the one value that a text holds, of any type, no key twice. NULL:
 * *problem says why, with code json_error_out_of_memory when memory ended, at which jansson's own loses
 * characters in silence. */
json_t *kw__json_parse(const char *text, size_t length, size_t flags, json_error_t *problem);

/* The value that a text holds; `what` names it in messages. The caller releases *value with json_decref. */
kw_status kw__json_text(const char *text, const char *what, json_t **value, kw_error *err);

/* Each reads a required key. `*out` is unchanged on failure. */
kw_status kw__json_int(struct kw__json in, const char *key, int64_t low, int64_t high, int64_t *out,
                       kw_error *err);
kw_status kw__json_number(struct kw__json in, const char *key, double low, double high, double *out,
                          kw_error *err);
kw_status kw__json_bool(struct kw__json in, const char *key, bool *out, kw_error *err);
kw_status kw__json_string(struct kw__json in, const char *key, const char **out, kw_error *err);
kw_status kw__json_object(struct kw__json in, const char *key, const json_t **out, kw_error *err);
kw_status kw__json_array(struct kw__json in, const char *key, const json_t **out, kw_error *err);

/* Arrays of exactly `count` elements. */
kw_status kw__json_ints(struct kw__json in, const char *key, size_t count, int64_t low, int64_t high,
                        int64_t *out, kw_error *err);
kw_status kw__json_numbers(struct kw__json in, const char *key, size_t count, double *out, kw_error *err);

/* Whether the key is there and not null. */
bool kw__json_has(struct kw__json in, const char *key);

#endif
