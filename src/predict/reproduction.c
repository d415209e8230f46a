#include "predict/reproduction.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "hardware/hardware.h"
#include "model/catalog.h"
#include "predict/validate_shipped.h"

const char *const kw__repro_component_names[KW__REPRO_COMPONENTS] = {
    "text encoder", "timestep embedding", "self-attention", "cross-attention", "MLP", "VAE decoder", "other"};

static const double j_per_wh = 3600;

/* ---- Fits and errors -------------------------------------------------------------------------------- */

void kw__fit_line(const double *x, const double *y, size_t count, bool through_zero, double *slope,
                  double *constant, double *r2)
{
    double mean_x = 0, mean_y = 0, xx = 0, xy = 0, left = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        mean_x += x[i] / (double)count;
        mean_y += y[i] / (double)count;
    }
    double from_x = through_zero ? 0 : mean_x, from_y = through_zero ? 0 : mean_y;
    for (size_t i = 0; i < count; i++) {
        xx += (x[i] - from_x) * (x[i] - from_x);
        xy += (x[i] - from_x) * (y[i] - from_y);
    }
    *slope = xy / xx;
    *constant = from_y - *slope * from_x;
    for (size_t i = 0; i < count; i++) {
        double residual = y[i] - *slope * x[i] - *constant;
        left += residual * residual;
        all += (y[i] - mean_y) * (y[i] - mean_y);
    }
    *r2 = 1 - left / all;
}

static void add_error(struct kw__repro_error *e, double predicted, double measured)
{
    double error = 100 * (predicted / measured - 1);
    if (!isfinite(error)) return;
    e->mean += fabs(error);
    e->bias += error;
    e->largest = fmax(e->largest, fabs(error));
    e->count++;
}

static void end_error(struct kw__repro_error *e)
{
    double count = e->count;
    e->mean = e->count ? e->mean / count : NAN;
    e->bias = e->count ? e->bias / count : NAN;
    if (!e->count) e->largest = NAN;
}

/* ---- Predictions: one for each distinct request ------------------------------------------------------- */

static kw_status predict_on(struct kw__reproduction *r, const kw_catalog *catalog, const kw_model *model,
                            const kw_request *request, const kw_predict_options *options, kw_prediction **out,
                            kw_error *err)
{
    kw_effective effective;
    kw_model_info info = {.struct_size = sizeof info};
    kw_status status = kw_request_resolve(model, request, &effective, err);
    if (!status) status = kw_model_info_get(model, &info, err);
    if (status) return status;
    for (size_t i = 0; i < r->num_owned; i++)
        if (strcmp(r->owned[i]->model, info.name) == 0 && strcmp(r->owned[i]->stack, options->stack) == 0 &&
            kw__same_run(&r->owned[i]->request, &effective)) {
            *out = r->owned[i];
            return KW_OK;
        }
    kw_prediction **owned =
        kw__arena_grow(&r->arena, r->owned, r->num_owned, &r->owned_capacity, sizeof *owned);
    if (!owned) return kw__fail_memory(err);
    r->owned = owned;
    status = kw_predict(catalog, model, request, options, &r->owned[r->num_owned], err);
    if (!status) *out = r->owned[r->num_owned++];
    return status;
}

/* As the paper ran it. */
static kw_status predict(struct kw__reproduction *r, const kw_catalog *catalog, const kw_model *model,
                         const kw_request *request, kw_prediction **out, kw_error *err)
{
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    options.hardware = r->hardware;
    options.stack = r->stack;
    options.calibration = r->calibration;
    return predict_on(r, catalog, model, request, &options, out, err);
}

/* ---- The paper's file ---------------------------------------------------------------------------------- */

