/* A fit as a calibration file: the priors it started from, with what the rows made of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "predict/calibrate.h"

/* Six digits: more would claim more than the rows can tell, and differ from machine to machine. */
static json_t *number(double value)
{
    char text[40];
    if (!isfinite(value)) return json_null();
    snprintf(text, sizeof text, "%.6g", value);
    return json_real(strtod(text, NULL));
}

static void set_parameters(const struct kw__kernel_fit *fit, const struct kw__calibration *priors,
                           json_t *root)
{
    json_t *parameters = json_object_get(root, "parameters"), *order = json_array(), *matrix = json_array();
    for (int i = 0; i < fit->num_parameters; i++) {
        json_t *each = json_object_get(parameters, priors->parameters[i].name), *row = json_array();
        json_object_set_new(each, "log_value", number(fit->x[i]));
        json_object_set_new(each, "log_sd", number(sqrt(fit->covariance[i][i])));
        json_array_append_new(order, json_string(priors->parameters[i].name));
        for (int j = 0; j < fit->num_parameters; j++)
            json_array_append_new(row, number(fit->covariance[i][j]));
        json_array_append_new(matrix, row);
    }
    json_object_set_new(root, "covariance", json_pack("{s:o, s:o}", "order", order, "matrix", matrix));
}

static void set_sessions(const struct kw__samples *s, const struct kw__kernel_fit *fit, json_t *root)
{
    json_t *sessions = json_object();
    for (int i = 0; i < s->num_sessions; i++) {
        if (!fit->seen[i]) continue;
        int a = fit->num_parameters + i, b = a + fit->num_sessions;
        json_object_set_new(
            sessions, s->sessions[i],
            json_pack("{s:o, s:o}", "log_time", number(fit->x[a]), "log_power", number(fit->x[b])));
    }
    json_object_set_new(root, "sessions", sessions);
    json_object_set_new(root, "errors",
                        json_pack("{s:o, s:o, s:o, s:o}", "session_log_sd_time", number(fit->session_time_sd),
                                  "session_log_sd_power", number(fit->session_power_sd), "model_log_sd_time",
                                  number(fit->model_time_sd), "model_log_sd_energy",
                                  number(fit->model_energy_sd)));
}

static void set_range(const struct kw__samples *s, json_t *root)
{
    double tokens_low = INFINITY, tokens_high = 0, steps_low = INFINITY, steps_high = 0;
    for (size_t g = 0; g < s->num_groups; g++) {
        const kw_effective *r = &s->groups[g].request;
        tokens_low = fmin(tokens_low, (double)r->tokens);
        tokens_high = fmax(tokens_high, (double)r->tokens);
        steps_low = fmin(steps_low, (double)r->num_inference_steps);
        steps_high = fmax(steps_high, (double)r->num_inference_steps);
    }
    json_object_set_new(root, "range",
                        json_pack("{s:o, s:o, s:o, s:o}", "tokens_low", number(tokens_low), "tokens_high",
                                  number(tokens_high), "steps_low", number(steps_low), "steps_high",
                                  number(steps_high)));
}

static kw_status set_simple(const struct kw__samples *s, json_t *root, kw_error *err)
{
    struct kw__host_fit host;
    struct kw__proportional flops;
    kw_status status = kw__host_fit(s, &host, err);
    if (!status)
        status = kw__proportional_fit(s, NULL, false, kw_hardware_get(s->hardware, "bf16_flop_per_s"), &flops,
                                      err);
    if (status) return status;
    json_object_set_new(root, "host_energy",
                        host.count < 3
                            ? json_null()
                            : json_pack("{s:o, s:o, s:o, s:o, s:o, s:i}", "cpu_w", number(host.cpu_w),
                                        "cpu_log_sd", number(host.cpu_log_sd), "ram_w", number(host.ram_w),
                                        "ram_j", number(host.ram_j), "ram_log_sd", number(host.ram_log_sd),
                                        "rows", host.count));
    json_object_set_new(root, "flops",
                        json_pack("{s:o, s:o, s:o, s:o}", "efficiency", number(flops.efficiency), "power_w",
                                  number(flops.power_w), "log_sd_time", number(flops.time_sd),
                                  "log_sd_energy", number(flops.energy_sd)));
    return KW_OK;
}

static void set_rows(const struct kw__samples *s, json_t *root)
{
    int energies = 0;
    for (size_t i = 0; i < s->count; i++) energies += !isnan(s->list[i].energy_j);
    json_object_set_new(root, "rows",
                        json_pack("{s:s, s:I, s:i}", "source", s->list[0].row->source, "count",
                                  (json_int_t)s->count, "with_energy", energies));
}

kw_status kw__calibration_json(const struct kw__samples *samples, const struct kw__kernel_fit *fit,
                               const json_t *priors, const char *date, json_t *held_out, json_t **out,
                               kw_error *err)
{
    char basis[256];
    json_t *root = json_deep_copy(priors);
    snprintf(basis, sizeof basis, "%zu rows of %s over %d sessions, and priors from micro-benchmarks",
             samples->count, samples->list[0].row->source, samples->num_sessions);
    json_object_set_new(root, "date", json_string(date));
    json_object_set_new(root, "basis", json_string(basis));
    set_parameters(fit, samples->priors, root);
    set_sessions(samples, fit, root);
    set_range(samples, root);
    set_rows(samples, root);
    kw_status status = root ? set_simple(samples, root, err) : kw__fail_memory(err);
    if (held_out) json_object_set(root, "held_out", held_out);
    json_decref(held_out);
    if (status)
        json_decref(root);
    else
        *out = root;
    return status;
}
