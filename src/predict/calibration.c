#include "predict/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/catalog.h"

/* ---- Reading -------------------------------------------------------------------------------------- */

/* An entry of a section, called file: "section.name" in messages. */
static kw_status inside(struct kw__calibration *c, struct kw__json in, const char *section, const char *name,
                        const json_t *value, struct kw__json *out, kw_error *err)
{
    *out = (struct kw__json){kw__arena_printf(&c->arena, "%s: \"%s.%s\"", in.path, section, name), value};
    if (!out->path) return kw__fail_memory(err);
    return json_is_object(value) ? KW_OK : kw__fail(err, KW_ERROR_FORMAT, "%s must be an object", out->path);
}

static kw_status read_parameters(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    const json_t *object;
    kw_status status = kw__json_object(in, "parameters", &object, err);
    if (status) return status;
    if (json_object_size(object) > KW__MAX_PARAMETERS)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: more than %d parameters", in.path, KW__MAX_PARAMETERS);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        struct kw__json each;
        if ((status = inside(c, in, "parameters", name, value, &each, err))) return status;
        struct kw__parameter *p = &c->parameters[c->num_parameters];
        const char *source = NULL;
        (void)((status = kw__json_number(each, "prior_log_sd", 0, 10, &p->prior_log_sd, err)) ||
               (status = kw__json_number(each, "log_value", -10, 10, &p->log_value, err)) ||
               (status = kw__json_string(each, "source", &source, err)));
        if (status) return status;
        p->name = kw__arena_strdup(&c->arena, name);
        p->source = kw__arena_strdup(&c->arena, source);
        if (c->arena.failed) return kw__fail_memory(err);
        c->covariance[c->num_parameters][c->num_parameters] = p->prior_log_sd * p->prior_log_sd;
        c->num_parameters++;
    }
    return KW_OK;
}

static kw_status find_parameter(const struct kw__calibration *c, struct kw__json in, const char *key,
                                int *out, kw_error *err)
{
    const char *name = NULL;
    kw_status status = kw__json_string(in, key, &name, err);
    for (int i = 0; !status && i < c->num_parameters; i++) {
        if (strcmp(c->parameters[i].name, name) != 0) continue;
        *out = i;
        return KW_OK;
    }
    return status ? status
                  : kw__fail(err, KW_ERROR_FORMAT, "%s: parameter \"%s\" is not declared", in.path, name);
}

/* Symmetric, standard deviations of at most 10, correlations from -1 to 1. */
static kw_status check_covariance(const struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    for (int i = 0; i < c->num_parameters; i++)
        for (int j = 0; j < c->num_parameters; j++) {
            double most = 1.000001 * c->covariance[i][i] * c->covariance[j][j];
            double both = c->covariance[i][j] * c->covariance[j][i];
            bool symmetric = fabs(c->covariance[i][j] - c->covariance[j][i]) <= 1e-6 * sqrt(fabs(most));
            if (c->covariance[i][i] >= 0 && c->covariance[i][i] <= 100 && both <= most && symmetric) continue;
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"covariance\" is none of %s and %s", in.path,
                            c->parameters[i].name, c->parameters[j].name);
        }
    return KW_OK;
}

/* {"order": [names], "matrix": [[...]]}, absent: the priors, independent */
static kw_status read_covariance(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    if (!kw__json_has(in, "covariance")) return KW_OK;
    const json_t *object = NULL, *order, *matrix;
    kw_status status = kw__json_object(in, "covariance", &object, err);
    struct kw__json each = {in.path, object};
    if (!status) status = kw__json_array(each, "order", &order, err);
    if (!status) status = kw__json_array(each, "matrix", &matrix, err);
    if (status) return status;
    size_t n = (size_t)c->num_parameters;
    if (json_array_size(order) != n || json_array_size(matrix) != n)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: \"covariance\" must be %zu by %zu", in.path, n, n);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(order, i));
        const json_t *row = json_array_get(matrix, i);
        if (!name || strcmp(name, c->parameters[i].name) != 0 || json_array_size(row) != n)
            return kw__fail(err, KW_ERROR_FORMAT,
                            "%s: \"covariance\" must follow the order of \"parameters\"", in.path);
        for (size_t j = 0; j < n; j++) {
            const json_t *number = json_array_get(row, j);
            if (!json_is_number(number))
                return kw__fail(err, KW_ERROR_FORMAT, "%s: \"covariance\" must hold numbers", in.path);
            c->covariance[i][j] = json_number_value(number);
        }
    }
    return check_covariance(c, in, err);
}

