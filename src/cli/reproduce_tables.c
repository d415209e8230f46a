/* The tables of kinowatt reproduce; reproduce.h is the manual. */
#include "cli/reproduce.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double j_per_wh = 3600;

bool kw__repro_agrees(double printed, double computed, int decimals)
{
    return fabs(printed - computed) <= 0.5 * pow(10, -decimals) * (1 + 1e-9);
}

int kw__repro_decimals(double printed)
{
    char buffer[KW__FORMAT_SIZE];
    const char *point = strchr(kw__format_exact(buffer, printed), '.');
    return point ? (int)strlen(point + 1) : 0;
}

const kw_cost *kw__repro_decode(const kw_prediction *prediction)
{
    for (size_t i = 0; i < prediction->num_stages; i++)
        if (strcmp(prediction->stages[i].name, "decode") == 0) return &prediction->stages[i];
    return NULL;
}

static void columns(struct kw__table *table, const struct kw__column *list, size_t count)
{
    kw__table_init(table);
    for (size_t i = 0; i < count; i++) kw__table_column(table, &list[i]);
}
#define COLUMNS(table, list) columns(table, list, sizeof(list) / sizeof((list)[0]))
#define RIGHT .align = KW__ALIGN_RIGHT

static void agreement(struct kw__table *table, double printed, double computed, int decimals)
{
    kw__table_text(table, isnan(printed) || isnan(computed)               ? NULL
                          : kw__repro_agrees(printed, computed, decimals) ? "yes"
                                                                          : "no");
}

static void size_cell(struct kw__table *table, int64_t width, int64_t height)
{
    char buffer[48];
    snprintf(buffer, sizeof buffer, "%" PRId64 "x%" PRId64, width, height);
    kw__table_text(table, buffer);
}

/* ---- Table 3: errors ---- */

static void error_row(struct kw__table *table, const struct kw__repro_sweep *sweep, bool energy, bool page)
{
    const struct kw__repro_error *paper = energy ? &sweep->paper_energy : &sweep->paper_latency,
                                 *ours = energy ? &sweep->ours_energy : &sweep->ours_latency;
    double printed = energy ? sweep->printed_energy : sweep->printed_latency;
    kw__table_row(table);
    kw__table_text(table, sweep->axis);
    kw__table_text(table, energy ? "GPU energy" : "latency");
    kw__table_number(table, 0, paper->count);
    kw__table_number(table, 1, printed);
    kw__table_number(table, 2, paper->mean);
    kw__table_number(table, 2, ours->mean);
    kw__table_number(table, 2, (energy ? &sweep->group_out_energy : &sweep->group_out_latency)->mean);
    kw__table_number(table, 2, (energy ? &sweep->axis_out_energy : &sweep->axis_out_latency)->mean);
    if (energy && (size_t)paper->count < sweep->count)
        kw__table_text(table, "not all rows are public");
    else
        agreement(table, printed, paper->mean, 1);
    if (page) return;
    kw__table_number(table, 1, paper->largest);
    kw__table_number(table, 1, ours->largest);
    kw__table_number(table, 1, paper->bias);
    kw__table_number(table, 1, ours->bias);
}

void kw__repro_table_errors(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Sweep", .name = "sweep"},
        {.title = "Quantity", .name = "quantity"},
        {.title = "Rows", .name = "rows", RIGHT},
        {.title = "printed", .name = "printed_percent", .group = "Mean error (%)", RIGHT},
        {.title = "closed form", .name = "paper_percent", .group = "Mean error (%)", RIGHT},
        {.title = "ours", .name = "ours_percent", .group = "Mean error (%)", RIGHT},
        {.title = "ours, request out", .name = "ours_group_out_percent", .group = "Mean error (%)", RIGHT},
        {.title = "ours, sweep out", .name = "ours_axis_out_percent", .group = "Mean error (%)", RIGHT},
        {.title = "Printed agrees", .name = "agrees"},
        {.title = "Closed form, largest", .unit = "%", .name = "paper_largest_percent", RIGHT},
        {.title = "Ours, largest", .unit = "%", .name = "ours_largest_percent", RIGHT},
        {.title = "Closed form, bias", .unit = "%", .name = "paper_bias_percent", RIGHT},
        {.title = "Ours, bias", .unit = "%", .name = "ours_bias_percent", RIGHT},
    };
    const size_t count = sizeof list / sizeof list[0];
    columns(table, list, page ? count - 4 : count); /* the page has no room for the last four */
    for (int energy = 0; energy < 2; energy++)
        for (int s = 0; s < KW__REPRO_SWEEPS; s++) error_row(table, &r->sweeps[s], energy, page);
}

