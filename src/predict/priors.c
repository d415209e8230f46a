#include "predict/priors.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/json.h"
#include "model/catalog.h"

/* What a fit assumes before any row, of the form rather than of a pair: docs/CALIBRATION.md, "Sessions and
 * noise" and "Intervals". Calibrations without rows state wider ones, since their parameters were not
 * fitted. */
static const struct {
    const char *key;
    double log_sd;
} form_errors[] = {{"session_log_sd_time", 0.025},
                   {"session_log_sd_power", 0.015},
                   {"model_log_sd_time", 0.02},
                   {"model_log_sd_energy", 0.02},
                   {"model_log_sd_power", 0.015}};

static bool set(json_t *object, const char *key, double value)
{
    return json_object_set_new(object, key, json_real(value)) == 0;
}

/* object[key] times a factor; efficiencies and shares are at most 1. */
static bool scale(json_t *object, const char *key, double factor, double most)
{
    const json_t *value = json_object_get(object, key);
    return !value || set(object, key, fmin(json_number_value(value) * factor, most));
}

static bool scale_rate(json_t *rate, double factor)
{
    json_t *curve = json_object_get(rate, "curve");
    bool good = scale(rate, "efficiency", factor, 1);
    for (size_t i = 0; i < json_array_size(curve); i++) {
        json_t *knot = json_array_get(curve, i);
        double at = json_number_value(json_array_get(knot, 1));
        good = json_array_set_new(knot, 1, json_real(fmin(at * factor, 1))) == 0 && good;
    }
    return good;
}

static double factor_of(const struct kw__calibration *c, struct kw__scaled figure)
{
    return figure.parameter < 0 ? 1 : exp(c->parameters[figure.parameter].log_value);
}

/* What the rows of another pair made of its bases becomes the bases. */
static bool fold(json_t *root, const struct kw__calibration *c)
{
    json_t *rates = json_object_get(root, "rates"), *power = json_object_get(root, "power");
    bool good = true;
    for (int r = 0; r < c->num_rates; r++)
        good =
            scale_rate(json_object_get(rates, c->rates[r].key), factor_of(c, c->rates[r].efficiency)) && good;
    good = scale(json_object_get(root, "memory"), "efficiency", factor_of(c, c->memory), 1) && good;
    json_t *launch = json_object_get(root, "launch");
    good = scale(launch, "seconds", factor_of(c, c->launch_s), INFINITY) && good;
    good = scale(launch, "dispatch_seconds", factor_of(c, c->dispatch_s), INFINITY) && good;
    good = scale(json_object_get(root, "host"), "bytes_per_s", factor_of(c, c->host_bytes_per_s), INFINITY) &&
           good;
    json_t *offload = json_object_get(root, "offload");
    if (!isnan(c->to_device_bytes_per_s.base)) {
        double factor = factor_of(c, c->to_device_bytes_per_s);
        good = scale(offload, "to_device_bytes_per_s", factor, INFINITY) &&
               scale(offload, "to_host_bytes_per_s", factor, INFINITY) && good;
    }
    if (!json_is_object(power)) return good;
    good = scale(power, "busy_share", factor_of(c, c->busy_share), 1) && good;
    return scale(power, "gap_share", factor_of(c, c->gap_share), 1) && good;
}

/* No row has moved the parameters, and what carrying costs is in their sds. */
static bool reset(json_t *root, const struct kw__calibration *c, enum kw__distance distance)
{
    json_t *parameters = json_object_get(root, "parameters");
    bool good = true;
    for (int i = 0; i < c->num_parameters; i++) {
        bool power =
            !isnan(c->busy_share.base) && (i == c->busy_share.parameter || i == c->gap_share.parameter);
        json_t *each = json_object_get(parameters, c->parameters[i].name);
        double sd = hypot(c->parameters[i].prior_log_sd, kw__carried_sd(distance, power));
        good = set(each, "prior_log_sd", sd) && set(each, "log_value", 0) && good;
        (void)json_object_del(each, "log_sd");
    }
    static const char *const of_rows[] = {"covariance", "sessions", "held_out",    "rows",
                                          "range",      "flops",    "host_energy", "priors"};
    for (size_t i = 0; i < sizeof of_rows / sizeof of_rows[0]; i++)
        (void)json_object_del(root, of_rows[i]); /* not there is as well */
    return good;
}