/* [[size, efficiency], ...] with growing sizes */
static kw_status read_curve(struct kw__json in, struct kw__rate *r, kw_error *err)
{
    const json_t *array;
    if (!kw__json_has(in, "curve")) return KW_OK;
    kw_status status = kw__json_array(in, "curve", &array, err);
    if (status) return status;
    size_t count = json_array_size(array);
    if (count < 1 || count > KW__MAX_KNOTS)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: \"curve\" must have 1 to %d points", in.path,
                        KW__MAX_KNOTS);
    for (size_t i = 0; i < count; i++) {
        const json_t *pair = json_array_get(array, i);
        double size = json_number_value(json_array_get(pair, 0)),
               e = json_number_value(json_array_get(pair, 1));
        if (!(size > (i ? r->size[i - 1] : 0)) || !(size < 1e18) || !(e >= 1e-9) || !(e <= 1))
            return kw__fail(
                err, KW_ERROR_FORMAT,
                "%s: \"curve\" must hold pairs of a size, growing, and an efficiency of 1e-9 to 1", in.path);
        r->size[i] = size;
        r->at_size[i] = e;
    }
    r->num_knots = (int)count;
    return KW_OK;
}

static kw_status read_rates(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    const json_t *object;
    kw_status status = kw__json_object(in, "rates", &object, err);
    if (status) return status;
    if (json_object_size(object) > KW__MAX_RATES)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: more than %d rates", in.path, KW__MAX_RATES);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        struct kw__json each;
        if ((status = inside(c, in, "rates", key, value, &each, err))) return status;
        struct kw__rate *r = &c->rates[c->num_rates];
        const char *source = NULL;
        (void)((status = kw__json_number(each, "efficiency", 1e-9, 1, &r->efficiency.base, err)) ||
               (status = read_curve(each, r, err)) ||
               (status = find_parameter(c, each, "parameter", &r->efficiency.parameter, err)) ||
               (status = kw__json_string(each, "source", &source, err)));
        if (status) return status;
        r->key = kw__arena_strdup(&c->arena, key);
        r->source = kw__arena_strdup(&c->arena, source);
        if (c->arena.failed) return kw__fail_memory(err);
        c->num_rates++;
    }
    return KW_OK;
}

static kw_status read_scaled(const struct kw__calibration *c, struct kw__json in, const char *section,
                             const char *key, const char *parameter_key, struct kw__scaled *out,
                             kw_error *err)
{
    const json_t *object = NULL;
    kw_status status = kw__json_object(in, section, &object, err);
    struct kw__json each = {in.path, object};
    if (!status) status = kw__json_number(each, key, 1e-12, 1e15, &out->base, err);
    if (!status) status = find_parameter(c, each, parameter_key, &out->parameter, err);
    return status;
}

/* Optional numbers of an optional section: NaN when the section is null or absent. */
static kw_status read_section(struct kw__json in, const char *section, const char *const *keys,
                              double *const *values, size_t count, kw_error *err)
{
    for (size_t i = 0; i < count; i++) *values[i] = NAN;
    if (!kw__json_has(in, section)) return KW_OK;
    const json_t *object = NULL;
    kw_status status = kw__json_object(in, section, &object, err);
    for (size_t i = 0; !status && i < count; i++)
        status = kw__json_number((struct kw__json){in.path, object}, keys[i], 0, 1e15, values[i], err);
    return status;
}