/* ---- Figures 2, 3, 4: the rows ---- */

void kw__repro_table_sweeps(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const char *const names[] = {"sweep",
                                        "width",
                                        "height",
                                        "requested_frames",
                                        "num_frames",
                                        "num_inference_steps",
                                        "tokens",
                                        "scored_by_paper",
                                        "latency_s",
                                        "gpu_energy_wh",
                                        "cpu_energy_wh",
                                        "ram_energy_wh",
                                        "paper_flop",
                                        "paper_latency_s",
                                        "paper_gpu_energy_wh",
                                        "flop",
                                        "ours_latency_s",
                                        "ours_latency_s_low",
                                        "ours_latency_s_high",
                                        "ours_gpu_energy_wh",
                                        "ours_gpu_energy_wh_low",
                                        "ours_gpu_energy_wh_high"};
    (void)page;
    kw__table_init(table);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        kw__table_column(table, &(struct kw__column){.title = names[i]});
    for (int s = 0; s < KW__REPRO_SWEEPS; s++)
        for (size_t i = 0; i < r->sweeps[s].count; i++) {
            const struct kw__repro_point *p = &r->sweeps[s].points[i];
            const kw_effective *e = &p->ours->request;
            const kw_reading *latency = &p->ours->total.latency_s, *gpu = &p->ours->total.energy_j[KW_GPU];
            const double *wh = p->row->energy_wh;
            const double numbers[] = {(double)e->width,
                                      (double)e->height,
                                      (double)p->row->frames,
                                      (double)e->num_frames,
                                      (double)e->num_inference_steps,
                                      (double)e->tokens,
                                      p->scored,
                                      p->row->latency_s,
                                      wh[KW_GPU],
                                      wh[KW_CPU],
                                      wh[KW_RAM],
                                      p->paper_flop,
                                      p->paper_latency_s,
                                      p->paper_gpu_wh,
                                      p->ours->total.flop,
                                      latency->value,
                                      latency->low,
                                      latency->high,
                                      gpu->value / j_per_wh,
                                      gpu->low / j_per_wh,
                                      gpu->high / j_per_wh};
            kw__table_row(table);
            kw__table_text(table, r->sweeps[s].axis);
            for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++)
                kw__table_number(table, 0, numbers[k]);
        }
}

/* ---- Section 3.4: the fit ---- */

void kw__repro_table_fit(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Latency fitted to", .name = "fit"},
        {.title = "mu", .name = "mu", RIGHT},
        {.title = "Overhead", .unit = "s", .name = "overhead_s", RIGHT},
        {.title = "R2", .name = "r2", RIGHT},
    };
    const struct {
        const char *name;
        struct kw__repro_line line;
    } rows[] = {
        {"the paper's FLOPs, as printed", {r->printed_mu, NAN, r->printed_r2}},
        {"the paper's FLOPs, through zero", r->through_zero},
        {"the paper's FLOPs and a constant", r->with_overhead},
        {"exact FLOPs, through zero", r->exact},
    };
    (void)page;
    COLUMNS(table, list);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kw__table_row(table);
        kw__table_text(table, rows[i].name);
        kw__table_number(table, 3, rows[i].line.mu);
        kw__table_number(table, 1, rows[i].line.overhead_s);
        kw__table_number(table, i ? 4 : 3, rows[i].line.r2);
    }
}

/* ---- Table 4 and figure 5: models ---- */

static double share(const struct kw__row *row, int device)
{
    const double *wh = row->energy_wh;
    return 100 * wh[device] / (wh[KW_GPU] + wh[KW_CPU] + wh[KW_RAM]);
}