double kw__repro_printed(const struct kw__reproduction *r, const char *object, const char *key)
{
    const json_t *value = json_object_get(json_object_get(r->paper, object), key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *kw__repro_where(const struct kw__reproduction *r, const char *object)
{
    const char *where = json_string_value(json_object_get(json_object_get(r->paper, object), "where"));
    return where ? where : "";
}

static const json_t *rows_of(const struct kw__reproduction *r, const char *object)
{
    return json_object_get(json_object_get(r->paper, object), "rows");
}

static const char *text_of(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

static double number_of(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* The row of `rows` whose `key` is `text`; NULL: none. */
static const json_t *row_named(const json_t *rows, const char *key, const char *text)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *name = text_of(json_array_get(rows, i), key);
        if (name && strcmp(name, text) == 0) return json_array_get(rows, i);
    }
    return NULL;
}

static kw_status read_paper(struct kw__reproduction *r, const kw_catalog *catalog, kw_error *err)
{
    char *path = kw__text("%s/published/delavande2025_paper.json", catalog->folder);
    if (!path) return kw__fail_memory(err);
    kw_status status = kw__json_load(path, &r->paper, err);
    struct kw__json in = {kw__arena_strdup(&r->arena, path), r->paper};
    free(path);
    if (!status && r->arena.failed) status = kw__fail_memory(err);
    (void)(status || (status = kw__json_string(in, "title", &r->title, err)) ||
           (status = kw__json_string(in, "id", &r->id, err)) ||
           (status = kw__json_string(in, "model", &r->model, err)) ||
           (status = kw__json_string(in, "hardware", &r->hardware, err)) ||
           (status = kw__json_string(in, "stack", &r->stack, err)));
    if (status) return status;
    static const char *const objects[] = {"errors", "settings", "models", "labels", "thresholds"};
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++)
        if (!json_is_array(rows_of(r, objects[i])))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: \"%s\" must have an array \"rows\"", in.path,
                            objects[i]);
    r->printed_mu = kw__repro_printed(r, "fit", "mu");
    r->printed_r2 = kw__repro_printed(r, "fit", "r2");
    r->power_w = kw__repro_printed(r, "fit", "power_w");
    r->peak_flop_per_s = kw__repro_printed(r, "fit", "flop_per_s");
    if (!(r->printed_mu > 0 && r->power_w > 0 && r->peak_flop_per_s > 0))
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: \"fit\" must have mu, power_w and flop_per_s, each more than 0", in.path);
    if (json_array_size(rows_of(r, "models")) > KW__REPRO_MODELS ||
        json_array_size(rows_of(r, "thresholds")) > KW__REPRO_ACCELERATORS)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: more than %d models or %d accelerators", in.path,
                        (int)KW__REPRO_MODELS, (int)KW__REPRO_ACCELERATORS);
    return KW_OK;
}

static kw_status find_calibration(struct kw__reproduction *r, const kw_catalog *catalog, const char *name,
                                  kw_error *err)
{
    kw_hardware *hardware;
    kw_error skipped;
    struct kw__calibration *c = NULL;
    enum kw__distance distance = KW__SAME;
    kw_status status = kw_hardware_open(catalog, r->hardware, &hardware, err);
    if (status) return status;
    status = name ? kw__calibration_open(catalog, name, &c, err)
                  : kw__calibration_find(catalog, r->stack, hardware, &c, &distance, &skipped, err);
    if (!status) {
        r->stand_in = kw__calibration_distance(c, r->stack, hardware) != KW__SAME;
        r->calibration = kw__arena_strdup(&r->arena, name ? name : c->name);
        r->calibration_date = kw__arena_strdup(&r->arena, c->date);
        r->calibration_basis = kw__arena_strdup(&r->arena, c->basis);
        if (r->arena.failed) status = kw__fail_memory(err);
    }
    kw__calibration_close(c);
    kw_hardware_close(hardware);
    return status;
}

/* ---- The sweeps ------------------------------------------------------------------------------------ */

static int by_x(const void *a, const void *b)
{
    const struct kw__repro_point *p = a, *q = b;
    return (p->x > q->x) - (p->x < q->x);
}

static kw_status fill_point(struct kw__reproduction *r, const kw_catalog *catalog, const kw_model *model,
                            const struct kw__row *row, struct kw__repro_point *point, kw_error *err)
{
    struct kw__paper_flop flop =
        kw__paper_flops((double)row->width, (double)row->height, (double)row->frames, (double)row->steps);
    bool frames = strcmp(row->sweep, "frames") == 0, steps = strcmp(row->sweep, "steps") == 0;
    point->row = row;
    point->x = frames ? (double)row->frames : steps ? (double)row->steps : (double)(row->width * row->height);
    point->scored = (!frames || row->frames % 4 == 0) && (!steps || row->steps % 4 == 0);
    point->paper_flop = kw__paper_total(&flop);
    point->paper_latency_s = point->paper_flop / (r->printed_mu * r->peak_flop_per_s);
    point->paper_gpu_wh = r->power_w * point->paper_latency_s / j_per_wh;
    const kw_request request = kw__row_request(row);
    return predict(r, catalog, model, &request, &point->ours, err);
}

