#include "hardware/hardware.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/json.h"
#include "model/catalog.h"

void kw__hardware_add(kw_hardware *hardware, const char *key, double value, const char *unit,
                      const char *source, const char *date, const char *note)
{
    struct kw__arena *arena = &hardware->arena;
    struct kw_hardware_value *values = kw__arena_grow(arena, hardware->values, hardware->num_values,
                                                      &hardware->value_capacity, sizeof *values);
    if (!values) return;
    hardware->values = values;
    struct kw_hardware_value *v = &values[hardware->num_values];
    *v = (struct kw_hardware_value){.key = kw__arena_strdup(arena, key),
                                    .unit = kw__arena_strdup(arena, unit),
                                    .source = kw__arena_strdup(arena, source),
                                    .date = kw__arena_strdup(arena, date),
                                    .note = note ? kw__arena_strdup(arena, note) : NULL,
                                    .value = value};
    if (!arena->failed) hardware->num_values++;
}

/* The unit that a key's name says; NULL for others. */
static const char *unit_of(const char *key)
{
    static const char *const units[][2] = {
        {"_flop_per_s", "FLOP/s"}, {"bytes_per_s", "B/s"}, {"_bytes", "B"}, {"_w", "W"}, {"_hz", "Hz"}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t length = strlen(key), suffix = strlen(units[i][0]);
        if (length > suffix && strcmp(key + length - suffix, units[i][0]) == 0) return units[i][1];
    }
    return NULL;
}

static kw_status read_value(kw_hardware *hardware, const char *path, const char *key, const json_t *object,
                            kw_error *err)
{
    struct kw__json in = {path, object};
    double value = 0;
    const char *unit = NULL, *source = NULL, *date = NULL, *note = NULL;
    kw_status status;
    if (!json_is_object(object))
        return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" must be an object with value, unit, source, date",
                        path, key);
    (void)((status = kw__json_number(in, "value", 1e-12, 1e24, &value, err)) ||
           (status = kw__json_string(in, "unit", &unit, err)) ||
           (status = kw__json_string(in, "source", &source, err)) ||
           (status = kw__json_string(in, "date", &date, err)));
    if (!status && kw__json_has(in, "note")) status = kw__json_string(in, "note", &note, err);
    if (status) {
        kw_error inner = err ? *err : (kw_error){KW_OK, ""};
        return kw__fail(err, status, "%.400s (in \"%s\")", inner.message, key);
    }
    const char *wanted = unit_of(key);
    if (wanted && strcmp(unit, wanted) != 0)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: the unit of \"%s\" is \"%s\"; it must be %s", path, key,
                        unit, wanted);
    kw__hardware_add(hardware, key, value, unit, source, date, note);
    return KW_OK;
}

static kw_status read_aliases(kw_hardware *hardware, struct kw__json in, kw_error *err)
{
    const json_t *array;
    if (!kw__json_has(in, "aliases")) return KW_OK;
    kw_status status = kw__json_array(in, "aliases", &array, err);
    if (status) return status;
    size_t count = json_array_size(array);
    hardware->aliases = kw__arena_alloc(&hardware->arena, count, sizeof *hardware->aliases);
    for (size_t i = 0; hardware->aliases && i < count; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (!text) return kw__fail(err, KW_ERROR_FORMAT, "%s: \"aliases\" must hold strings", in.path);
        hardware->aliases[hardware->num_aliases++] = kw__arena_strdup(&hardware->arena, text);
    }
    return hardware->arena.failed ? kw__fail_memory(err) : KW_OK;
}

static kw_status read_profile(kw_hardware *hardware, const char *path, kw_error *err)
{
    json_t *root;
    kw_status status = kw__json_load(path, &root, err);
    if (status) return status;
    struct kw__json in = {path, root};
    const char *name = NULL, *title = NULL, *kind = NULL, *schema = NULL;
    const json_t *values = NULL;
    (void)((status = kw__json_string(in, "schema", &schema, err)) ||
           (status = kw__json_string(in, "name", &name, err)) ||
           (status = kw__json_string(in, "title", &title, err)) ||
           (status = kw__json_string(in, "kind", &kind, err)) ||
           (status = kw__json_object(in, "values", &values, err)) ||
           (status = read_aliases(hardware, in, err)));
    if (!status && strcmp(schema, "kinowatt.hardware/1") != 0)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: schema \"%s\" is not kinowatt.hardware/1", path, schema);
    if (!status && strcmp(kind, "gpu") != 0 && strcmp(kind, "cpu") != 0)
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"kind\" must be gpu or cpu", path);
    if (!status) {
        hardware->name = kw__arena_strdup(&hardware->arena, name);
        hardware->title = kw__arena_strdup(&hardware->arena, title);
        hardware->kind = kw__arena_strdup(&hardware->arena, kind);
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)values, key, value)
        {
            status = read_value(hardware, path, key, value, err);
            if (status) break;
        }
    }
    if (!status && hardware->arena.failed) status = kw__fail_memory(err);
    if (!status && isnan(kw_hardware_get(hardware, "memory_bandwidth_bytes_per_s")))
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"memory_bandwidth_bytes_per_s\" is missing", path);
    if (!status && kw_hardware_get(hardware, "idle_power_w") >= kw_hardware_get(hardware, "power_limit_w"))
        status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"idle_power_w\" must be below \"power_limit_w\"", path);
    json_decref(root);
    return status;
}