static void models_for_page(const struct kw__reproduction *r, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Model"},
        {.title = "printed", .group = "Latency (s)", RIGHT},
        {.title = "rows", .group = "Latency (s)", RIGHT},
        {.title = "printed", .group = "GPU (Wh)", RIGHT},
        {.title = "rows", .group = "GPU (Wh)", RIGHT},
        {.title = "printed", .group = "CPU (Wh)", RIGHT},
        {.title = "rows", .group = "CPU (Wh)", RIGHT},
        {.title = "printed", .group = "RAM (Wh)", RIGHT},
        {.title = "rows", .group = "RAM (Wh)", RIGHT},
        {.title = "GPU, CPU, RAM of the sum", .unit = "%", RIGHT},
        {.title = "Does not agree"},
    };
    static const char *const names[] = {"latency", "GPU", "CPU", "RAM"};
    COLUMNS(table, list);
    for (size_t i = 0; i < r->num_models; i++) {
        const struct kw__repro_model *m = &r->models[i];
        char buffer[64], wrong[64] = "";
        if (!m->row) continue;
        kw__table_row(table);
        kw__table_text(table, m->title);
        for (int q = 0; q < 1 + KW_NUM_DEVICES; q++) {
            double printed = q ? m->printed_wh[q - 1][0] : m->printed_latency[0];
            double computed = q ? m->row->energy_wh[q - 1] : m->row->latency_s;
            int decimals = kw__repro_decimals(printed);
            kw__table_number(table, decimals, printed);
            kw__table_number(table, decimals + 1, computed);
            size_t used = strlen(wrong);
            if (!kw__repro_agrees(printed, computed, decimals))
                snprintf(wrong + used, sizeof wrong - used, "%s%s", used ? ", " : "", names[q]);
        }
        snprintf(buffer, sizeof buffer, "%.1f, %.1f, %.1f", share(m->row, KW_GPU), share(m->row, KW_CPU),
                 share(m->row, KW_RAM));
        kw__table_text(table, buffer);
        kw__table_text(table, *wrong ? wrong : NULL);
    }
}

static void models_for_csv(const struct kw__reproduction *r, struct kw__table *table)
{
    kw__table_init(table);
    static const char *const names[] = {"model", "width", "height", "requested_frames",
                                        "num_inference_steps"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        kw__table_column(table, &(struct kw__column){.title = names[i]});
    for (int q = 0; q < 1 + KW_NUM_DEVICES; q++)
        for (int k = 0; k < 4; k++) {
            static const char *const kinds[] = {"printed", "printed_sd", "rows", "rows_sd"};
            char name[64];
            snprintf(name, sizeof name, "%s%s_%s", q ? kw_device_name(q - 1) : "latency", q ? "_wh" : "_s",
                     kinds[k]);
            kw__table_column(table, &(struct kw__column){.title = name});
        }
    static const char *const shares[] = {"gpu_share_printed_percent", "cpu_share_printed_percent",
                                         "gpu_share_percent", "cpu_share_percent", "ram_share_percent"};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        kw__table_column(table, &(struct kw__column){.title = shares[i]});
    for (size_t i = 0; i < r->num_models; i++) {
        const struct kw__repro_model *m = &r->models[i];
        const struct kw__row *row = m->row;
        if (!row) continue;
        const double request[] = {(double)row->width, (double)row->height, (double)row->frames,
                                  (double)row->steps};
        kw__table_row(table);
        kw__table_text(table, m->model);
        for (size_t k = 0; k < 4; k++) kw__table_number(table, 0, request[k]);
        for (int q = 0; q < 1 + KW_NUM_DEVICES; q++) {
            const double *printed = q ? m->printed_wh[q - 1] : m->printed_latency;
            kw__table_number(table, 0, printed[0]);
            kw__table_number(table, 0, printed[1]);
            kw__table_number(table, 0, q ? row->energy_wh[q - 1] : row->latency_s);
            kw__table_number(table, 0, q ? row->energy_sd_wh[q - 1] : row->latency_sd_s);
        }
        kw__table_number(table, 0, m->printed_share[0]);
        kw__table_number(table, 0, m->printed_share[1]);
        for (int d = 0; d < KW_NUM_DEVICES; d++) kw__table_number(table, 0, share(row, d));
    }
}

/* ---- The same models on H200s ---- */

void kw__repro_table_h200(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Model", .name = "model"},
        {.title = "Size", .name = "size", RIGHT},
        {.title = "Frames", .name = "num_frames", RIGHT},
        {.title = "Steps", .name = "num_inference_steps", RIGHT},
        {.title = "H100", .name = "h100_latency_s", .group = "Latency (s)", RIGHT},
        {.title = "H200", .name = "h200_latency_s", .group = "Latency (s)", RIGHT},
        {.title = "Ours", .name = "h200_latency_s_ours", .group = "Latency (s)", RIGHT},
        {.title = "H100", .name = "h100_gpu_wh", .group = "GPU (Wh)", RIGHT},
        {.title = "H200", .name = "h200_gpu_wh", .group = "GPU (Wh)", RIGHT},
        {.title = "Ours", .name = "h200_gpu_wh_ours", .group = "GPU (Wh)", RIGHT},
        {.title = "H200's basis", .name = "basis"},
        {.title = "How", .name = "note"},
    };
    const struct kw__dataset *set = r->sets[2];
    COLUMNS(table, list);
    for (size_t i = 0; i < r->num_models; i++)
        for (size_t k = 0; r->models[i].row && k < set->num_rows; k++) {
            const struct kw__row *paper = r->models[i].row, *row = &set->rows[k];
            if (!kw__repro_same_request(set, row, paper)) continue;
            const kw_prediction *ours = r->on_h200[k];
            kw__table_row(table);
            kw__table_text(table, page ? r->models[i].title : row->model);
            size_cell(table, row->width, row->height);
            kw__table_number(table, 0, (double)(row->frames_out ? row->frames_out : row->frames));
            kw__table_number(table, 0, (double)row->steps);
            kw__table_number(table, 2, paper->latency_s);
            kw__table_number(table, 2, row->latency_s);
            kw__table_number(table, 2, ours ? ours->total.latency_s.value : NAN);
            kw__table_number(table, 2, paper->energy_wh[KW_GPU]);
            kw__table_number(table, 2, row->energy_wh[KW_GPU]);
            kw__table_number(table, 2, ours ? ours->total.energy_j[KW_GPU].value / 3600 : NAN);
            kw__table_text(table, row->basis);
            kw__table_text(table, row->note);
        }
}