static void score(struct kw__repro_sweep *sweep)
{
    for (size_t i = 0; i < sweep->count; i++) {
        const struct kw__repro_point *p = &sweep->points[i];
        double wh = p->row->energy_wh[KW_GPU];
        if (p->scored) {
            add_error(&sweep->paper_latency, p->paper_latency_s, p->row->latency_s);
            add_error(&sweep->ours_latency, p->ours->total.latency_s.value, p->row->latency_s);
        }
        add_error(&sweep->paper_energy, p->paper_gpu_wh, wh);
        add_error(&sweep->ours_energy, p->ours->total.energy_j[KW_GPU].value / j_per_wh, wh);
    }
    end_error(&sweep->paper_latency);
    end_error(&sweep->ours_latency);
    end_error(&sweep->paper_energy);
    end_error(&sweep->ours_energy);
}

static kw_status add_sweeps(struct kw__reproduction *r, const kw_catalog *catalog, const kw_model *model,
                            kw_error *err)
{
    const struct kw__dataset *set = r->sets[0];
    const json_t *printed = rows_of(r, "errors");
    if (json_array_size(printed) != KW__REPRO_SWEEPS)
        return kw__fail(err, KW_ERROR_FORMAT, "delavande2025_paper.json: \"errors\" must have %d rows",
                        KW__REPRO_SWEEPS);
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        struct kw__repro_sweep *sweep = &r->sweeps[s];
        const json_t *row = json_array_get(printed, (size_t)s);
        sweep->axis = text_of(row, "axis");
        sweep->figure = text_of(row, "figure");
        sweep->printed_latency = number_of(row, "latency");
        sweep->printed_energy = number_of(row, "energy");
        sweep->points = kw__arena_alloc(&r->arena, set->num_rows, sizeof *sweep->points);
        if (!sweep->points) return kw__fail_memory(err);
        for (size_t i = 0; sweep->axis && i < set->num_rows; i++) {
            if (!set->rows[i].sweep || strcmp(set->rows[i].sweep, sweep->axis) != 0) continue;
            kw_status status =
                fill_point(r, catalog, model, &set->rows[i], &sweep->points[sweep->count++], err);
            if (status) return status;
        }
        if (!sweep->figure || sweep->count == 0)
            return kw__fail(err, KW_ERROR_FORMAT, "the data set has no rows of the sweep \"%s\"",
                            sweep->axis ? sweep->axis : "");
        qsort(sweep->points, sweep->count, sizeof *sweep->points, by_x);
        score(sweep);
    }
    return KW_OK;
}

/* Held-out errors, of the fits that `kinowatt validate` makes. */
static kw_status add_held_out(struct kw__reproduction *r, const kw_catalog *catalog, kw_error *err)
{
    struct kw__shipped *shipped;
    kw_status status = kw__validate_shipped(catalog, NULL, KW__VALIDATE_SWEEPS, &shipped, err);
    if (status) return status;
    const struct kw__validation *v = shipped->ladder;
    const struct kw__estimate *groups = v->estimates[KW__GROUP_OUT][KW__KERNEL],
                              *axes = v->estimates[KW__SESSION_OUT][KW__KERNEL];
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        struct kw__repro_sweep *sweep = &r->sweeps[s];
        for (size_t i = 0; i < v->samples->count; i++)
            for (size_t k = 0; k < sweep->count; k++) {
                const struct kw__repro_point *p = &sweep->points[k];
                if (p->row->line != v->samples->list[i].row->line) continue;
                double measured_j = p->row->energy_wh[KW_GPU] * j_per_wh;
                add_error(&sweep->group_out_energy, groups[i].energy_j, measured_j);
                add_error(&sweep->axis_out_energy, axes[i].energy_j, measured_j);
                if (!p->scored) continue;
                add_error(&sweep->group_out_latency, groups[i].latency_s, p->row->latency_s);
                add_error(&sweep->axis_out_latency, axes[i].latency_s, p->row->latency_s);
            }
        end_error(&sweep->group_out_latency);
        end_error(&sweep->group_out_energy);
        end_error(&sweep->axis_out_latency);
        end_error(&sweep->axis_out_energy);
    }
    kw__shipped_free(shipped);
    return KW_OK;
}

