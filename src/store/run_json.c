#include "store/run_json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "base/time.h"
#include "store/fields.h"

/* ---- Writing ----------------------------------------------------------------------------------------- */

/* Export is bound by how fast its text is made: constant parts are written with their length. */
#define PUT(out, literal) kw__out_write(out, literal, sizeof(literal) - 1)

/* Bytes that need no escape: of most texts all. */
static size_t plain_bytes(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\') at++;
    return (size_t)(at - (const unsigned char *)text);
}

/* A JSON string, or null. What is not UTF-8 is replaced. */
static void put_string(struct kw__out *out, const char *text)
{
    if (!text) {
        PUT(out, "null");
        return;
    }
    size_t plain = plain_bytes(text), length = plain + strlen(text + plain), from = 0, used;
    PUT(out, "\"");
    for (size_t i = plain; i < length; i += used) {
        uint32_t code = (unsigned char)text[i];
        used = 1;
        if (code >= 0x80) used = kw__utf8_decode(text + i, length - i, &code);
        bool bad = code == 0xFFFD && used == 1;
        if (code >= 0x20 && code != '"' && code != '\\' && !bad) continue;
        kw__out_write(out, text + from, i - from);
        from = i + used;
        if (bad)
            kw__out_puts(out, "\xEF\xBF\xBD");
        else if (code == '"' || code == '\\')
            kw__out_printf(out, "\\%c", (char)code);
        else if (code == '\n')
            kw__out_puts(out, "\\n");
        else
            kw__out_printf(out, "\\u%04x", (unsigned)code);
    }
    kw__out_write(out, text + from, length - from);
    kw__out_write(out, "\"", 1);
}

static void put_number(struct kw__out *out, double value)
{
    char text[KW__FORMAT_SIZE];
    if (isfinite(value))
        kw__out_write(out, text, kw__number_exact(text, value));
    else
        PUT(out, "null");
}

static void put_whole(struct kw__out *out, int64_t value)
{
    char text[24], *at = text + sizeof text;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0) *--at = '-';
    kw__out_write(out, at, (size_t)(text + sizeof text - at));
}

/* "name": value for each field, with a comma before all but the first. */
static void put_fields(struct kw__out *out, const struct kw__fields *fields, const void *base, bool first)
{
    for (size_t i = 0; i < fields->count; i++, first = false) {
        struct kw__field_value value = kw__field_get(&fields->fields[i], base);
        const struct kw__field *field = &fields->fields[i];
        size_t comma = first ? 2 : 0;
        kw__out_write(out, field->member + comma, field->member_bytes - comma);
        switch (value.type) {
        case KW__VALUE_NONE: PUT(out, "null"); break;
        case KW__VALUE_TEXT: put_string(out, value.text); break;
        case KW__VALUE_WHOLE: put_whole(out, value.whole); break;
        case KW__VALUE_REAL: put_number(out, value.real); break;
        }
    }
}

static void put_reading(struct kw__out *out, const kw_reading *r)
{
    if (r->status == KW_ABSENT) {
        if (!r->reason) {
            PUT(out, "null");
            return;
        }
        PUT(out, "{\"value\": null, \"reason\": ");
        put_string(out, r->reason);
        PUT(out, "}");
        return;
    }
    PUT(out, "{\"value\": ");
    put_number(out, r->value);
    PUT(out, ", \"low\": ");
    put_number(out, r->low);
    PUT(out, ", \"high\": ");
    put_number(out, r->high);
    PUT(out, ", \"status\": \"");
    kw__out_puts(out, kw__reading_status_name(r->status));
    PUT(out, "\"}");
}

static void put_window(struct kw__out *out, const struct kw__run_window *window)
{
    PUT(out, "{");
    put_fields(out, &kw__window_fields, window, true);
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
        PUT(out, ", \"");
        kw__out_puts(out, kw__quantities[q].name);
        PUT(out, "\": {");
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            kw__out_puts(out, d ? ", \"" : "\"");
            kw__out_puts(out, kw_device_name(d));
            PUT(out, "\": ");
            put_reading(out, kw__quantity_of(window, q, d));
        }
        PUT(out, "}");
    }
    PUT(out, "}");
}

static void put_finding(struct kw__out *out, const struct kw__finding *finding)
{
    const struct {
        const char *name, *value;
    } members[] = {{"code", finding->code},
                   {"window", finding->window},
                   {"message", finding->message},
                   {"advice", finding->advice}};
    kw__out_puts(out, "{");
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        kw__out_printf(out, "\"%s\": ", members[i].name);
        put_string(out, members[i].value);
        kw__out_puts(out, ", ");
    }
    kw__out_printf(out, "\"excludes\": %s}", finding->excludes ? "true" : "false");
}