void kw__repro_table_models(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    if (page)
        models_for_page(r, table);
    else
        models_for_csv(r, table);
}

static void predicted_row(struct kw__table *table, const struct kw__repro_model *m, const char *quantity,
                          const char *unit, double published, const kw_reading *ours, double scale)
{
    kw__table_row(table);
    kw__table_text(table, m->title);
    kw__table_text(table, quantity);
    kw__table_text(table, unit);
    kw__table_number(table, 1, published);
    kw__table_number(table, 1, ours->value * scale);
    kw__table_number(table, 1, ours->low * scale);
    kw__table_number(table, 1, ours->high * scale);
    kw__table_number(table, 1, 100 * (ours->value * scale / published - 1));
}

void kw__repro_table_predicted(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Model", .name = "model"},
        {.title = "Quantity", .name = "quantity"},
        {.title = "Unit", .name = "unit"},
        {.title = "Published", .name = "published", RIGHT},
        {.title = "Ours", .name = "ours", RIGHT},
        {.title = "from", .name = "ours_low", RIGHT},
        {.title = "to", .name = "ours_high", RIGHT},
        {.title = "Error", .unit = "%", .name = "error_percent", RIGHT},
    };
    static const char *const names[KW_NUM_DEVICES] = {"GPU energy", "CPU energy", "RAM energy"};
    (void)page;
    COLUMNS(table, list);
    for (size_t i = 0; i < r->num_models; i++) {
        const struct kw__repro_model *m = &r->models[i];
        if (!m->ours) continue;
        const kw_cost *total = &m->ours->total;
        predicted_row(table, m, "latency", "s", m->row->latency_s, &total->latency_s, 1);
        for (int d = 0; d < KW_NUM_DEVICES; d++)
            predicted_row(table, m, names[d], "Wh", m->row->energy_wh[d], &total->energy_j[d], 1 / j_per_wh);
    }
}

/* ---- Table 1 and the stacks of figures 2 to 4: components ---- */

