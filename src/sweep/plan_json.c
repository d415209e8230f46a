/* Plans as JSON, schema kinowatt.sweep/1. What a plan asks for stands under "asked", which so can be compared
 * and hashed alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "sweep/plan.h"

#define SCHEMA "kinowatt.sweep/1"
#define AT(field) offsetof(struct kw__sweep_options, field)

enum { MOST = 1 << 20 };

/* The fields of the options that are kept as they are. */
static const struct {
    const char *key;
    size_t at;
    enum { TEXT, WHOLE, NUMBER } kind;
} fields[] = {
    {"model", AT(model), TEXT},
    {"hardware", AT(hardware), TEXT},
    {"stack", AT(stack), TEXT},
    {"calibration", AT(calibration), TEXT},
    {"power_limit_w", AT(power_limit_w), NUMBER},
    {"prompt", AT(prompt), TEXT},
    {"negative_prompt", AT(negative_prompt), TEXT},
    {"device", AT(device), TEXT},
    {"dtype", AT(dtype), TEXT},
    {"weights", AT(weights), TEXT},
    {"meter", AT(meter), TEXT},
    {"window", AT(window), TEXT},
    {"warmup", AT(warmup), WHOLE},
    {"repeats", AT(repeats), WHOLE},
    {"max_repeats", AT(max_repeats), WHOLE},
    {"until", AT(until), NUMBER},
    {"idle_s", AT(idle_s), NUMBER},
    {"tasks", AT(tasks), WHOLE},
};
enum { NUM_FIELDS = sizeof fields / sizeof fields[0] };

/* ---- Writing --------------------------------------------------------------------------------------- */

/* What is not UTF-8 or could not be allocated is NULL, which no set or append takes: *bad remembers. */
static void put(bool *bad, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value)) *bad = true;
}

static json_t *texts_json(bool *bad, const char *const *texts, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(array, json_string(texts[i]))) *bad = true;
    return array;
}

static json_t *asked_json(bool *bad, const struct kw__sweep_plan *plan)
{
    const struct kw__sweep_options *o = &plan->options;
    json_t *asked = json_object(), *axes = json_array();
    put(bad, asked, "command", o->command ? texts_json(bad, o->command, o->num_words) : json_null());
    for (size_t i = 0; i < plan->num_axes; i++) {
        const struct kw__axis *axis = &plan->axes[i];
        json_t *object = json_object();
        put(bad, object, "name", json_string(axis->name));
        put(bad, object, "values", texts_json(bad, axis->values, axis->count));
        if (json_array_append_new(axes, object)) *bad = true;
    }
    put(bad, asked, "axes", axes);
    put(bad, asked, "stages", texts_json(bad, plan->stages, plan->num_stages));
    put(bad, asked, "anchor", json_integer((json_int_t)plan->anchor));
    for (size_t i = 0; i < NUM_FIELDS; i++) {
        const char *at = (const char *)o + fields[i].at, *text;
        switch (fields[i].kind) {
        case TEXT:
            text = *(const char *const *)at;
            put(bad, asked, fields[i].key, text ? json_string(text) : json_null());
            break;
        case WHOLE: put(bad, asked, fields[i].key, json_integer(*(const int64_t *)at)); break;
        case NUMBER: put(bad, asked, fields[i].key, json_real(*(const double *)at)); break;
        }
    }
    return asked;
}

kw_status kw__sweep_plan_to_json(const struct kw__sweep_plan *plan, char **out, kw_error *err)
{
    bool bad = false;
    json_t *document = json_object();
    put(&bad, document, "schema", json_string(SCHEMA));
    /* a plan that has no uuid yet is being named after what it asks for */
    if (plan->uuid) {
        put(&bad, document, "uuid", json_string(plan->uuid));
        put(&bad, document, "name", json_string(plan->options.name));
        put(&bad, document, "folder", json_string(plan->folder));
        put(&bad, document, "order_seed", json_integer((json_int_t)plan->order_seed));
        put(&bad, document, "task", json_integer(plan->task));
    }
    put(&bad, document, "asked", asked_json(&bad, plan));
    char *text = bad ? NULL : json_dumps(document, JSON_COMPACT);
    json_decref(document);
    if (!text)
        return kw__fail(err, KW_ERROR_USAGE,
                        "the plan cannot be written down: a text of it is not UTF-8, or memory "
                        "ran out");
    *out = text;
    return KW_OK;
}

bool kw__sweep_plan_same(const struct kw__sweep_plan *a, const struct kw__sweep_plan *b)
{
    bool bad = false;
    json_t *left = asked_json(&bad, a), *right = asked_json(&bad, b);
    bool same = !bad && json_equal(left, right);
    json_decref(left);
    json_decref(right);
    return same;
}

/* ---- Reading ---------------------------------------------------------------------------------------- */

static const char *copy(struct kw__sweep_plan *plan, const char *text)
{
    return text ? kw__arena_strdup(&plan->arena, text) : NULL;
}

static kw_status read_texts(struct kw__sweep_plan *plan, struct kw__json in, const char *key,
                            const char *const **out, size_t *count, kw_error *err)
{
    const json_t *array;
    kw_status status = kw__json_array(in, key, &array, err);
    if (status) return status;
    *count = json_array_size(array);
    const char **texts = kw__arena_alloc(&plan->arena, *count + 1, sizeof *texts);
    for (size_t i = 0; texts && i < *count; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (!text) return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" must be texts", in.path, key);
        texts[i] = copy(plan, text);
    }
    *out = texts;
    return KW_OK;
}

