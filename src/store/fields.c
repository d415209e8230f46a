#include "store/fields.h"

#include <math.h>
#include <string.h>

#define OF(type, field) offsetof(struct type, field)
#define FIELD(name, kind, offset)                                                                            \
    {                                                                                                        \
        name, ", \"" name "\": ", sizeof(", \"" name "\": ") - 1, KW__FIELD_##kind, offset                   \
    }
#define RUN(kind, field) FIELD(#field, kind, OF(kw__run, field))
#define REQUEST(kind, field) FIELD(#field, kind, OF(kw__run, request.field))
#define PREDICTED(name, device) FIELD(name, REAL, OF(kw__run, predicted_energy_j) + (device) * sizeof(double))
#define WINDOW(kind, field) FIELD(#field, kind, OF(kw__run_window, field))
#define CHANNEL(kind, field) FIELD(#field, kind, OF(kw__run_channel, field))
#define DETAIL(kind, field) FIELD(#field, kind, OF(kw__run_detail, field))

static const struct kw__field run_fields[] = {
    RUN(TEXT, uuid),
    RUN(TEXT, began),
    RUN(TEXT, kind),
    RUN(TEXT, state),
    RUN(TEXT, session),
    RUN(TEXT, dataset),
    RUN(TEXT, sweep),
    RUN(INDEX, point),
    RUN(INDEX, repeat),
    RUN(FLAG, anchor),
    RUN(TEXT, model),
    RUN(TEXT, what),
    RUN(TEXT, hardware),
    RUN(TEXT, stack),
    RUN(TEXT, weights),
    RUN(TEXT, source),
    RUN(TEXT, note),
    REQUEST(COUNT, width),
    REQUEST(COUNT, height),
    REQUEST(COUNT, num_frames),
    REQUEST(COUNT, num_frames_asked),
    REQUEST(COUNT, num_inference_steps),
    REQUEST(COUNT, batch_size),
    REQUEST(COUNT, prompt_tokens),
    REQUEST(COUNT, negative_tokens),
    REQUEST(COUNT, num_gpus),
    REQUEST(REAL, guidance_scale),
    REQUEST(REAL, fps),
    REQUEST(REAL, flow_shift),
    RUN(REAL, predicted_latency_s),
    PREDICTED("predicted_gpu_energy_j", KW_GPU),
    PREDICTED("predicted_cpu_energy_j", KW_CPU),
    PREDICTED("predicted_ram_energy_j", KW_RAM),
};

static const struct kw__field window_fields[] = {
    WINDOW(TEXT, name),          WINDOW(INDEX, parent), WINDOW(REAL, begin_s), WINDOW(REAL, duration_s),
    WINDOW(WHOLE, failed_reads), WINDOW(REAL, gap_s),   WINDOW(TEXT, note),
};

static const struct kw__field channel_fields[] = {
    CHANNEL(TEXT, source),   CHANNEL(TEXT, label),   CHANNEL(TEXT, name),
    CHANNEL(DEVICE, device), CHANNEL(REAL, limit_w), CHANNEL(TEXT, note),
};

static const struct kw__field detail_fields[] = {
    /* struct kw__run_detail's "window" is a position */
    DETAIL(SIZE, window),
    DETAIL(SIZE, channel),
    DETAIL(METHOD, method),
    DETAIL(FLAGS, flags),
    DETAIL(REAL, energy_j),
    DETAIL(REAL, by_counter_j),
    DETAIL(REAL, by_power_j),
    DETAIL(WHOLE, samples),
    DETAIL(REAL, sm_clock_mhz),
    DETAIL(REAL, memory_clock_mhz),
    DETAIL(REAL, temperature_c),
    DETAIL(REAL, lowest_sm_clock_mhz),
    DETAIL(REAL, highest_temperature_c),
    DETAIL(THROTTLE, throttle_reasons),
    DETAIL(INDEX, other_processes),
};

#define FIELDS(array)                                                                                        \
    {                                                                                                        \
        array, sizeof(array) / sizeof((array)[0])                                                            \
    }
const struct kw__fields kw__run_fields = FIELDS(run_fields), kw__window_fields = FIELDS(window_fields),
                        kw__channel_fields = FIELDS(channel_fields),
                        kw__detail_fields = FIELDS(detail_fields);

const struct kw__quantity kw__quantities[KW__NUM_QUANTITIES] = {
    {"energy_j", OF(kw__run_window, energy_j)},
    {"power_w", OF(kw__run_window, power_w)},
    {"max_power_w", OF(kw__run_window, max_power_w)},
    {"idle_power_w", OF(kw__run_window, idle_power_w)},
};

kw_reading *kw__quantity_of(const struct kw__run_window *window, int quantity, int device)
{
    return (kw_reading *)((const char *)window + kw__quantities[quantity].offset) + device;
}

static const char *const methods[] = {
    [KW_METER_NONE] = NULL, [KW_METER_BY_COUNTER] = "counter", [KW_METER_BY_POWER] = "power"};
static const char *const statuses[] = {
    [KW_ABSENT] = NULL, [KW_MODELLED] = "modelled", [KW_MEASURED] = "measured"};