void kw__repro_table_components(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Size", .name = "size"},
        {.title = "Component", .name = "component"},
        {.title = "FLOPs", .group = "Closed form", .name = "paper_flop", RIGHT},
        {.title = "%", .group = "Closed form", .name = "paper_percent", RIGHT},
        {.title = "FLOPs", .group = "Exact graph", .name = "flop", RIGHT},
        {.title = "%", .group = "Exact graph", .name = "flop_percent", RIGHT},
        {.title = "Seconds", .group = "Predicted", .name = "latency_s", RIGHT},
        {.title = "%", .group = "Predicted", .name = "latency_percent", RIGHT},
        {.title = "Closed form over exact", .name = "paper_over_exact", RIGHT},
    };
    (void)page;
    COLUMNS(table, list);
    for (int b = 0; b < 3; b++) {
        const struct kw__repro_breakdown *part = &r->breakdowns[b];
        const kw_effective *e = &part->ours->request;
        double sums[3] = {0};
        for (int c = 0; c < KW__REPRO_COMPONENTS; c++) {
            sums[0] += part->paper_flop[c];
            sums[1] += part->flop[c];
            sums[2] += part->latency_s[c];
        }
        for (int c = 0; c <= KW__REPRO_COMPONENTS; c++) {
            bool all = c == KW__REPRO_COMPONENTS;
            double paper = all ? sums[0] : part->paper_flop[c], exact = all ? sums[1] : part->flop[c],
                   latency = all ? sums[2] : part->latency_s[c];
            char buffer[KW__FORMAT_SIZE];
            kw__table_row(table);
            size_cell(table, e->width, e->height);
            kw__table_text(table, all ? "all" : kw__repro_component_names[c]);
            kw__table_value(table, kw__format_flop(buffer, paper), paper);
            kw__table_number(table, 2, 100 * paper / sums[0]);
            kw__table_value(table, kw__format_flop(buffer, exact), exact);
            kw__table_number(table, 2, 100 * exact / sums[1]);
            kw__table_number(table, 2, latency);
            kw__table_number(table, 2, 100 * latency / sums[2]);
            kw__table_number(table, 2, exact > 0 && paper > 0 ? paper / exact : NAN);
        }
    }
}

/* ---- Figure 2 and 3's thinnest layer: the decoder ---- */

static void decoder_row(const struct kw__reproduction *r, struct kw__table *table, const char *axis,
                        const kw_prediction *p)
{
    const kw_effective *e = &p->request;
    const kw_cost *decode = kw__repro_decode(p);
    if (!decode) return;
    struct kw__paper_flop f = kw__paper_flops((double)e->width, (double)e->height, (double)e->num_frames,
                                              (double)e->num_inference_steps);
    const kw_reading *gpu = &decode->energy_j[KW_GPU];
    kw__table_row(table);
    kw__table_text(table, axis);
    size_cell(table, e->width, e->height);
    kw__table_number(table, 0, (double)e->num_frames);
    kw__table_number(table, 2, f.decoder / (r->printed_mu * r->peak_flop_per_s));
    kw__table_number(table, 2, 100 * f.decoder / kw__paper_total(&f));
    kw__table_number(table, 2, decode->latency_s.value);
    kw__table_number(table, 2, decode->latency_s.low);
    kw__table_number(table, 2, decode->latency_s.high);
    kw__table_number(table, 2, 100 * decode->latency_s.value / p->total.latency_s.value);
    kw__table_number(table, 3, gpu->value / j_per_wh);
    kw__table_number(table, 2, 100 * gpu->value / p->total.energy_j[KW_GPU].value);
}

void kw__repro_table_decoder(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Sweep", .name = "sweep"},
        {.title = "Size", .name = "size"},
        {.title = "Frames", .name = "num_frames", RIGHT},
        {.title = "Closed form", .unit = "s", .name = "paper_latency_s", RIGHT},
        {.title = "Closed form", .unit = "% of the latency", .name = "paper_latency_percent", RIGHT},
        {.title = "Ours", .unit = "s", .name = "latency_s", RIGHT},
        {.title = "from", .unit = "s", .name = "latency_s_low", RIGHT},
        {.title = "to", .unit = "s", .name = "latency_s_high", RIGHT},
        {.title = "Ours", .unit = "% of the latency", .name = "latency_percent", RIGHT},
        {.title = "Ours", .unit = "Wh", .name = "gpu_energy_wh", RIGHT},
        {.title = "Ours", .unit = "% of the energy", .name = "gpu_energy_percent", RIGHT},
    };
    COLUMNS(table, list);
    const struct kw__repro_sweep *sizes = &r->sweeps[0];
    for (size_t i = 0; i < sizes->count; i++)
        if (!page || i % 4 == 0 || i + 1 == sizes->count)
            decoder_row(r, table, sizes->axis, sizes->points[i].ours);
    for (size_t i = 0; i < r->num_frames; i++)
        if (!page || i % 5 == 0 || i + 1 == r->num_frames)
            decoder_row(r, table, r->sweeps[1].axis, r->frames[i]);
}

/* ---- Table 7: thresholds ---- */

