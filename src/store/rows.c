#include "store/rows.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"

/* ---- Writing ----------------------------------------------------------------------------------------- */

static void bind_fields(sqlite3_stmt *statement, int at, const struct kw__fields *fields, const void *base)
{
    for (size_t i = 0; i < fields->count; i++, at++) {
        struct kw__field_value value = kw__field_get(&fields->fields[i], base);
        switch (value.type) {
        case KW__VALUE_NONE: (void)sqlite3_bind_null(statement, at); break;
        case KW__VALUE_TEXT: kw__db_bind_text(statement, at, value.text); break;
        case KW__VALUE_WHOLE: (void)sqlite3_bind_int64(statement, at, value.whole); break;
        case KW__VALUE_REAL: (void)sqlite3_bind_double(statement, at, value.real); break;
        }
    }
}

/* The row of a text in `reasons`, made when it is new. */
static kw_status find_reason(struct kw__store *store, const char *text, int64_t *id, kw_error *err)
{
    sqlite3_stmt *find, *add;
    bool more;
    kw_status status = kw__db_use(store, KW__SQL_FIND_REASON, &find, err);
    if (status) return status;
    kw__db_bind_text(find, 1, text);
    status = kw__db_next(store, find, &more, err);
    if (status) return status;
    if (more) {
        *id = sqlite3_column_int64(find, 0);
        (void)sqlite3_reset(find);
        return KW_OK;
    }
    status = kw__db_use(store, KW__SQL_ADD_REASON, &add, err);
    if (status) return status;
    kw__db_bind_text(add, 1, text);
    status = kw__db_run(store, add, err);
    *id = sqlite3_last_insert_rowid(store->db);
    return status;
}

/* Whether all of a device's readings are absent without a reason: nothing to keep. */
static bool is_blank(const struct kw__run_window *window, int device)
{
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
        const kw_reading *r = kw__quantity_of(window, q, device);
        if (r->status != KW_ABSENT || r->reason) return false;
    }
    return true;
}

static kw_status add_readings(struct kw__store *store, const struct kw__run *run, size_t position,
                              kw_error *err)
{
    const struct kw__run_window *window = &run->windows[position];
    sqlite3_stmt *add;
    kw_status status = kw__db_use(store, KW__SQL_ADD_READING, &add, err);
    for (int d = 0; d < KW_NUM_DEVICES && !status; d++) {
        if (is_blank(window, d)) continue;
        int at = 1;
        (void)sqlite3_bind_int64(add, at++, run->id);
        (void)sqlite3_bind_int64(add, at++, (int64_t)position);
        kw__db_bind_text(add, at++, kw_device_name(d));
        for (int q = 0; q < KW__NUM_QUANTITIES && !status; q++) {
            const kw_reading *r = kw__quantity_of(window, q, d);
            int64_t reason = 0;
            bool there = r->status != KW_ABSENT;
            (void)sqlite3_bind_double(add, at++, there ? r->value : NAN); /* NaN is NULL */
            (void)sqlite3_bind_double(add, at++, there ? r->low : NAN);
            (void)sqlite3_bind_double(add, at++, there ? r->high : NAN);
            kw__db_bind_text(add, at++, kw__reading_status_name(r->status));
            if (r->reason) status = find_reason(store, r->reason, &reason, err);
            if (reason)
                (void)sqlite3_bind_int64(add, at++, reason);
            else
                (void)sqlite3_bind_null(add, at++);
        }
        if (!status) status = kw__db_run(store, add, err);
    }
    return status;
}

/* Rows of one table: key columns first, then the fields of each element. */
static kw_status add_rows(struct kw__store *store, enum kw__sql which, int64_t run, bool with_position,
                          const struct kw__fields *fields, const void *elements, size_t count, size_t size,
                          kw_error *err)
{
    sqlite3_stmt *add = NULL;
    kw_status status = count ? kw__db_use(store, which, &add, err) : KW_OK;
    for (size_t i = 0; i < count && !status; i++) {
        (void)sqlite3_bind_int64(add, 1, run);
        if (with_position) (void)sqlite3_bind_int64(add, 2, (int64_t)i);
        bind_fields(add, with_position ? 3 : 2, fields, (const char *)elements + i * size);
        status = kw__db_run(store, add, err);
    }
    return status;
}

