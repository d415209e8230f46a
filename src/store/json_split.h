/* A JSON file of any size, value by value: the elements of its array of runs, one at a time, in constant
 * memory. Three layouts:
 *
 *     {"schema": "...", "runs": [{...}, {...}]}      or "configurations", as ML.ENERGY has it
 *     [{...}, {...}]
 *     {...}\n{...}                                   objects one after the other
 *
 * A file that ends too soon, or breaks off within an element, gives all that is whole before it; when a later
 * line begins with '{', as in the files that `kinowatt runs export` writes, reading goes on there. */
#ifndef KW_STORE_JSON_SPLIT_H
#define KW_STORE_JSON_SPLIT_H

#include <jansson.h>
#include <stdio.h>

#include "base/arena.h"
#include "report/out.h"

enum kw__json_place { KW__JSON_TOP, KW__JSON_OBJECT, KW__JSON_ARRAY, KW__JSON_END };

struct kw__json_split {
    const char *path;
    json_t *members; /* of the object around the elements: its texts, as far as they have been read */
    int line;        /* where the element that was read last begins */
    /* the reader's own */
    FILE *file;
    int at_line;
    enum kw__json_place place, around;
    bool found;          /* the object has an array of elements */
    struct kw__out text; /* of what is being read */
    long begin;          /* where it begins in the file */
};

kw_status kw__json_split_open(const char *path, struct kw__json_split *out, kw_error *err);
void kw__json_split_close(struct kw__json_split *split);

/* The next element, which the caller releases; NULL: there are no more. KW_ERROR_FORMAT: one that is not
 * valid, or a file that ends too soon; the next call reads on behind it. Other failures are final. */
kw_status kw__json_split_next(struct kw__json_split *split, json_t **element, kw_error *err);

#endif