static kw_status add_fits(struct kw__reproduction *r, kw_error *err)
{
    size_t count = 0, n = 0;
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) count += r->sweeps[s].count;
    double *paper = kw__arena_alloc(&r->arena, count, sizeof *paper),
           *exact = kw__arena_alloc(&r->arena, count, sizeof *exact),
           *latency = kw__arena_alloc(&r->arena, count, sizeof *latency);
    if (!paper || !exact || !latency) return kw__fail_memory(err);
    for (int s = 0; s < KW__REPRO_SWEEPS; s++)
        for (size_t i = 0; i < r->sweeps[s].count; i++, n++) {
            const struct kw__repro_point *p = &r->sweeps[s].points[i];
            paper[n] = p->paper_flop;
            exact[n] = p->ours->total.flop;
            latency[n] = p->row->latency_s;
        }
    struct {
        struct kw__repro_line *line;
        const double *flop;
        bool through_zero;
    } fits[] = {{&r->through_zero, paper, true}, {&r->with_overhead, paper, false}, {&r->exact, exact, true}};
    for (size_t i = 0; i < 3; i++) {
        double slope;
        kw__fit_line(fits[i].flop, latency, count, fits[i].through_zero, &slope, &fits[i].line->overhead_s,
                     &fits[i].line->r2);
        fits[i].line->mu = 1 / (slope * r->peak_flop_per_s);
    }
    return KW_OK;
}

/* ---- Components ------------------------------------------------------------------------------------ */

static enum kw__repro_component component_of(const char *name)
{
    static const char *const names[] = {"text_encoder", "time_embedding", "self_attention", "cross_attention",
                                        "mlp",          "vae_decoder"};
    for (int i = 0; i < KW__REPRO_OTHER; i++)
        if (strcmp(name, names[i]) == 0) return (enum kw__repro_component)i;
    return KW__REPRO_OTHER;
}

static kw_status add_breakdowns(struct kw__reproduction *r, const kw_catalog *catalog, const kw_model *model,
                                kw_error *err)
{
    static const int64_t sizes[3][2] = {{256, 256}, {832, 480}, {1280, 720}};
    const int64_t frames = 81, steps = 50;
    for (int i = 0; i < 3; i++) {
        struct kw__repro_breakdown *b = &r->breakdowns[i];
        kw_request request = KW_REQUEST_INIT;
        request.width = sizes[i][0];
        request.height = sizes[i][1];
        request.num_frames = frames;
        request.num_inference_steps = steps;
        kw_status status = predict(r, catalog, model, &request, &b->ours, err);
        if (status) return status;
        struct kw__paper_flop f =
            kw__paper_flops((double)sizes[i][0], (double)sizes[i][1], (double)frames, (double)steps);
        const double paper[KW__REPRO_COMPONENTS] = {
            f.text, f.time, f.self_attention, f.cross_attention, f.mlp, f.decoder, 0};
        memcpy(b->paper_flop, paper, sizeof paper);
        for (size_t c = 0; c < b->ours->num_components; c++) {
            const kw_cost *cost = &b->ours->components[c];
            enum kw__repro_component k = component_of(cost->name);
            b->flop[k] += cost->flop;
            b->latency_s[k] += cost->latency_s.value;
        }
    }
    return KW_OK;
}

/* Distinct requests of the frame sweep, shortest first. */
static kw_status add_frames(struct kw__reproduction *r, kw_error *err)
{
    const struct kw__repro_sweep *sweep = &r->sweeps[1];
    r->frames = kw__arena_alloc(&r->arena, sweep->count, sizeof *r->frames);
    if (!r->frames) return kw__fail_memory(err);
    for (size_t i = 0; i < sweep->count; i++)
        if (!r->num_frames || r->frames[r->num_frames - 1] != sweep->points[i].ours)
            r->frames[r->num_frames++] = sweep->points[i].ours;
    return KW_OK;
}

/* ---- Models, accelerators, constants --------------------------------------------------------------- */

static void pair_of(const json_t *row, const char *key, double *out)
{
    const json_t *pair = json_object_get(row, key);
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_array_get(pair, i);
        out[i] = json_is_number(value) ? json_number_value(value) : NAN;
    }
}