static kw_status read_errors(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    const json_t *object = NULL;
    kw_status status = kw__json_object(in, "errors", &object, err);
    struct kw__json each = {in.path, object};
    (void)(status ||
           (status = kw__json_number(each, "session_log_sd_time", 0, 10, &c->session_time_sd, err)) ||
           (status = kw__json_number(each, "session_log_sd_power", 0, 10, &c->session_power_sd, err)) ||
           (status = kw__json_number(each, "model_log_sd_time", 0, 10, &c->model_time_sd, err)) ||
           (status = kw__json_number(each, "model_log_sd_energy", 0, 10, &c->model_energy_sd, err)) ||
           (status = kw__json_number(each, "model_log_sd_power", 0, 10, &c->model_power_sd, err)));
    return status;
}

static kw_status read_models(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    const json_t *array;
    if (!kw__json_has(in, "models")) return KW_OK;
    kw_status status = kw__json_array(in, "models", &array, err);
    if (status) return status;
    size_t count = json_array_size(array);
    c->models = kw__arena_alloc(&c->arena, count + 1, sizeof(const char *));
    for (size_t i = 0; c->models && i < count; i++) {
        const char *name = json_string_value(json_array_get(array, i));
        if (!name)
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"range\": \"models\" must hold names", in.path);
        c->models[c->num_models++] = kw__arena_strdup(&c->arena, name);
    }
    return c->arena.failed ? kw__fail_memory(err) : KW_OK;
}

/* Where rows were; what files of before did not say is NaN. */
static kw_status read_range(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    static const char *const range[] = {"tokens_low", "tokens_high", "steps_low", "steps_high"};
    kw_status status = read_section(
        in, "range", range, (double *const[]){&c->tokens_low, &c->tokens_high, &c->steps_low, &c->steps_high},
        4, err);
    c->pixels_low = c->pixels_high = c->batch_high = NAN;
    if (status || isnan(c->tokens_low)) return status;
    struct kw__json each = {in.path, json_object_get(in.object, "range")};
    if (kw__json_has(each, "pixels_low")) {
        status = kw__json_number(each, "pixels_low", 1, 1e15, &c->pixels_low, err);
        if (!status) status = kw__json_number(each, "pixels_high", 1, 1e15, &c->pixels_high, err);
        if (!status) status = kw__json_number(each, "batch_high", 1, 1e15, &c->batch_high, err);
    }
    if (!status) status = read_models(c, each, err);
    if (!status &&
        (c->tokens_low > c->tokens_high || c->steps_low > c->steps_high || c->pixels_low > c->pixels_high))
        return kw__fail(err, KW_ERROR_FORMAT, "%s: \"range\" ends before it begins", in.path);
    return status;
}

/* Both directions have one parameter. */
static kw_status read_offload(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    const json_t *object = NULL;
    const char *source = NULL;
    kw_status status;
    c->to_device_bytes_per_s.base = c->to_host_bytes_per_s.base = c->copy_share = NAN;
    if (!kw__json_has(in, "offload")) return KW_OK;
    (void)((status = read_scaled(c, in, "offload", "to_device_bytes_per_s", "parameter",
                                 &c->to_device_bytes_per_s, err)) ||
           (status = read_scaled(c, in, "offload", "to_host_bytes_per_s", "parameter",
                                 &c->to_host_bytes_per_s, err)) ||
           (status = kw__json_object(in, "offload", &object, err)));
    struct kw__json each = {in.path, object};
    if (!status) status = kw__json_number(each, "power_share", 0, 1, &c->copy_share, err);
    return status ? status : kw__json_string(each, "source", &source, err);
}

static kw_status read_walk(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    static const char *const keys[] = {"elements_per_s", "blocks_per_s", "idle_share", "full_share"};
    kw_status status = read_section(in, "walk", keys,
                                    (double *const[]){&c->walk_elements_per_s, &c->walk_blocks_per_s,
                                                      &c->walk_idle_share, &c->walk_full_share},
                                    4, err);
    if (status || isnan(c->walk_elements_per_s)) return status;
    const char *source = NULL;
    if (!(c->walk_elements_per_s > 0) || !(c->walk_blocks_per_s > 0) ||
        c->walk_idle_share > c->walk_full_share || c->walk_full_share > 1)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"walk\" must have rates above 0, and shares that grow, 1 at most", in.path);
    return kw__json_string((struct kw__json){in.path, json_object_get(in.object, "walk")}, "source", &source,
                           err);
}