void kw__repro_table_thresholds(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Accelerator", .name = "accelerator"},
        {.title = "Peak", .unit = "TFLOP/s", .name = "printed_tflop_per_s", .group = "Printed", RIGHT},
        {.title = "Memory", .unit = "TB/s", .name = "printed_tbyte_per_s", .group = "Printed", RIGHT},
        {.title = "Balance", .name = "printed_balance", .group = "Printed", RIGHT},
        {.title = "Attention", .name = "printed_attention_tokens", .group = "Printed", RIGHT},
        {.title = "MLP", .name = "printed_mlp_tokens", .group = "Printed", RIGHT},
        {.title = "Peak over memory", .name = "recomputed_balance", RIGHT},
        {.title = "Agrees", .name = "agrees"},
        {.title = "Profile", .name = "hardware"},
        {.title = "Peak", .unit = "TFLOP/s", .name = "tflop_per_s", .group = "Ours", RIGHT},
        {.title = "Memory", .unit = "TB/s", .name = "tbyte_per_s", .group = "Ours", RIGHT},
        {.title = "Attention", .name = "attention_tokens", .group = "Ours", RIGHT},
        {.title = "MLP", .name = "mlp_tokens", .group = "Ours", RIGHT},
    };
    (void)page;
    COLUMNS(table, list);
    for (size_t i = 0; i < r->num_accelerators; i++) {
        const struct kw__repro_accelerator *a = &r->accelerators[i];
        double balance = a->flop_per_s / a->bytes_per_s;
        kw__table_row(table);
        kw__table_text(table, a->title);
        kw__table_number(table, 0, a->flop_per_s / 1e12);
        kw__table_number(table, 2, a->bytes_per_s / 1e12);
        kw__table_number(table, 0, a->balance);
        kw__table_number(table, 0, a->attention);
        kw__table_number(table, 0, a->mlp);
        kw__table_number(table, 1, balance);
        /* the paper's rounding is not always to the nearest */
        kw__table_text(table, fabs(balance - a->balance) <= 1 ? "yes" : "no");
        kw__table_text(table, a->hardware);
        kw__table_number(table, 1, a->our_flop_per_s / 1e12);
        kw__table_number(table, 2, a->our_bytes_per_s / 1e12);
        kw__table_number(table, 0, a->ours.attention_tokens);
        kw__table_number(table, 0, a->ours.mlp_tokens);
    }
}

/* ---- Tables 5 and 2: constants and settings ---- */

void kw__repro_table_constants(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Constant", .name = "constant"},
        {.title = "Paper", .name = "paper", RIGHT},
        {.title = "Model's config", .name = "config", RIGHT},
        {.title = "Agrees", .name = "agrees"},
    };
    (void)page;
    COLUMNS(table, list);
    for (int i = 0; i < KW__REPRO_CONSTANTS; i++) {
        const struct kw__repro_constant *c = &r->constants[i];
        kw__table_row(table);
        kw__table_text(table, c->what);
        kw__table_number(table, 0, c->paper);
        kw__table_number(table, 0, c->real);
        agreement(table, c->paper, c->real, 0);
    }
}

static void put_request(char *buffer, size_t size, int64_t width, int64_t height, int64_t frames,
                        int64_t steps)
{
    snprintf(buffer, size, "%" PRId64 "x%" PRId64 ", %" PRId64 " frames, %" PRId64 " steps", width, height,
             frames, steps);
}

void kw__repro_table_settings(const struct kw__reproduction *r, bool page, struct kw__table *table)
{
    static const struct kw__column list[] = {
        {.title = "Model", .name = "model"},
        {.title = "Table 2", .name = "printed"},
        {.title = "Label of the rows", .name = "label"},
        {.title = "Ran", .name = "ran"},
        {.title = "Agrees", .name = "agrees"},
        {.title = "What to know", .name = "note"},
    };
    (void)page;
    COLUMNS(table, list);
    for (size_t i = 0; i < r->num_models; i++) {
        const struct kw__repro_model *m = &r->models[i];
        char printed[96], label[96], ran[96];
        if (!m->row) continue;
        put_request(printed, sizeof printed, m->width, m->height, m->frames, m->steps);
        put_request(ran, sizeof ran, m->row->width, m->row->height, m->row->frames, m->row->steps);
        put_request(label, sizeof label, m->label_width, m->label_height, m->label_frames, m->label_steps);
        kw__table_row(table);
        kw__table_text(table, m->title);
        kw__table_text(table, printed);
        kw__table_text(table, m->labelled ? label : "the same");
        kw__table_text(table, ran);
        kw__table_text(table,
                       strcmp(printed, ran) != 0 || (m->labelled && strcmp(label, ran) != 0) ? "no" : "yes");
        kw__table_text(table, m->row->note);
    }
}