static void read_model(const struct kw__reproduction *r, const json_t *row, struct kw__repro_model *m)
{
    const json_t *settings = row_named(rows_of(r, "settings"), "model", m->model);
    const json_t *label = row_named(rows_of(r, "labels"), "model", m->model);
    m->title = settings ? text_of(settings, "title") : NULL;
    if (!m->title) m->title = m->model;
    pair_of(row, "latency", m->printed_latency);
    for (int d = 0; d < KW_NUM_DEVICES; d++) pair_of(row, kw_device_name(d), m->printed_wh[d]);
    pair_of(row, "shares", m->printed_share);
    m->width = json_integer_value(json_object_get(settings, "width"));
    m->height = json_integer_value(json_object_get(settings, "height"));
    m->frames = json_integer_value(json_object_get(settings, "frames"));
    m->steps = json_integer_value(json_object_get(settings, "steps"));
    m->labelled = label != NULL;
    m->label_width = json_integer_value(json_object_get(label, "width"));
    m->label_height = json_integer_value(json_object_get(label, "height"));
    m->label_frames = json_integer_value(json_object_get(label, "frames"));
    m->label_steps = json_integer_value(json_object_get(label, "steps"));
}

static kw_status add_models(struct kw__reproduction *r, const kw_catalog *catalog, kw_error *err)
{
    const json_t *rows = rows_of(r, "models");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        struct kw__repro_model *m = &r->models[r->num_models++];
        m->model = text_of(json_array_get(rows, i), "model");
        if (!m->model)
            return kw__fail(err, KW_ERROR_FORMAT,
                            "delavande2025_paper.json: a row of \"models\" has no model");
        read_model(r, json_array_get(rows, i), m);
        for (size_t k = 0; k < r->sets[1]->num_rows; k++)
            if (strcmp(r->sets[1]->rows[k].model, m->model) == 0) m->row = &r->sets[1]->rows[k];
        if (!m->row || !kw__catalog_has(catalog, KW_MODELS, m->model)) continue;
        kw_model *model;
        kw_status status = kw_model_open(catalog, m->model, &model, err);
        if (status) return status;
        const kw_request request = kw__row_request(m->row);
        status = predict(r, catalog, model, &request, &m->ours, err);
        kw_model_close(model);
        if (status) return status;
    }
    return KW_OK;
}

bool kw__repro_same_request(const struct kw__dataset *set, const struct kw__row *row,
                            const struct kw__row *paper)
{
    bool any = false;
    if (strcmp(row->model, paper->model) != 0 || row->steps != paper->steps) return false;
    for (size_t i = 0; i < set->num_rows; i++) {
        const struct kw__row *other = &set->rows[i];
        any = any || (strcmp(other->model, paper->model) == 0 && other->width == paper->width &&
                      other->height == paper->height);
    }
    return row->frames == paper->frames &&
           (!any || (row->width == paper->width && row->height == paper->height));
}

static kw_status add_on_h200(struct kw__reproduction *r, const kw_catalog *catalog, kw_error *err)
{
    const struct kw__dataset *set = r->sets[2];
    kw_status status = KW_OK;
    r->on_h200 = kw__arena_alloc(&r->arena, set->num_rows + 1, sizeof *r->on_h200);
    if (!r->on_h200) return kw__fail_memory(err);
    for (size_t i = 0; i < r->num_models; i++)
        for (size_t k = 0; !status && r->models[i].ours && k < set->num_rows; k++) {
            const struct kw__row *row = &set->rows[k];
            kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
            kw_model *model;
            if (!kw__repro_same_request(set, row, r->models[i].row)) continue;
            status = kw_model_open(catalog, row->model, &model, err);
            if (status) return status;
            const kw_request request = kw__row_request(row);
            options.hardware = row->gpu;
            options.stack = row->stack;
            if (kw__offloads_as(row->offload, catalog, model, row->stack))
                status = predict_on(r, catalog, model, &request, &options, &r->on_h200[k], err);
            kw_model_close(model);
        }
    return status;
}

static kw_status add_accelerators(struct kw__reproduction *r, const kw_catalog *catalog, kw_error *err)
{
    const json_t *rows = rows_of(r, "thresholds");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        struct kw__repro_accelerator *a = &r->accelerators[r->num_accelerators++];
        *a = (struct kw__repro_accelerator){.title = text_of(row, "title"),
                                            .hardware = text_of(row, "hardware"),
                                            .note = text_of(row, "note"),
                                            .flop_per_s = number_of(row, "flop_per_s"),
                                            .bytes_per_s = number_of(row, "bytes_per_s"),
                                            .balance = number_of(row, "balance"),
                                            .attention = number_of(row, "attention"),
                                            .mlp = number_of(row, "mlp"),
                                            .our_flop_per_s = NAN,
                                            .our_bytes_per_s = NAN,
                                            .ours = {NAN, NAN, NAN}};
        if (!a->title)
            return kw__fail(err, KW_ERROR_FORMAT,
                            "delavande2025_paper.json: a row of \"thresholds\" has no title");
        if (!a->hardware) continue;
        kw_hardware *hardware;
        kw_status status = kw_hardware_open(catalog, a->hardware, &hardware, err);
        if (status) return status;
        a->our_flop_per_s = kw_hardware_get(hardware, "bf16_flop_per_s");
        a->our_bytes_per_s = kw_hardware_get(hardware, "memory_bandwidth_bytes_per_s");
        status = kw_hardware_thresholds(hardware, &a->ours, err);
        kw_hardware_close(hardware);
        if (status) return status;
    }
    return KW_OK;
}