static bool describe(json_t *root, const struct kw__calibration *c, enum kw__distance distance,
                     const char *stack, const char *hardware)
{
    static const char *const how[] = {[KW__SAME] = "",
                                      [KW__OTHER_STACK] = ", carried from another stack",
                                      [KW__OTHER_HARDWARE] = ", carried from other hardware",
                                      [KW__OTHER_BOTH] = ", carried from another stack and other hardware"};
    bool fitted = distance == KW__SAME && !isnan(c->tokens_low);
    char *text =
        kw__text("%s%s of %s%s", fitted ? "what was there before " : "", c->name, c->date, how[distance]);
    bool good = text && json_object_set_new(root, "priors", json_string(text)) == 0 &&
                json_object_set_new(root, "basis", json_string(text)) == 0 &&
                json_object_set_new(root, "stack", json_string(stack)) == 0 &&
                json_object_set_new(root, "hardware", json_string(hardware)) == 0;
    free(text);
    return good;
}

static kw_status make(const struct kw__calibration *c, const char *stack, const kw_hardware *hardware,
                      bool own_errors, struct kw__priors *out, kw_error *err)
{
    kw_status status = kw__json_load(c->path, &out->document, err);
    if (status) return status;
    json_t *root = out->document;
    bool good = out->distance == KW__SAME || fold(root, c);
    good = reset(root, c, out->distance) &&
           describe(root, c, out->distance, stack, kw_hardware_name(hardware)) && good;
    for (size_t i = 0; !own_errors && i < sizeof form_errors / sizeof form_errors[0]; i++)
        good = set(json_object_get(root, "errors"), form_errors[i].key, form_errors[i].log_sd) && good;
    return good ? kw__calibration_parse(root, c->path, &out->calibration, err) : kw__fail_memory(err);
}

/* Opens what the priors are made from. *is_priors: it may be a set of priors, errors and all. */
static kw_status open_source(const kw_catalog *catalog, const char *stack, const kw_hardware *hardware,
                             const char *given, struct kw__priors *priors, bool *is_priors,
                             struct kw__calibration **out, kw_error *err)
{
    struct stat info;
    char *path = given ? kw__text("%s%s", strchr(given, '/') ? "" : "./", given)
                       : kw__text("%s/calibrations/priors/%s@%s.json", catalog->folder, stack,
                                  kw_hardware_name(hardware));
    if (!path) return kw__fail_memory(err);
    *is_priors = given || stat(path, &info) == 0 || errno != ENOENT;
    kw_status status = *is_priors ? kw__calibration_open(catalog, path, out, err)
                                  : kw__calibration_find(catalog, stack, hardware, out, &priors->distance,
                                                         &priors->skipped, err);
    free(path);
    if (status) return status;
    priors->distance = kw__calibration_distance(*out, stack, hardware);
    return KW_OK;
}

kw_status kw__priors_open(const kw_catalog *catalog, const char *stack, const kw_hardware *hardware,
                          const char *given, struct kw__priors *out, kw_error *err)
{
    struct kw__calibration *source;
    bool is_priors = false, on_cpu = strcmp(kw_hardware_kind(hardware), "cpu") == 0;
    *out = (struct kw__priors){0};
    kw_status status = open_source(catalog, stack, hardware, given, out, &is_priors, &source, err);
    if (status) return status;
    if (on_cpu != (source->machine.cpu != NULL))
        status = kw__fail(err, KW_ERROR_UNSUPPORTED, "nothing is known of %s on %s to start from; %s", stack,
                          kw_hardware_name(hardware),
                          on_cpu ? "run 'kinowatt calibrate --device cpu' first"
                                 : "give a calibration with --priors");
    else
        status = make(source, stack, hardware,
                      is_priors && out->distance == KW__SAME && isnan(source->tokens_low), out, err);
    kw__calibration_close(source);
    if (status) kw__priors_close(out);
    return status;
}

void kw__priors_close(struct kw__priors *priors)
{
    kw__calibration_close(priors->calibration);
    json_decref(priors->document);
    *priors = (struct kw__priors){0};
}