/* The index of a name; 0 for NULL, -1 when it is none of them. */
static int look_up(const char *const *names, int count, const char *name)
{
    if (!name) return 0;
    for (int i = 1; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

const char *kw__reading_status_name(kw_reading_status status)
{
    return statuses[status];
}

bool kw__reading_status_parse(const char *name, kw_reading_status *out)
{
    int found = look_up(statuses, sizeof statuses / sizeof statuses[0], name);
    if (found >= 0) *out = (kw_reading_status)found;
    return found >= 0;
}

static struct kw__field_value none(void)
{
    return (struct kw__field_value){.type = KW__VALUE_NONE};
}

static struct kw__field_value text(const char *value)
{
    return value ? (struct kw__field_value){.type = KW__VALUE_TEXT, .text = value} : none();
}

static struct kw__field_value whole(int64_t value)
{
    return (struct kw__field_value){.type = KW__VALUE_WHOLE, .whole = value};
}

struct kw__field_value kw__field_get(const struct kw__field *field, const void *base)
{
    const void *at = (const char *)base + field->offset;
    const struct kw__run_detail *detail = base;
    switch (field->kind) {
    case KW__FIELD_TEXT: return text(*(const char *const *)at);
    case KW__FIELD_COUNT: return *(const int64_t *)at == 0 ? none() : whole(*(const int64_t *)at);
    case KW__FIELD_INDEX: return *(const int64_t *)at == -1 ? none() : whole(*(const int64_t *)at);
    case KW__FIELD_WHOLE: return whole(*(const int64_t *)at);
    case KW__FIELD_SIZE: return whole((int64_t) * (const size_t *)at);
    case KW__FIELD_REAL:
        if (isnan(*(const double *)at)) return none();
        return (struct kw__field_value){.type = KW__VALUE_REAL, .real = *(const double *)at};
    case KW__FIELD_FLAG: return whole(*(const bool *)at);
    case KW__FIELD_FLAGS: return whole(*(const unsigned *)at);
    case KW__FIELD_DEVICE: return text(kw_device_name(*(const int *)at));
    case KW__FIELD_METHOD: return text(methods[*(const kw_meter_method *)at]);
    case KW__FIELD_THROTTLE:
        return detail->throttle_known ? whole((int64_t)detail->throttle_reasons) : none();
    }
    return none();
}

void kw__fields_own(const struct kw__fields *fields, void *base, struct kw__arena *arena)
{
    for (size_t i = 0; i < fields->count; i++) {
        const char **at = (const char **)((char *)base + fields->fields[i].offset);
        if (fields->fields[i].kind == KW__FIELD_TEXT && *at) *at = kw__arena_strdup(arena, *at);
    }
}

static bool set_text(const struct kw__field *field, void *at, const char *name, struct kw__arena *arena)
{
    int found;
    switch (field->kind) {
    case KW__FIELD_TEXT: *(const char **)at = name ? kw__arena_strdup(arena, name) : NULL; return true;
    case KW__FIELD_METHOD:
        found = look_up(methods, sizeof methods / sizeof methods[0], name);
        if (found >= 0) *(kw_meter_method *)at = (kw_meter_method)found;
        return found >= 0;
    default:
        for (int d = 0; name && d < KW_NUM_DEVICES; d++)
            if (strcmp(kw_device_name(d), name) == 0) {
                *(int *)at = d;
                return true;
            }
        return false;
    }
}

static bool set_whole(const struct kw__field *field, void *base, int64_t value)
{
    void *at = (char *)base + field->offset;
    struct kw__run_detail *detail = base;
    switch (field->kind) {
    case KW__FIELD_FLAG: *(bool *)at = value != 0; return value == 0 || value == 1;
    case KW__FIELD_FLAGS: *(unsigned *)at = (unsigned)value; return value >= 0 && value <= UINT32_MAX;
    case KW__FIELD_SIZE: *(size_t *)at = (size_t)value; return value >= 0;
    case KW__FIELD_THROTTLE:
        detail->throttle_reasons = (uint64_t)value;
        detail->throttle_known = true;
        return true;
    case KW__FIELD_COUNT: *(int64_t *)at = value; return value > 0;
    default: *(int64_t *)at = value; return true;
    }
}

/* What an absent value leaves; false: the field must be there. */
static bool set_none(const struct kw__field *field, void *base)
{
    void *at = (char *)base + field->offset;
    struct kw__run_detail *detail = base;
    switch (field->kind) {
    case KW__FIELD_COUNT: *(int64_t *)at = 0; return true;
    case KW__FIELD_INDEX: *(int64_t *)at = -1; return true;
    case KW__FIELD_REAL: *(double *)at = NAN; return true;
    case KW__FIELD_THROTTLE: detail->throttle_known = false; return true;
    default: return false;
    }
}

bool kw__field_set(const struct kw__field *field, void *base, const struct kw__field_value *value,
                   struct kw__arena *arena)
{
    void *at = (char *)base + field->offset;
    bool is_text =
        field->kind == KW__FIELD_TEXT || field->kind == KW__FIELD_METHOD || field->kind == KW__FIELD_DEVICE;
    if (is_text)
        return (value->type == KW__VALUE_TEXT || value->type == KW__VALUE_NONE) &&
               set_text(field, at, value->type == KW__VALUE_TEXT ? value->text : NULL, arena);
    if (value->type == KW__VALUE_NONE) return set_none(field, base);
    if (value->type == KW__VALUE_TEXT) return false;
    if (field->kind == KW__FIELD_REAL) {
        *(double *)at = value->type == KW__VALUE_REAL ? value->real : (double)value->whole;
        return true;
    }
    return value->type == KW__VALUE_WHOLE && set_whole(field, base, value->whole);
}