static kw_status add_settings(struct kw__store *store, const struct kw__run *run, kw_error *err)
{
    sqlite3_stmt *add;
    kw_status status = kw__db_use(store, KW__SQL_ADD_SETTING, &add, err);
    for (size_t i = 0; i < run->num_settings && !status; i++) {
        (void)sqlite3_bind_int64(add, 1, run->id);
        kw__db_bind_text(add, 2, run->settings[i].name);
        kw__db_bind_text(add, 3, run->settings[i].value);
        status = kw__db_run(store, add, err);
    }
    return status;
}

/* The run of this uuid, or of this sweep, point and repeat; 0: none. */
static kw_status find_run(struct kw__store *store, const struct kw__run *run, int64_t *id, kw_error *err)
{
    sqlite3_stmt *find;
    bool more;
    *id = 0;
    kw_status status = kw__db_use(store, KW__SQL_FIND_RUN, &find, err);
    if (status) return status;
    (void)sqlite3_clear_bindings(find);
    kw__db_bind_text(find, 1, run->uuid);
    kw__db_bind_text(find, 2, run->sweep);
    if (run->point != -1) (void)sqlite3_bind_int64(find, 3, run->point);
    if (run->repeat != -1) (void)sqlite3_bind_int64(find, 4, run->repeat);
    status = kw__db_next(store, find, &more, err);
    if (status || !more) return status;
    *id = sqlite3_column_int64(find, 0);
    (void)sqlite3_reset(find);
    return KW_OK;
}

/* The run's own row. */
static kw_status add_run(struct kw__store *store, struct kw__run *run, bool *added, kw_error *err)
{
    sqlite3_stmt *add;
    kw_status status = find_run(store, run, &run->id, err);
    *added = run->id == 0;
    if (status || !*added) return status;
    status = kw__db_use(store, KW__SQL_ADD_RUN, &add, err);
    if (status) return status;
    bind_fields(add, 1, &kw__run_fields, run);
    status = kw__db_run(store, add, err);
    run->id = sqlite3_last_insert_rowid(store->db);
    return status;
}

static kw_status check(const struct kw__run *run, kw_error *err)
{
    for (size_t i = 0; i < run->num_windows; i++)
        if (run->windows[i].parent >= (int64_t)i || run->windows[i].parent < -1)
            return kw__fail(err, KW_ERROR_USAGE,
                            "the run contradicts itself: window %zu is nested in %" PRId64, i,
                            run->windows[i].parent);
    for (size_t i = 0; i < run->num_details; i++)
        if (run->details[i].window >= run->num_windows || run->details[i].channel >= run->num_channels)
            return kw__fail(err, KW_ERROR_USAGE, "the run contradicts itself: detail %zu is of no window", i);
    return KW_OK;
}

kw_status kw__rows_add(struct kw__store *store, struct kw__run *run, bool *added, kw_error *err)
{
    kw_status status = check(run, err);
    if (!status) status = add_run(store, run, added, err);
    if (status || !*added) return status;
    status = add_rows(store, KW__SQL_ADD_WINDOW, run->id, true, &kw__window_fields, run->windows,
                      run->num_windows, sizeof *run->windows, err);
    for (size_t i = 0; i < run->num_windows && !status; i++) status = add_readings(store, run, i, err);
    if (!status)
        status = add_rows(store, KW__SQL_ADD_CHANNEL, run->id, true, &kw__channel_fields, run->channels,
                          run->num_channels, sizeof *run->channels, err);
    if (!status)
        status = add_rows(store, KW__SQL_ADD_DETAIL, run->id, false, &kw__detail_fields, run->details,
                          run->num_details, sizeof *run->details, err);
    return status ? status : add_settings(store, run, err);
}

/* ---- Reading ----------------------------------------------------------------------------------------- */

static kw_status fail_damaged(const struct kw__store *store, const struct kw__run *run, const char *what,
                              kw_error *err)
{
    return kw__fail(err, KW_ERROR_FORMAT,
                    "%s: run %" PRId64 " is damaged: %s; 'kinowatt runs delete %" PRId64 "' removes it",
                    store->path, run->id, what, run->id);
}