static kw_status read_optional(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    static const char *const host[] = {"cpu_w", "cpu_log_sd", "ram_w", "ram_j", "ram_log_sd"};
    static const char *const flops[] = {"efficiency", "power_w", "log_sd_time", "log_sd_energy"};
    kw_status status = read_section(
        in, "host_energy", host,
        (double *const[]){&c->cpu_w, &c->cpu_log_sd, &c->ram_w, &c->ram_j, &c->ram_log_sd}, 5, err);
    if (!status)
        status = read_section(in, "flops", flops,
                              (double *const[]){&c->flops_efficiency, &c->flops_power_w, &c->flops_time_sd,
                                                &c->flops_energy_sd},
                              4, err);
    if (!status) status = read_offload(c, in, err);
    if (!status) status = read_walk(c, in, err);
    if (!status) status = read_range(c, in, err);
    if (!status && (c->flops_efficiency <= 0 || c->flops_efficiency > 1))
        return kw__fail(err, KW_ERROR_FORMAT, "%s: \"flops\": \"efficiency\" must be above 0, at most 1",
                        in.path);
    return status;
}

static kw_status read_machine(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    if (!kw__json_has(in, "machine")) return KW_OK;
    struct kw__machine *m = &c->machine;
    const json_t *object;
    const char *cpu = NULL;
    double cores = 0, threads = 0;
    kw_status status = kw__json_object(in, "machine", &object, err);
    if (status) return status;
    struct kw__json each = {in.path, object};
    m->bf16_flop_per_s = NAN;
    (void)((status = kw__json_string(each, "cpu", &cpu, err)) ||
           (status = kw__json_number(each, "cores", 1, 1e6, &cores, err)) ||
           (status = kw__json_number(each, "threads", 1, 1e6, &threads, err)) ||
           (status = kw__json_number(each, "fp32_flop_per_s", 1, 1e18, &m->fp32_flop_per_s, err)) ||
           (status = kw__json_number(each, "bytes_per_s", 1, 1e18, &m->bytes_per_s, err)));
    if (!status && kw__json_has(each, "bf16_flop_per_s"))
        status = kw__json_number(each, "bf16_flop_per_s", 1, 1e18, &m->bf16_flop_per_s, err);
    if (status) return status;
    m->cores = (int)cores;
    m->threads = (int)threads;
    m->cpu = kw__arena_strdup(&c->arena, cpu);
    return m->cpu ? KW_OK : kw__fail_memory(err);
}

static kw_status read_sessions(struct kw__calibration *c, struct kw__json in, kw_error *err)
{
    if (!kw__json_has(in, "sessions")) return KW_OK;
    const json_t *object;
    kw_status status = kw__json_object(in, "sessions", &object, err);
    if (status) return status;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        if (c->num_sessions == KW__MAX_SESSIONS)
            return kw__fail(err, KW_ERROR_FORMAT, "%s: more than %d sessions", in.path, KW__MAX_SESSIONS);
        struct kw__session *s = &c->sessions[c->num_sessions];
        struct kw__json each;
        if ((status = inside(c, in, "sessions", name, value, &each, err))) return status;
        status = kw__json_number(each, "log_time", -1, 1, &s->log_time, err);
        if (!status) status = kw__json_number(each, "log_power", -1, 1, &s->log_power, err);
        if (status) return status;
        if (!(s->name = kw__arena_strdup(&c->arena, name))) return kw__fail_memory(err);
        c->num_sessions++;
    }
    return KW_OK;
}