void kw__run_put_json(struct kw__out *out, const struct kw__run *run, int64_t id,
                      const struct kw__finding *findings, size_t num_findings)
{
    kw__out_puts(out, "{");
    if (id) kw__out_printf(out, "\"id\": %" PRId64 ", ", id);
    put_fields(out, &kw__run_fields, run, true);
    kw__out_puts(out, ", \"settings\": {");
    for (size_t i = 0; i < run->num_settings; i++) {
        if (i) kw__out_puts(out, ", ");
        put_string(out, run->settings[i].name);
        kw__out_puts(out, ": ");
        put_string(out, run->settings[i].value);
    }
    kw__out_puts(out, "}, \"channels\": [");
    for (size_t i = 0; i < run->num_channels; i++) {
        kw__out_puts(out, i ? ", {" : "{");
        put_fields(out, &kw__channel_fields, &run->channels[i], true);
        kw__out_puts(out, "}");
    }
    kw__out_puts(out, "], \"windows\": [");
    for (size_t i = 0; i < run->num_windows; i++) {
        if (i) kw__out_puts(out, ", ");
        put_window(out, &run->windows[i]);
    }
    kw__out_puts(out, "], \"details\": [");
    for (size_t i = 0; i < run->num_details; i++) {
        kw__out_puts(out, i ? ", {" : "{");
        put_fields(out, &kw__detail_fields, &run->details[i], true);
        kw__out_puts(out, "}");
    }
    kw__out_puts(out, "], \"findings\": [");
    for (size_t i = 0; i < num_findings; i++) {
        if (i) kw__out_puts(out, ", ");
        put_finding(out, &findings[i]);
    }
    kw__out_puts(out, "]}");
}

/* ---- Reading ----------------------------------------------------------------------------------------- */

static kw_status fail_key(const char *key, kw_error *err)
{
    return kw__fail(err, KW_ERROR_FORMAT, "\"%s\" is missing or not what it must be", key);
}

static kw_status read_fields(const json_t *object, const struct kw__fields *fields, void *base,
                             struct kw__arena *arena, kw_error *err)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct kw__field *field = &fields->fields[i];
        const json_t *member = json_object_get(object, field->name);
        struct kw__field_value value = {.type = KW__VALUE_NONE};
        bool good = true;
        if (json_is_string(member))
            value = (struct kw__field_value){.type = KW__VALUE_TEXT, .text = json_string_value(member)};
        else if (json_is_integer(member))
            value = (struct kw__field_value){.type = KW__VALUE_WHOLE, .whole = json_integer_value(member)};
        else if (json_is_real(member))
            value = (struct kw__field_value){.type = KW__VALUE_REAL, .real = json_real_value(member)};
        else
            good = !member || json_is_null(member);
        if (!good || !kw__field_set(field, base, &value, arena)) return fail_key(field->name, err);
    }
    return KW_OK;
}

/* Null is NaN; false: no number. */
static bool read_number(const json_t *value, double *out)
{
    *out = json_is_number(value) ? json_number_value(value) : NAN;
    return !value || json_is_null(value) || json_is_number(value);
}

static bool read_reading(const json_t *value, kw_reading *out, struct kw__arena *arena)
{
    *out = (kw_reading){NAN, NAN, NAN, KW_ABSENT, NULL};
    if (!value || json_is_null(value)) return true;
    const char *reason = json_string_value(json_object_get(value, "reason"));
    if (reason) out->reason = kw__arena_strdup(arena, reason);
    return json_is_object(value) && read_number(json_object_get(value, "value"), &out->value) &&
           read_number(json_object_get(value, "low"), &out->low) &&
           read_number(json_object_get(value, "high"), &out->high) &&
           kw__reading_status_parse(json_string_value(json_object_get(value, "status")), &out->status);
}

static kw_status read_readings(const json_t *object, struct kw__run_window *window, struct kw__arena *arena,
                               kw_error *err)
{
    for (int q = 0; q < KW__NUM_QUANTITIES; q++)
        for (int d = 0; d < KW_NUM_DEVICES; d++) {
            const json_t *readings = json_object_get(object, kw__quantities[q].name);
            if (!read_reading(json_object_get(readings, kw_device_name(d)), kw__quantity_of(window, q, d),
                              arena))
                return fail_key(kw__quantities[q].name, err);
        }
    return KW_OK;
}

/* The array of this key as elements of the arena; none when it is not there. */
static kw_status read_array(const json_t *object, const char *key, const struct kw__fields *fields,
                            size_t size, void **elements, size_t *count, struct kw__arena *arena,
                            kw_error *err)
{
    const json_t *array = json_object_get(object, key);
    if (array && !json_is_array(array)) return fail_key(key, err);
    *count = json_array_size(array);
    *elements = kw__arena_alloc(arena, *count, size);
    if (!*elements) return kw__fail_memory(err);
    for (size_t i = 0; i < *count; i++) {
        const json_t *element = json_array_get(array, i);
        if (!json_is_object(element)) return fail_key(key, err);
        kw_status status = read_fields(element, fields, (char *)*elements + i * size, arena, err);
        if (status) return status;
    }
    return KW_OK;
}

