/* A prediction as JSON, schema kinowatt.prediction/1. Absent figures are null, with the reason beside. */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "kinowatt.h"

/* What json_pack, json_real or json_dumps could not allocate is NULL; a builder remembers that in *bad
 * and goes on. */
static void put(bool *bad, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) *bad = true;
}

static void append(bool *bad, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) != 0) *bad = true;
}

/* JSON is UTF-8, a folder's path may not be: then its bytes beyond ASCII become '?'. */
static json_t *string(const char *text)
{
    json_t *value = json_string(text);
    char ascii[1024];
    if (value || !text) return value;
    snprintf(ascii, sizeof ascii, "%s", text);
    for (char *c = ascii; *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    return json_string(ascii);
}

static json_t *number(double value)
{
    if (!isfinite(value)) return json_null();
    bool exact = value == floor(value) && fabs(value) < 9007199254740992.0; /* 2^53 */
    return exact ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *reading(const kw_reading *r)
{
    if (r->status == KW_ABSENT) return json_null();
    return json_pack("{s:o, s:o, s:o, s:s}", "value", number(r->value), "low", number(r->low), "high",
                     number(r->high), "status", r->status == KW_MEASURED ? "measured" : "modelled");
}

static json_t *scaled(const kw_reading *r, double factor)
{
    kw_reading s = *r;
    s.value *= factor;
    s.low *= factor;
    s.high *= factor;
    return reading(&s);
}

static json_t *by_device(bool *bad, const kw_cost *cost, double factor)
{
    json_t *object = json_object();
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        put(bad, object, kw_device_name(d), scaled(&cost->energy_j[d], factor));
    return object;
}

/* Why figures are absent, by device; nothing when none is. */
static void add_absent(bool *bad, json_t *object, const kw_cost *cost)
{
    json_t *reasons = json_object();
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        if (cost->energy_j[d].status == KW_ABSENT)
            put(bad, reasons, kw_device_name(d), json_string(cost->energy_j[d].reason));
    if (json_object_size(reasons))
        put(bad, object, "absent", reasons);
    else
        json_decref(reasons);
}

static json_t *cost_json(bool *bad, const kw_cost *cost)
{
    json_t *object = json_object();
    put(bad, object, "name", json_string(cost->name));
    if (cost->phases) {
        json_t *phases = json_array();
        for (size_t i = 0; i < cost->num_phases; i++)
            append(bad, phases,
                   json_pack("{s:s, s:I, s:o}", "name", cost->phases[i].name, "calls",
                             (json_int_t)cost->phases[i].calls, "flop", number(cost->phases[i].flop)));
        put(bad, object, "phases", phases);
    }
    put(bad, object, "flop", number(cost->flop));
    put(bad, object, "flop_executed", number(cost->flop_executed));
    put(bad, object, "flop_linear", number(cost->flop_linear));
    put(bad, object, "flop_attention", number(cost->flop_attention));
    put(bad, object, "flop_conv", number(cost->flop_conv));
    put(bad, object, "bytes", number(cost->bytes));
    put(bad, object, "launches", number(cost->launches));
    put(bad, object, "regime", json_string(kw_regime_name(cost->regime)));
    put(bad, object, "latency_s", reading(&cost->latency_s));
    put(bad, object, "power_w", reading(&cost->power_w));
    put(bad, object, "energy_j", by_device(bad, cost, 1));
    add_absent(bad, object, cost);
    return object;
}

static json_t *costs_json(bool *bad, const kw_cost *costs, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) append(bad, array, cost_json(bad, &costs[i]));
    return array;
}

static json_t *request_json(bool *bad, const kw_effective *r)
{
    json_t *object = json_object();
    const struct {
        const char *name;
        int64_t value;
    } ints[] = {{"width", r->width},
                {"height", r->height},
                {"num_frames", r->num_frames},
                {"requested_width", r->requested_width},
                {"requested_height", r->requested_height},
                {"requested_frames", r->requested_frames},
                {"num_inference_steps", r->num_inference_steps},
                {"guidance_passes", r->guidance_passes},
                {"batch_size", r->batch_size},
                {"prompt_tokens", r->prompt_tokens},
                {"negative_tokens", r->negative_tokens},
                {"text_tokens", r->text_tokens},
                {"latent_channels", r->latent_channels},
                {"latent_frames", r->latent_frames},
                {"latent_height", r->latent_height},
                {"latent_width", r->latent_width},
                {"tokens", r->tokens},
                {"num_gpus", 1}};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++)
        put(bad, object, ints[i].name, json_integer(ints[i].value));
    put(bad, object, "guidance_scale", number(r->guidance_scale));
    if (!isnan(r->guidance_scale_2)) put(bad, object, "guidance_scale_2", number(r->guidance_scale_2));
    put(bad, object, "flow_shift", number(r->flow_shift));
    put(bad, object, "fps", number(r->fps));
    put(bad, object, "power_limit_w", number(r->power_limit_w));
    return object;
}