static kw_status read_document(struct kw__calibration *c, const char *path, const json_t *root, kw_error *err)
{
    kw_status status;
    struct kw__json in = {path, root}, launch = {path, json_object_get(root, "launch")};
    const char *schema = NULL, *stack = NULL, *hardware = NULL, *date = NULL, *basis = NULL;
    c->dispatch_s = (struct kw__scaled){0, -1};
    (void)((status = kw__json_string(in, "schema", &schema, err)) ||
           (status = kw__json_string(in, "stack", &stack, err)) ||
           (status = kw__json_string(in, "hardware", &hardware, err)) ||
           (status = kw__json_string(in, "date", &date, err)) ||
           (status = kw__json_string(in, "basis", &basis, err)) || (status = read_parameters(c, in, err)) ||
           (status = read_covariance(c, in, err)) || (status = read_rates(c, in, err)) ||
           (status = read_scaled(c, in, "memory", "efficiency", "parameter", &c->memory, err)) ||
           (status = read_scaled(c, in, "launch", "seconds", "parameter", &c->launch_s, err)) ||
           (status = kw__json_number(launch, "dispatch_seconds", 0, 1, &c->dispatch_s.base, err)) ||
           (status = read_scaled(c, in, "host", "bytes_per_s", "parameter", &c->host_bytes_per_s, err)) ||
           (status = read_errors(c, in, err)) || (status = read_optional(c, in, err)) ||
           (status = read_sessions(c, in, err)) || (status = read_machine(c, in, err)));
    if (!status && kw__json_has(launch, "dispatch_parameter"))
        status = find_parameter(c, launch, "dispatch_parameter", &c->dispatch_s.parameter, err);
    c->busy_share.base = c->gap_share.base = NAN;
    if (!status && kw__json_has(in, "power"))
        (void)((status = read_scaled(c, in, "power", "busy_share", "busy_parameter", &c->busy_share, err)) ||
               (status = read_scaled(c, in, "power", "gap_share", "gap_parameter", &c->gap_share, err)));
    if (!status && strcmp(schema, "kinowatt.calibration/1") != 0)
        status =
            kw__fail(err, KW_ERROR_FORMAT, "%s: schema \"%s\" is not kinowatt.calibration/1", path, schema);
    if (!status) {
        c->stack = kw__arena_strdup(&c->arena, stack);
        c->hardware = kw__arena_strdup(&c->arena, hardware);
        c->date = kw__arena_strdup(&c->arena, date);
        c->basis = kw__arena_strdup(&c->arena, basis);
        c->name = kw__arena_printf(&c->arena, "%s@%s", stack, hardware);
        if (c->arena.failed) status = kw__fail_memory(err);
    }
    return status;
}

kw_status kw__calibration_parse(const json_t *document, const char *what, struct kw__calibration **out,
                                kw_error *err)
{
    struct kw__calibration *c = calloc(1, sizeof *c);
    if (!c) return kw__fail_memory(err);
    kw__arena_init(&c->arena);
    c->path = kw__arena_strdup(&c->arena, what);
    kw_status status = c->path ? read_document(c, c->path, document, err) : kw__fail_memory(err);
    if (status)
        kw__calibration_close(c);
    else
        *out = c;
    return status;
}

kw_status kw__calibration_open(const kw_catalog *catalog, const char *name, struct kw__calibration **out,
                               kw_error *err)
{
    char *path = NULL;
    json_t *root = NULL;
    kw_status status = KW_OK;
    if (!kw__catalog_has(catalog, KW_CALIBRATIONS, name) && strchr(name, '/'))
        path = kw__text("%s", name);
    else
        status = kw__catalog_path(catalog, KW_CALIBRATIONS, name, &path, err);
    if (!status && !path) status = kw__fail_memory(err);
    if (!status) status = kw__json_load(path, &root, err);
    if (!status) status = kw__calibration_parse(root, path, out, err);
    json_decref(root);
    free(path);
    return status;
}

void kw__calibration_close(struct kw__calibration *calibration)
{
    if (!calibration) return;
    kw__arena_free(&calibration->arena);
    free(calibration);
}

/* ---- Carrying --------------------------------------------------------------------------------------- */