/* Whether the value is there. Values are read as what they are of, a row that only this thread sees: that is
 * half the calls, and needs none of the copies that SQLite makes to protect them. */
static bool is_there(sqlite3_value *value)
{
    return sqlite3_value_type(value) != SQLITE_NULL;
}

/* The statement's columns behind the run's number. */
static kw_status read_fields(struct kw__store *store, struct kw__run *run, sqlite3_stmt *row,
                             const struct kw__fields *fields, void *base, kw_error *err)
{
    for (size_t i = 0; i < fields->count; i++) {
        sqlite3_value *column = sqlite3_column_value(row, 1 + (int)i);
        struct kw__field_value value = {.type = KW__VALUE_NONE};
        switch (sqlite3_value_type(column)) {
        case SQLITE_INTEGER:
            value = (struct kw__field_value){.type = KW__VALUE_WHOLE, .whole = sqlite3_value_int64(column)};
            break;
        case SQLITE_FLOAT:
            value = (struct kw__field_value){.type = KW__VALUE_REAL, .real = sqlite3_value_double(column)};
            break;
        case SQLITE_TEXT:
            value = (struct kw__field_value){.type = KW__VALUE_TEXT,
                                             .text = (const char *)sqlite3_value_text(column)};
            if (!value.text) return kw__fail_memory(err);
            break;
        default: break;
        }
        if (!kw__field_set(&fields->fields[i], base, &value, &run->arena))
            return fail_damaged(store, run, fields->fields[i].name, err);
    }
    return run->arena.failed ? kw__fail_memory(err) : KW_OK;
}

/* All rows of one table into an array of the arena. */
static kw_status get_rows(struct kw__store *store, enum kw__sql which, struct kw__run *run,
                          const struct kw__fields *fields, void **elements, size_t *count, size_t size,
                          kw_error *err)
{
    sqlite3_stmt *get;
    size_t room = 0;
    bool more;
    kw_status status;
    while (!(status = kw__db_next_of(store, which, run->id, &get, &more, err)) && more) {
        void *bigger = kw__arena_grow(&run->arena, *elements, *count, &room, size);
        if (bigger) {
            *elements = bigger;
            status = read_fields(store, run, get, fields, (char *)bigger + *count * size, err);
            ++*count;
        } else
            status = kw__fail_memory(err);
        if (status) break;
    }
    return status;
}

/* The text of a reason, most often that of the reading before. */
struct reason {
    int64_t id;
    const char *text; /* of the run's arena */
};

static kw_status get_reason(struct kw__store *store, struct kw__run *run, int64_t id, struct reason *last,
                            kw_error *err)
{
    sqlite3_stmt *get;
    bool more;
    if (last->text && id == last->id) return KW_OK;
    kw_status status = kw__db_use(store, KW__SQL_GET_REASON, &get, err);
    if (status) return status;
    (void)sqlite3_bind_int64(get, 1, id);
    status = kw__db_next(store, get, &more, err);
    if (status) return status;
    if (!more) return fail_damaged(store, run, "a reading's reason", err);
    *last = (struct reason){id, kw__db_text(get, 0, &run->arena)};
    (void)sqlite3_reset(get);
    return last->text ? KW_OK : kw__fail_memory(err);
}

/* One quantity of a row of readings, five columns from `at` on. */
static kw_status get_reading(struct kw__store *store, struct kw__run *run, sqlite3_stmt *row, int at,
                             kw_reading *out, struct reason *last, kw_error *err)
{
    double *figures[] = {&out->value, &out->low, &out->high};
    for (int i = 0; i < 3; i++) {
        sqlite3_value *figure = sqlite3_column_value(row, at + i);
        *figures[i] = is_there(figure) ? sqlite3_value_double(figure) : NAN;
    }
    if (!kw__reading_status_parse((const char *)sqlite3_column_text(row, at + 3), &out->status))
        return fail_damaged(store, run, "a reading", err);
    out->reason = NULL;
    sqlite3_value *reason = sqlite3_column_value(row, at + 4);
    if (!is_there(reason)) return KW_OK;
    kw_status status = get_reason(store, run, sqlite3_value_int64(reason), last, err);
    out->reason = last->text;
    return status;
}