static json_t *texts(bool *bad, const char *const *list, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) append(bad, array, string(list[i]));
    return array;
}

static json_t *published_json(bool *bad, const kw_prediction *p)
{
    json_t *array = json_array();
    for (size_t i = 0; i < p->num_published; i++) {
        const kw_published *row = &p->published[i];
        json_t *object = json_object(), *energy = json_object();
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            put(bad, energy, kw_device_name(d), number(row->energy_wh[d]));
        put(bad, object, "source", json_string(row->source));
        put(bad, object, "gpu", json_string(row->gpu));
        put(bad, object, "hardware", row->hardware ? json_string(row->hardware) : json_null());
        put(bad, object, "requested_frames", json_integer(row->requested_frames));
        put(bad, object, "latency_s", number(row->latency_s));
        put(bad, object, "energy_wh", energy);
        append(bad, array, object);
    }
    return array;
}

static json_t *prediction_json(bool *bad, const kw_prediction *p)
{
    json_t *total = cost_json(bad, &p->total), *root = json_object();
    put(bad, total, "energy_wh", by_device(bad, &p->total, 1.0 / 3600));
    put(bad, total, "peak_memory_bytes", reading(&p->peak_memory_bytes));
    put(bad, root, "schema", json_string("kinowatt.prediction/1"));
    put(bad, root, "version", json_string(kw_version()));
    put(bad, root, "model", string(p->model));
    put(bad, root, "hardware", string(p->hardware));
    put(bad, root, "stack", json_string(p->stack));
    put(bad, root, "calibration", p->calibration ? json_string(p->calibration) : json_null());
    put(bad, root, "method", json_string(kw_method_name(p->method)));
    put(bad, root, "request", request_json(bad, &p->request));
    put(bad, root, "stages", costs_json(bad, p->stages, p->num_stages));
    put(bad, root, "components", costs_json(bad, p->components, p->num_components));
    put(bad, root, "total", total);
    put(bad, root, "published", published_json(bad, p));
    put(bad, root, "assumptions", texts(bad, p->assumptions, p->num_assumptions));
    put(bad, root, "warnings", texts(bad, p->warnings, p->num_warnings));
    return root;
}

/* jansson 2.14 goes on when the key of an object could not be written; the buffer remembers. */
struct buffer {
    char *text;
    size_t length, capacity;
    bool failed;
};

static int write_to(const char *bytes, size_t count, void *data)
{
    struct buffer *b = data;
    size_t wanted = b->length + count + 1;
    if (!b->failed && wanted > b->capacity) {
        size_t capacity = 2 * wanted;
        char *bigger = realloc(b->text, capacity);
        b->failed = !bigger;
        if (bigger) {
            b->text = bigger;
            b->capacity = capacity;
        }
    }
    if (b->failed) return -1;
    memcpy(b->text + b->length, bytes, count);
    b->length += count;
    b->text[b->length] = '\0';
    return 0;
}

kw_status kw_prediction_to_json(const kw_prediction *prediction, char **out, kw_error *err)
{
    kw__error_clear(err);
    bool bad = false;
    struct buffer buffer = {NULL, 0, 0, false};
    json_t *root = prediction_json(&bad, prediction);
    if (!bad && json_dump_callback(root, write_to, &buffer, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) != 0)
        bad = true;
    if (!bad) write_to("\n", 1, &buffer);
    json_decref(root);
    if (bad || buffer.failed) {
        free(buffer.text);
        return kw__fail_memory(err);
    }
    *out = buffer.text;
    return KW_OK;
}