/* Evidence: ML.ENERGY v3 measured WAN2.1 on B200 at 0.72 to 0.78 of the H100's time where the peaks alone say
 * 0.44, a log difference of 0.5 over two generations; 0.35 covers it at 90 %. Another stack: xDiT against
 * diffusers on one H100 differ by 0.05, flash attention 2 against cuDNN by 0.31. Mean power, as a share of
 * the limit: the B200 drew 0.83 of its limit on WAN2.1-1.3B where the H100 drew 0.97 of its own, a log
 * difference of 0.15; xDiT and diffusers differ by 0.02 on one H100. */
double kw__carried_sd(enum kw__distance distance, bool power)
{
    static const double of_time[] = {
        [KW__SAME] = 0, [KW__OTHER_STACK] = 0.2, [KW__OTHER_HARDWARE] = 0.35, [KW__OTHER_BOTH] = 0.4};
    static const double of_power[] = {
        [KW__SAME] = 0, [KW__OTHER_STACK] = 0.02, [KW__OTHER_HARDWARE] = 0.1, [KW__OTHER_BOTH] = 0.1};
    return power ? of_power[distance] : of_time[distance];
}

/* ---- Finding ---------------------------------------------------------------------------------------- */

enum kw__distance kw__calibration_distance(const struct kw__calibration *calibration, const char *stack,
                                           const kw_hardware *hardware)
{
    bool same_hardware = kw__hardware_is(hardware, calibration->hardware);
    bool same_stack = strcmp(calibration->stack, stack) == 0;
    if (same_hardware) return same_stack ? KW__SAME : KW__OTHER_STACK;
    return same_stack ? KW__OTHER_HARDWARE : KW__OTHER_BOTH;
}

/* Smaller is better. What a GPU reaches says least of a CPU, and the other way round. A stack of the same
 * family ("diffusers-...") is nearer than another, and a calibration that rests on rows is nearer than one
 * that does not. */
static int remoteness(const struct kw__calibration *c, const char *stack, const kw_hardware *hardware)
{
    bool same_stack = strcmp(c->stack, stack) == 0;
    size_t family = strcspn(stack, "-");
    bool same_family = strncmp(c->stack, stack, family) == 0 && strcspn(c->stack, "-") == family;
    int stack_term = same_stack ? 0 : same_family ? 2 : 8;
    bool same_kind = (strcmp(kw_hardware_kind(hardware), "cpu") == 0) == (c->machine.cpu != NULL);
    return (same_kind ? 0 : 16) + stack_term + (kw__hardware_is(hardware, c->hardware) ? 0 : 4) +
           (isnan(c->tokens_high) ? 1 : 0);
}

kw_status kw__calibration_find(const kw_catalog *catalog, const char *stack, const kw_hardware *hardware,
                               struct kw__calibration **out, enum kw__distance *distance, kw_error *skipped,
                               kw_error *err)
{
    struct kw__calibration *best = NULL;
    int least = 0;
    kw__error_clear(skipped);
    for (size_t i = 0; i < kw_catalog_count(catalog, KW_CALIBRATIONS); i++) {
        struct kw__calibration *c;
        kw_error problem;
        kw_status status =
            kw__calibration_open(catalog, kw_catalog_name(catalog, KW_CALIBRATIONS, i), &c, &problem);
        if (status == KW_ERROR_MEMORY) {
            kw__calibration_close(best);
            return kw__fail_memory(err);
        }
        if (status) {
            *skipped = problem;
            continue;
        }
        int r = remoteness(c, stack, hardware);
        struct kw__calibration *worse = best && r >= least ? c : best;
        if (worse == best) {
            best = c;
            least = r;
        }
        kw__calibration_close(worse);
    }
    if (!best && skipped->code) return kw__fail(err, skipped->code, "%s", skipped->message);
    if (!best)
        return kw__fail(err, KW_ERROR_NOT_FOUND, "there is no calibration in %s/calibrations",
                        catalog->folder);
    *distance = kw__calibration_distance(best, stack, hardware);
    *out = best;
    return KW_OK;
}