/* A profile's path for a name, an alias, or a path; *path NULL for "cpu". */
static kw_status find_profile(const kw_catalog *catalog, const char *name, char **path, kw_error *err)
{
    *path = NULL;
    struct stat info;
    bool known = kw__catalog_has(catalog, KW_HARDWARE, name);
    if (!known && strcmp(name, "cpu") == 0) return KW_OK;
    if (!known && (strchr(name, '/') || stat(name, &info) == 0)) {
        *path = kw__text("%s", name);
        return *path ? KW_OK : kw__fail_memory(err);
    }
    if (!known) {
        for (size_t i = 0; i < kw_catalog_count(catalog, KW_HARDWARE); i++) {
            kw_hardware *hardware;
            const char *candidate = kw_catalog_name(catalog, KW_HARDWARE, i);
            kw_status status = kw_hardware_open(catalog, candidate, &hardware, NULL);
            if (status == KW_ERROR_MEMORY) return kw__fail_memory(err);
            if (status) continue;
            bool same = kw__hardware_is(hardware, name);
            kw_hardware_close(hardware);
            if (same) return kw__catalog_path(catalog, KW_HARDWARE, candidate, path, err);
        }
    }
    return kw__catalog_path(catalog, KW_HARDWARE, name, path, err);
}

kw_status kw_hardware_open(const kw_catalog *catalog, const char *name, kw_hardware **out, kw_error *err)
{
    kw__error_clear(err);
    char *path;
    kw_status status = find_profile(catalog, name, &path, err);
    if (status) return status;
    kw_hardware *hardware = calloc(1, sizeof *hardware);
    if (!hardware) {
        free(path);
        return kw__fail_memory(err);
    }
    kw__arena_init(&hardware->arena);
    status = path ? read_profile(hardware, path, err) : kw__hardware_probe_cpu(hardware, err);
    free(path);
    if (status)
        kw_hardware_close(hardware);
    else
        *out = hardware;
    return status;
}

void kw_hardware_close(kw_hardware *hardware)
{
    if (!hardware) return;
    kw__arena_free(&hardware->arena);
    free(hardware);
}

bool kw__hardware_is(const kw_hardware *hardware, const char *name)
{
    if (strcasecmp(hardware->name, name) == 0) return true;
    for (size_t i = 0; i < hardware->num_aliases; i++)
        if (strcasecmp(hardware->aliases[i], name) == 0) return true;
    return false;
}

const char *kw_hardware_name(const kw_hardware *hardware)
{
    return hardware->name;
}

const char *kw_hardware_title(const kw_hardware *hardware)
{
    return hardware->title;
}

const char *kw_hardware_kind(const kw_hardware *hardware)
{
    return hardware->kind;
}

size_t kw_hardware_count(const kw_hardware *hardware)
{
    return hardware->num_values;
}

const kw_hardware_value *kw_hardware_at(const kw_hardware *hardware, size_t index)
{
    return index < hardware->num_values ? &hardware->values[index] : NULL;
}

double kw_hardware_get(const kw_hardware *hardware, const char *key)
{
    for (size_t i = 0; i < hardware->num_values; i++)
        if (strcmp(hardware->values[i].key, key) == 0) return hardware->values[i].value;
    return NAN;
}

kw_status kw_hardware_thresholds(const kw_hardware *hardware, kw_thresholds *out, kw_error *err)
{
    kw__error_clear(err);
    const double scalar_bytes = 2; /* bf16 */
    double peak = kw_hardware_get(hardware, "bf16_flop_per_s");
    double bandwidth = kw_hardware_get(hardware, "memory_bandwidth_bytes_per_s");
    if (isnan(peak))
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s has no bf16 rate, and the thresholds are those of bf16", hardware->name);
    double ridge = peak / bandwidth;
    *out = (kw_thresholds){ridge, scalar_bytes * ridge / 2, scalar_bytes * ridge};
    return KW_OK;
}