static kw_status get_readings(struct kw__store *store, struct kw__run *run, kw_error *err)
{
    sqlite3_stmt *get;
    struct reason last = {0, NULL};
    bool more;
    kw_status status;
    for (size_t i = 0; i < run->num_windows; i++)
        for (int q = 0; q < KW__NUM_QUANTITIES; q++)
            for (int d = 0; d < KW_NUM_DEVICES; d++)
                *kw__quantity_of(&run->windows[i], q, d) = (kw_reading){NAN, NAN, NAN, KW_ABSENT, NULL};
    while (!(status = kw__db_next_of(store, KW__SQL_GET_READINGS, run->id, &get, &more, err)) && more) {
        const struct kw__field device_field = {.kind = KW__FIELD_DEVICE};
        int device = 0, at = 3;
        struct kw__field_value name = {.type = KW__VALUE_TEXT,
                                       .text = (const char *)sqlite3_column_text(get, 2)};
        int64_t position = sqlite3_column_int64(get, 1);
        if (!kw__field_set(&device_field, &device, &name, &run->arena) || position < 0 ||
            (uint64_t)position >= run->num_windows) {
            status = fail_damaged(store, run, "a reading", err);
            break;
        }
        for (int q = 0; q < KW__NUM_QUANTITIES && !status; q++, at += 5)
            status = get_reading(store, run, get, at, kw__quantity_of(&run->windows[position], q, device),
                                 &last, err);
        if (status) break;
    }
    return status;
}

static kw_status get_settings(struct kw__store *store, struct kw__run *run, kw_error *err)
{
    sqlite3_stmt *get;
    bool more;
    kw_status status;
    while (!(status = kw__db_next_of(store, KW__SQL_GET_SETTINGS, run->id, &get, &more, err)) && more) {
        const char *name = (const char *)sqlite3_column_text(get, 1);
        const char *value = (const char *)sqlite3_column_text(get, 2);
        status = name && value ? kw__run_set(run, name, value, err) : kw__fail_memory(err);
        if (status) break;
    }
    return status;
}

static kw_status get_parts(struct kw__store *store, struct kw__run *run, kw_error *err)
{
    void *windows = NULL, *channels = NULL, *details = NULL;
    kw_status status = get_rows(store, KW__SQL_GET_WINDOWS, run, &kw__window_fields, &windows,
                                &run->num_windows, sizeof *run->windows, err);
    run->windows = windows;
    if (!status) status = get_readings(store, run, err);
    if (!status && (store->parts & KW__PART_CHANNELS))
        status = get_rows(store, KW__SQL_GET_CHANNELS, run, &kw__channel_fields, &channels,
                          &run->num_channels, sizeof *run->channels, err);
    run->channels = channels;
    if (!status && (store->parts & KW__PART_DETAILS))
        status = get_rows(store, KW__SQL_GET_DETAILS, run, &kw__detail_fields, &details, &run->num_details,
                          sizeof *run->details, err);
    run->details = details;
    if (!status && (store->parts & KW__PART_SETTINGS)) status = get_settings(store, run, err);
    if (!status && run->arena.failed) status = kw__fail_memory(err);
    if (!status && check(run, NULL)) status = fail_damaged(store, run, "its windows", err);
    return status;
}

static kw_status get(struct kw__store *store, int64_t id, struct kw__run **out, kw_error *err)
{
    sqlite3_stmt *row;
    bool more;
    kw_status status = kw__db_next_of(store, KW__SQL_GET_RUN, id, &row, &more, err);
    if (status || !more) return status;
    struct kw__run *run = kw__run_blank();
    if (run) {
        run->id = id;
        status = read_fields(store, run, row, &kw__run_fields, run, err);
    } else
        status = kw__fail_memory(err);
    if (!status) status = get_parts(store, run, err);
    if (status)
        kw__run_free(run);
    else
        *out = run;
    return status;
}

kw_status kw__rows_get(struct kw__store *store, int64_t id, struct kw__run **out, kw_error *err)
{
    *out = NULL;
    kw_status status = get(store, id, out, err);
    if (status || !store->last_run) kw__db_end_rows(store);
    return status;
}