static kw_status read_axes(struct kw__sweep_plan *plan, struct kw__json in, kw_error *err)
{
    const json_t *array;
    kw_status status = kw__json_array(in, "axes", &array, err);
    if (status) return status;
    plan->num_axes = json_array_size(array);
    plan->axes = kw__arena_alloc(&plan->arena, plan->num_axes + 1, sizeof *plan->axes);
    plan->num_points = 1;
    for (size_t i = 0; plan->axes && !status && i < plan->num_axes; i++) {
        struct kw__json object = {in.path, json_array_get(array, i)};
        struct kw__axis *axis = &plan->axes[i];
        const char *const *values = NULL;
        status = kw__json_string(object, "name", &axis->name, err);
        if (!status) status = read_texts(plan, object, "values", &values, &axis->count, err);
        if (!status && (axis->count == 0 || axis->count > MOST || plan->num_points > MOST))
            status =
                kw__fail(err, KW_ERROR_FORMAT, "%s: \"values\" of an axis are none or too many", in.path);
        if (status) break;
        axis->name = copy(plan, axis->name);
        axis->values = (const char **)values;
        plan->num_points *= axis->count;
        for (size_t k = 0; axis->name && k < KW__NUM_AXES; k++)
            if (strcmp(kw__axes[k].name, axis->name) == 0) axis->info = &kw__axes[k];
    }
    return status;
}

static kw_status read_field(struct kw__sweep_plan *plan, struct kw__json in, size_t i, kw_error *err)
{
    char *at = (char *)&plan->options + fields[i].at;
    const char *text;
    kw_status status;
    switch (fields[i].kind) {
    case TEXT:
        if (!kw__json_has(in, fields[i].key)) return KW_OK;
        status = kw__json_string(in, fields[i].key, &text, err);
        if (!status) *(const char **)at = copy(plan, text);
        return status;
    case WHOLE: return kw__json_int(in, fields[i].key, 0, INT64_MAX, (int64_t *)at, err);
    case NUMBER: break;
    }
    return kw__json_number(in, fields[i].key, 0, 1e300, (double *)at, err);
}

static kw_status read_asked(struct kw__sweep_plan *plan, struct kw__json in, kw_error *err)
{
    int64_t anchor = 0;
    kw_status status = KW_OK;
    if (kw__json_has(in, "command"))
        status = read_texts(plan, in, "command", &plan->options.command, &plan->options.num_words, err);
    if (!status) status = read_axes(plan, in, err);
    if (!status) status = read_texts(plan, in, "stages", &plan->stages, &plan->num_stages, err);
    for (size_t i = 0; !status && i < NUM_FIELDS; i++) status = read_field(plan, in, i, err);
    if (!status) status = kw__json_int(in, "anchor", 0, (int64_t)plan->num_points - 1, &anchor, err);
    if (!status && plan->task >= 0 && plan->task >= plan->options.tasks)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: there is no task %d", in.path, (int)plan->task);
    plan->anchor = (size_t)anchor;
    return status;
}

static kw_status read_plan(struct kw__sweep_plan *plan, struct kw__json in, kw_error *err)
{
    const char *schema, *uuid, *name, *folder;
    struct kw__json asked = {in.path, NULL};
    int64_t seed;
    kw_status status = kw__json_string(in, "schema", &schema, err);
    if (!status && strcmp(schema, SCHEMA) != 0)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s is of schema %.80s; this kinowatt reads %s", in.path,
                        schema, SCHEMA);
    if (!status) status = kw__json_string(in, "uuid", &uuid, err);
    if (!status) status = kw__json_string(in, "name", &name, err);
    if (!status) status = kw__json_string(in, "folder", &folder, err);
    if (!status) status = kw__json_int(in, "order_seed", 0, INT64_MAX, &seed, err);
    if (!status) status = kw__json_int(in, "task", -1, MOST, &plan->task, err);
    if (!status) status = kw__json_object(in, "asked", &asked.object, err);
    if (!status) status = read_asked(plan, asked, err);
    if (status) return status;
    plan->uuid = copy(plan, uuid);
    plan->folder = copy(plan, folder);
    plan->options.name = copy(plan, name);
    plan->order_seed = (uint64_t)seed;
    return plan->arena.failed ? kw__fail_memory(err) : KW_OK;
}

kw_status kw__sweep_plan_from_json(const char *text, struct kw__sweep_plan **out, kw_error *err)
{
    json_t *root;
    kw_status status = kw__json_text(text, "the sweep's plan", &root, err);
    if (status) return status;
    struct kw__sweep_plan *plan = NULL;
    if (!json_is_object(root))
        status = kw__fail(err, KW_ERROR_FORMAT, "the sweep's plan does not hold a JSON object");
    else if (!(plan = calloc(1, sizeof *plan)))
        status = kw__fail_memory(err);
    if (!status) {
        kw__arena_init(&plan->arena);
        status = read_plan(plan, (struct kw__json){"the sweep's plan", root}, err);
    }
    json_decref(root);
    if (status)
        kw__sweep_plan_free(plan);
    else
        *out = plan;
    return status;
}
