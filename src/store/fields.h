/* What a run consists of, field by field: the one list that the database's columns, the exports and the
 * import are made from. A field's name is its column's and its key's in JSON. */
#ifndef KW_STORE_FIELDS_H
#define KW_STORE_FIELDS_H

#include "store/run.h"

enum kw__field_kind {
    KW__FIELD_TEXT,     /* const char *; NULL: absent */
    KW__FIELD_COUNT,    /* int64_t; 0: absent */
    KW__FIELD_INDEX,    /* int64_t; -1: absent */
    KW__FIELD_WHOLE,    /* int64_t */
    KW__FIELD_SIZE,     /* size_t */
    KW__FIELD_REAL,     /* double; NaN: absent */
    KW__FIELD_FLAG,     /* bool, as 0 or 1 */
    KW__FIELD_FLAGS,    /* unsigned */
    KW__FIELD_DEVICE,   /* int, by its name */
    KW__FIELD_METHOD,   /* kw_meter_method, by its name; KW_METER_NONE: absent */
    KW__FIELD_THROTTLE, /* of a detail: throttle_reasons; absent when not known */
};

struct kw__field {
    const char *name, *member; /* `, "name": `: its key in JSON */
    size_t member_bytes;
    enum kw__field_kind kind;
    size_t offset; /* in the struct */
};

struct kw__fields {
    const struct kw__field *fields;
    size_t count;
};

extern const struct kw__fields kw__run_fields, kw__window_fields, kw__channel_fields, kw__detail_fields;

/* The readings of a window, each of every device: arrays of KW_NUM_DEVICES kw_reading. */
enum { KW__NUM_QUANTITIES = 4 };
struct kw__quantity {
    const char *name; /* "energy_j" */
    size_t offset;    /* in struct kw__run_window */
};
extern const struct kw__quantity kw__quantities[KW__NUM_QUANTITIES];

/* Its reading of one device. */
kw_reading *kw__quantity_of(const struct kw__run_window *window, int quantity, int device);

/* A field as databases and JSON know values. */
struct kw__field_value {
    enum { KW__VALUE_NONE, KW__VALUE_TEXT, KW__VALUE_WHOLE, KW__VALUE_REAL } type;
    const char *text;
    int64_t whole;
    double real;
};

struct kw__field_value kw__field_get(const struct kw__field *field, const void *base);
/* Texts are copied into the arena. False: the value is not of the field's kind. */
bool kw__field_set(const struct kw__field *field, void *base, const struct kw__field_value *value,
                   struct kw__arena *arena);

/* Copies all texts of such a struct into the arena. */
void kw__fields_own(const struct kw__fields *fields, void *base, struct kw__arena *arena);

/* "measured", "modelled"; NULL for KW_ABSENT. */
const char *kw__reading_status_name(kw_reading_status status);
/* False: no such name. NULL is KW_ABSENT. */
bool kw__reading_status_parse(const char *name, kw_reading_status *out);

#endif
