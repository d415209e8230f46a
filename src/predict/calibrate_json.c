/* A fit as a calibration file: the priors it started from, with what the rows made of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "model/catalog.h"
#include "predict/calibrate.h"

/* What jansson could not allocate is NULL; a builder remembers that in *bad and goes on. */
static void put(bool *bad, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) *bad = true;
}

static void append(bool *bad, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) != 0) *bad = true;
}

/* Six digits: more would claim more than the rows can tell, and differ from machine to machine. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(kw__number_round(value, 6)) : json_null();
}

struct member {
    const char *key;
    double value;
};

/* An object of numbers. */
static json_t *numbers(bool *bad, const struct member *members, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) put(bad, object, members[i].key, number(members[i].value));
    return object;
}
#define NUMBERS(bad, members) numbers(bad, members, sizeof(members) / sizeof((members)[0]))

/* The same, or null when one of them is not determined. */
static json_t *section(bool *bad, const struct member *members, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(members[i].value)) return json_null();
    return numbers(bad, members, count);
}
#define SECTION(bad, members) section(bad, members, sizeof(members) / sizeof((members)[0]))

static void set_parameters(bool *bad, const struct kw__kernel_fit *fit, const struct kw__calibration *priors,
                           json_t *root)
{
    json_t *parameters = json_object_get(root, "parameters"), *order = json_array(), *matrix = json_array();
    json_t *covariance = json_object();
    for (int i = 0; i < fit->num_parameters; i++) {
        json_t *each = json_object_get(parameters, priors->parameters[i].name), *row = json_array();
        put(bad, each, "log_value", number(fit->x[i]));
        put(bad, each, "log_sd", number(sqrt(fit->covariance[i][i])));
        append(bad, order, json_string(priors->parameters[i].name));
        for (int j = 0; j < fit->num_parameters; j++) append(bad, row, number(fit->covariance[i][j]));
        append(bad, matrix, row);
    }
    put(bad, covariance, "order", order);
    put(bad, covariance, "matrix", matrix);
    put(bad, root, "covariance", covariance);
}

static void set_sessions(bool *bad, const struct kw__samples *s, const struct kw__kernel_fit *fit,
                         json_t *root)
{
    json_t *sessions = json_object();
    for (int i = 0; i < s->num_sessions; i++) {
        if (!fit->seen[i]) continue;
        int a = fit->num_parameters + i, b = a + fit->num_sessions;
        const struct member terms[] = {{"log_time", fit->x[a]}, {"log_power", fit->x[b]}};
        put(bad, sessions, s->sessions[i], NUMBERS(bad, terms));
    }
    const struct member errors[] = {{"session_log_sd_time", fit->session_time_sd},
                                    {"session_log_sd_power", fit->session_power_sd},
                                    {"model_log_sd_time", fit->model_time_sd},
                                    {"model_log_sd_energy", fit->model_energy_sd},
                                    {"model_log_sd_power", fit->model_power_sd}};
    put(bad, root, "sessions", sessions);
    put(bad, root, "errors", NUMBERS(bad, errors));
}

/* Whether a fit to the marked wholes sees a sample. */
static bool is_used(const struct kw__samples *s, const bool *use, size_t i)
{
    return s->list[i].whole < 0 && (!use || use[i]);
}

static void widen(struct member *low, struct member *high, int64_t value)
{
    low->value = fmin(low->value, (double)value);
    high->value = fmax(high->value, (double)value);
}