/* Width, layers and MLP width of the denoiser and the text encoder, from the model's own config files. */
static kw_status add_constants(struct kw__reproduction *r, const kw_catalog *catalog, kw_error *err)
{
    static const char *const files[] = {"transformer", "text_encoder"};
    static const char *const keys[2][4] = {
        {"num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim"},
        {"d_model", NULL, "num_layers", "d_ff"}};
    static const char *const printed[2][3] = {{"width", "layers", "mlp_factor"},
                                              {"text_width", "text_layers", "text_mlp_factor"}};
    static const char *const names[2][3] = {
        {"width of the denoiser", "layers of the denoiser", "MLP width of the denoiser"},
        {"width of the text encoder", "layers of the text encoder", "MLP width of the text encoder"}};
    for (int f = 0; f < 2; f++) {
        int64_t values[4] = {1, 1, 1, 1};
        json_t *root = NULL;
        char *path = kw__text("%s/models/%s/%s/config.json", catalog->folder, r->model, files[f]);
        if (!path) return kw__fail_memory(err);
        kw_status status = kw__json_load(path, &root, err);
        for (int k = 0; k < 4 && !status; k++)
            if (keys[f][k])
                status = kw__json_int((struct kw__json){path, root}, keys[f][k], 1, 1 << 20, &values[k], err);
        json_decref(root);
        free(path);
        if (status) return status;
        const double real[3] = {(double)(values[0] * values[1]), (double)values[2], (double)values[3]};
        for (int k = 0; k < 3; k++) {
            double theirs = kw__repro_printed(r, "constants", printed[f][k]);
            if (k == 2) theirs *= kw__repro_printed(r, "constants", printed[f][0]);
            r->constants[3 * f + k] = (struct kw__repro_constant){names[f][k], theirs, real[k]};
        }
    }
    return KW_OK;
}

/* ---- All together ---------------------------------------------------------------------------------- */

/* What takes long comes last, so that a fault of the paper's file is told at once. */
static kw_status fill(struct kw__reproduction *r, const kw_catalog *catalog, const char *calibration,
                      kw_error *err)
{
    kw_model *model = NULL;
    kw_status status = read_paper(r, catalog, err);
    (void)(status || (status = find_calibration(r, catalog, calibration, err)) ||
           (status = kw__dataset_open(catalog, "delavande2025_wan_sweeps", &r->sets[0], err)) ||
           (status = kw__dataset_open(catalog, "delavande2025_models", &r->sets[1], err)) ||
           (status = kw__dataset_open(catalog, "h200_diffusers_full", &r->sets[2], err)) ||
           (status = kw_model_open(catalog, r->model, &model, err)) ||
           (status = add_accelerators(r, catalog, err)) || (status = add_constants(r, catalog, err)) ||
           (status = add_models(r, catalog, err)) || (status = add_sweeps(r, catalog, model, err)) ||
           (status = add_fits(r, err)) || (status = add_breakdowns(r, catalog, model, err)) ||
           (status = add_frames(r, err)) || (status = add_on_h200(r, catalog, err)) ||
           (status = add_held_out(r, catalog, err)));
    kw_model_close(model);
    return status;
}

kw_status kw__reproduction_new(const kw_catalog *catalog, const char *calibration,
                               struct kw__reproduction **out, kw_error *err)
{
    struct kw__reproduction *r = calloc(1, sizeof *r);
    if (!r) return kw__fail_memory(err);
    kw__arena_init(&r->arena);
    kw_status status = fill(r, catalog, calibration, err);
    if (status)
        kw__reproduction_free(r);
    else
        *out = r;
    return status;
}

void kw__reproduction_free(struct kw__reproduction *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->num_owned; i++) kw_prediction_free(r->owned[i]);
    for (int i = 0; i < 3; i++) kw__dataset_close(r->sets[i]);
    json_decref(r->paper);
    kw__arena_free(&r->arena);
    free(r);
}