static kw_status read_settings(const json_t *object, struct kw__run *run, kw_error *err)
{
    const json_t *settings = json_object_get(object, "settings");
    const char *name;
    json_t *value;
    if (settings && !json_is_object(settings)) return fail_key("settings", err);
    json_object_foreach((json_t *)settings, name, value)
    {
        kw_status status = json_is_string(value) ? kw__run_set(run, name, json_string_value(value), err)
                                                 : fail_key(name, err);
        if (status) return status;
    }
    return KW_OK;
}

static kw_status read_findings(const json_t *object, struct kw__run *run, struct kw__finding **findings,
                               size_t *count, kw_error *err)
{
    const json_t *array = json_object_get(object, "findings");
    *count = json_array_size(array);
    *findings = NULL;
    if (!array) return KW_OK;
    *findings = kw__arena_alloc(&run->arena, *count, sizeof **findings);
    if (!*findings) return kw__fail_memory(err);
    for (size_t i = 0; i < *count; i++) {
        const json_t *element = json_array_get(array, i), *excludes = json_object_get(element, "excludes");
        const char *const texts[] = {json_string_value(json_object_get(element, "code")),
                                     json_string_value(json_object_get(element, "message")),
                                     json_string_value(json_object_get(element, "advice")),
                                     json_string_value(json_object_get(element, "window"))};
        if (!texts[0] || !texts[1] || !texts[2] || !json_is_boolean(excludes))
            return fail_key("findings", err);
        (*findings)[i] =
            (struct kw__finding){.code = kw__arena_strdup(&run->arena, texts[0]),
                                 .message = kw__arena_strdup(&run->arena, texts[1]),
                                 .advice = kw__arena_strdup(&run->arena, texts[2]),
                                 .window = texts[3] ? kw__arena_strdup(&run->arena, texts[3]) : NULL,
                                 .excludes = json_is_true(excludes)};
    }
    return KW_OK;
}

static bool is_uuid(const char *text)
{
    static const char pattern[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    if (!text || strlen(text) != sizeof pattern - 1) return false;
    for (size_t i = 0; pattern[i]; i++)
        if (pattern[i] == '-' ? text[i] != '-' : !strchr("0123456789abcdef", text[i])) return false;
    return true;
}

static kw_status check(const struct kw__run *run, kw_error *err)
{
    if (!is_uuid(run->uuid)) return fail_key("uuid", err);
    double began_s;
    if (!run->began || !kw__time_parse(run->began, &began_s)) return fail_key("began", err);
    if (!run->kind) return fail_key("kind", err);
    for (size_t i = 0; i < run->num_windows; i++)
        if (!run->windows[i].name || run->windows[i].parent < -1 || run->windows[i].parent >= (int64_t)i)
            return fail_key("windows", err);
    for (size_t i = 0; i < run->num_channels; i++)
        if (!run->channels[i].source) return fail_key("channels", err);
    for (size_t i = 0; i < run->num_details; i++)
        if (run->details[i].window >= run->num_windows || run->details[i].channel >= run->num_channels)
            return fail_key("details", err);
    return KW_OK;
}

static kw_status read_parts(const json_t *object, struct kw__run *run, kw_error *err)
{
    void *windows = NULL, *channels = NULL, *details = NULL;
    kw_status status = read_fields(object, &kw__run_fields, run, &run->arena, err);
    if (!status)
        status = read_array(object, "windows", &kw__window_fields, sizeof *run->windows, &windows,
                            &run->num_windows, &run->arena, err);
    run->windows = windows;
    for (size_t i = 0; i < run->num_windows && !status; i++)
        status = read_readings(json_array_get(json_object_get(object, "windows"), i), &run->windows[i],
                               &run->arena, err);
    if (!status)
        status = read_array(object, "channels", &kw__channel_fields, sizeof *run->channels, &channels,
                            &run->num_channels, &run->arena, err);
    run->channels = channels;
    if (!status)
        status = read_array(object, "details", &kw__detail_fields, sizeof *run->details, &details,
                            &run->num_details, &run->arena, err);
    run->details = details;
    if (!status) status = read_settings(object, run, err);
    if (!status && run->arena.failed) status = kw__fail_memory(err);
    return status ? status : check(run, err);
}

kw_status kw__run_from_json(const json_t *object, struct kw__run **out, struct kw__finding **findings,
                            size_t *num_findings, kw_error *err)
{
    if (!json_is_object(object)) return kw__fail(err, KW_ERROR_FORMAT, "a run must be a JSON object");
    struct kw__run *run = kw__run_blank();
    if (!run) return kw__fail_memory(err);
    kw_status status = read_parts(object, run, err);
    if (!status) status = read_findings(object, run, findings, num_findings, err);
    if (!status && run->arena.failed) status = kw__fail_memory(err);
    if (status)
        kw__run_free(run);
    else
        *out = run;
    return status;
}