static void set_range(bool *bad, const struct kw__samples *s, const bool *use, json_t *root)
{
    struct member r[] = {{"tokens_low", INFINITY}, {"tokens_high", 0},       {"steps_low", INFINITY},
                         {"steps_high", 0},        {"pixels_low", INFINITY}, {"pixels_high", 0},
                         {"batch_low", INFINITY},  {"batch_high", 0}};
    json_t *models = json_array();
    const char *last = ""; /* samples are by model */
    for (size_t i = 0; i < s->count; i++) {
        const struct kw__demand *d = &s->groups[s->list[i].group];
        if (!is_used(s, use, i)) continue;
        widen(&r[0], &r[1], d->request.tokens);
        widen(&r[2], &r[3], d->request.num_inference_steps);
        widen(&r[4], &r[5], d->request.width * d->request.height);
        widen(&r[6], &r[7], d->request.batch_size);
        if (strcmp(last, d->model) != 0) append(bad, models, json_string(d->model));
        last = d->model;
    }
    json_t *range = json_object(); /* exact: a row at the end is within */
    for (size_t i = 0; i < sizeof r / sizeof r[0]; i++) put(bad, range, r[i].key, json_real(r[i].value));
    put(bad, range, "models", models);
    put(bad, root, "range", range);
}

static kw_status set_simple(bool *bad, const struct kw__samples *s, const bool *use, json_t *root,
                            kw_error *err)
{
    struct kw__host_fit host;
    struct kw__proportional flops;
    double peak = kw_hardware_get(s->hardware, "bf16_flop_per_s");
    kw_status status = kw__host_fit(s, use, &host, err);
    if (!status) status = kw__proportional_fit(s, use, false, peak, &flops, err);
    if (status) return status;
    const struct member of_host[] = {{"cpu_w", host.cpu_w},
                                     {"cpu_log_sd", host.cpu_log_sd},
                                     {"ram_w", host.ram_w},
                                     {"ram_j", host.ram_j},
                                     {"ram_log_sd", host.ram_log_sd}};
    const struct member of_flops[] = {{"efficiency", flops.efficiency},
                                      {"power_w", flops.power_w},
                                      {"log_sd_time", flops.time_sd},
                                      {"log_sd_energy", flops.energy_sd}};
    json_t *host_energy = SECTION(bad, of_host);
    if (json_is_object(host_energy)) put(bad, host_energy, "rows", json_integer(host.count));
    put(bad, root, "host_energy", host_energy);
    put(bad, root, "flops", SECTION(bad, of_flops));
    return KW_OK;
}

static void set_rows(bool *bad, const struct kw__samples *s, const bool *use,
                     const struct kw__kernel_fit *fit, const char *date, json_t *root)
{
    int energies = 0, sessions = 0;
    size_t count = 0;
    const char *source = NULL, *priors = json_string_value(json_object_get(root, "priors"));
    for (size_t i = 0; i < s->count; i++) {
        if (!is_used(s, use, i)) continue;
        if (!source) source = s->list[i].row->source;
        energies += !isnan(s->list[i].energy_j);
        count++;
    }
    for (int i = 0; i < s->num_sessions; i++) sessions += fit->seen[i];
    json_t *rows = json_object();
    put(bad, rows, "source", json_string(source));
    put(bad, rows, "count", json_integer((json_int_t)count));
    put(bad, rows, "with_energy", json_integer(energies));
    char *basis = kw__text("%zu rows of %s over %d sessions, and priors from %s", count, source, sessions,
                           priors ? priors : "micro-benchmarks");
    put(bad, root, "date", json_string(date));
    put(bad, root, "basis", json_string(basis));
    put(bad, root, "rows", rows);
    free(basis);
}

kw_status kw__calibration_json(const struct kw__samples *samples, const bool *use,
                               const struct kw__kernel_fit *fit, const json_t *priors, const char *date,
                               json_t *held_out, json_t **out, kw_error *err)
{
    json_t *root = json_deep_copy(priors);
    bool bad = !root;
    set_parameters(&bad, fit, samples->priors, root);
    set_sessions(&bad, samples, fit, root);
    set_range(&bad, samples, use, root);
    set_rows(&bad, samples, use, fit, date, root);
    kw_status status = set_simple(&bad, samples, use, root, err);
    if (held_out) put(&bad, root, "held_out", held_out);
    if (!status && bad) status = kw__fail_memory(err);
    struct kw__calibration *read = NULL;
    if (!status) status = kw__calibration_parse(root, "the fitted calibration", &read, err);
    kw__calibration_close(read);
    if (status)
        json_decref(root);
    else
        *out = root;
    return status;
}
