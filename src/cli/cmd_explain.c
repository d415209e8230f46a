/*
 * kinowatt explain: where the time and the energy go, component by component and operator by operator,
 * and two stacks side by side.
 *
 * Ratios are the other stack's figure over this one's: 0.50 x is half of it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const struct kw__usage usage_base = {
    .name = "explain",
    .synopsis = "MODEL",
    .about =
        "Shows the bill of a request by component: FLOPs of the model and of what the stack runs, bytes,\n"
        "launches, what bounds it, time and GPU energy. --operators goes down to single operators;\n"
        "--against puts another stack beside it.",
    .sets =
        KW__WITH_REQUEST | KW__WITH_SYSTEM | KW__WITH_METHOD | KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
    .least = 1,
    .most = 1,
    .missing = "explain needs a model: a name that 'kinowatt models' lists, or a folder",
};

struct settings {
    const char *against;
    bool operators;
};

static const double wh_per_j = 1.0 / 3600;

/* ---- Cells ---- */

static void cell_flop(struct kw__table *table, double flop)
{
    char buffer[KW__FORMAT_SIZE];
    kw__table_value(table, kw__format_flop(buffer, flop), flop);
}

static void cell_bytes(struct kw__table *table, double bytes)
{
    char buffer[KW__FORMAT_SIZE];
    kw__table_value(table, kw__format_bytes(buffer, bytes), bytes);
}

static void cell_seconds(struct kw__table *table, double seconds_s)
{
    char buffer[KW__FORMAT_SIZE];
    kw__table_value(table, kw__format_seconds(buffer, seconds_s), seconds_s);
}

static void cell_energy(struct kw__table *table, double energy_j)
{
    char buffer[KW__FORMAT_SIZE];
    kw__table_value(table, kw__format_wh(buffer, energy_j * wh_per_j), energy_j);
}

static void cell_count(struct kw__table *table, double count)
{
    kw__table_number(table, 0, count);
}

static void cell_share(struct kw__table *table, double part, double whole)
{
    char buffer[KW__FORMAT_SIZE];
    double share = whole > 0 ? part / whole : NAN;
    snprintf(buffer, sizeof buffer, "%.1f %%", 100 * share);
    kw__table_value(table, buffer, share);
}

static double intensity(double flop, double bytes)
{
    return bytes > 0 ? flop / bytes : NAN;
}

/* "0.52 x"; absent where there is nothing to divide by. */
static void cell_ratio(struct kw__table *table, double other, double mine)
{
    char buffer[KW__FORMAT_SIZE];
    double ratio = mine > 0 ? other / mine : NAN;
    snprintf(buffer, sizeof buffer, "%.2f x", ratio);
    kw__table_value(table, buffer, ratio);
}

/* ---- By component ---- */

static void component_cells(struct kw__table *table, const kw_cost *cost, const kw_cost *total)
{
    double energy_j = cost->energy_j[KW_GPU].value;
    kw__table_text(table, cost->name);
    cell_flop(table, cost->flop);
    cell_flop(table, cost->flop_executed);
    cell_bytes(table, cost->bytes);
    kw__table_number(table, 0, cost->launches);
    kw__table_number(table, 0, intensity(cost->flop_executed, cost->bytes));
    kw__table_text(table, cost == total ? "" : kw_regime_name(cost->regime));
    cell_seconds(table, cost->latency_s.value);
    cell_share(table, cost->latency_s.value, total->latency_s.value);
    cell_energy(table, energy_j);
    cell_share(table, energy_j, total->energy_j[KW_GPU].value);
}

static void component_table(struct kw__table *table, const kw_prediction *p)
{
    static const struct kw__column list[] = {
        {.title = "Component", .name = "component"},
        {.title = "FLOPs", .name = "flop", .align = KW__ALIGN_RIGHT},
        {.title = "Executed", .name = "flop_executed", .align = KW__ALIGN_RIGHT},
        {.title = "Bytes", .name = "bytes", .align = KW__ALIGN_RIGHT},
        {.title = "Launches", .name = "launches", .align = KW__ALIGN_RIGHT},
        {.title = "FLOP/B", .name = "intensity", .align = KW__ALIGN_RIGHT},
        {.title = "Bound by", .name = "regime"},
        {.title = "Time", .name = "latency_s", .align = KW__ALIGN_RIGHT},
        {.title = "Share", .name = "latency_share", .align = KW__ALIGN_RIGHT},
        {.title = "Energy", .name = "gpu_energy_j", .align = KW__ALIGN_RIGHT},
        {.title = "Share", .name = "gpu_energy_share", .align = KW__ALIGN_RIGHT},
    };
    kw__table_init(table);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) kw__table_column(table, &list[i]);
    for (size_t i = 0; i < p->num_components; i++) {
        kw__table_row(table);
        component_cells(table, &p->components[i], &p->total);
    }
    kw__table_row_ruled(table);
    component_cells(table, &p->total, &p->total);
}

static json_t *component_json(const kw_cost *cost)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o}", "name", cost->name, "flop",
                     kw__cli_number(cost->flop), "flop_executed", kw__cli_number(cost->flop_executed),
                     "bytes", kw__cli_number(cost->bytes), "launches", kw__cli_number(cost->launches),
                     "intensity", kw__cli_number(intensity(cost->flop_executed, cost->bytes)), "regime",
                     kw_regime_name(cost->regime), "latency_s", kw__cli_number(cost->latency_s.value),
                     "gpu_energy_j", kw__cli_number(cost->energy_j[KW_GPU].value));
}

/* ---- By operator ---- */

static void operator_row(struct kw__table *table, const kw_bill_line *line, const kw_cost *total,
                         const char *stack, bool stage)
{
    kw__table_row(table);
    if (stack) kw__table_text(table, stack);
    if (stage) kw__table_text(table, line->stage);
    kw__table_text(table, line->component);
    kw__table_text(table, line->op);
    kw__table_text(table, line->kernel_class);
    cell_count(table, line->calls);
    cell_flop(table, line->flop_executed);
    cell_bytes(table, line->bytes);
    cell_count(table, line->launches);
    kw__table_number(table, 1, line->intensity);
    kw__table_text(table, kw_regime_name(line->regime));
    cell_seconds(table, line->latency_s);
    cell_share(table, line->latency_s, total->latency_s.value);
    cell_energy(table, line->gpu_energy_j);
    cell_share(table, line->gpu_energy_j, total->energy_j[KW_GPU].value);
}

/* Component by component, in the order of the table of components. */
static void operator_rows(struct kw__table *table, const kw_bill *bill, const char *stack, bool stage)
{
    const kw_prediction *p = bill->prediction;
    for (size_t i = 0; i < p->num_components; i++)
        for (size_t j = 0; j < bill->num_lines; j++)
            if (strcmp(bill->lines[j].component, p->components[i].name) == 0)
                operator_row(table, &bill->lines[j], &p->total, stack, stage);
}

/* With `other`, the operators of both, and which stack each is of. People do without the stage, which
 * the component implies, and read (1) and (2) as in the tables above. */
static void operator_table(struct kw__table *table, const kw_bill *bill, const kw_bill *other, bool people)
{
    static const struct kw__column list[] = {
        {.title = "Component", .name = "component"},
        {.title = "Operator", .name = "operator"},
        {.title = "Class", .name = "class"},
        {.title = "Calls", .name = "calls", .align = KW__ALIGN_RIGHT},
        {.title = "FLOPs", .name = "flop_executed", .align = KW__ALIGN_RIGHT},
        {.title = "Bytes", .name = "bytes", .align = KW__ALIGN_RIGHT},
        {.title = "Launches", .name = "launches", .align = KW__ALIGN_RIGHT},
        {.title = "FLOP/B", .name = "intensity", .align = KW__ALIGN_RIGHT},
        {.title = "Bound by", .name = "regime"},
        {.title = "Time", .name = "latency_s", .align = KW__ALIGN_RIGHT},
        {.title = "Share", .name = "latency_share", .align = KW__ALIGN_RIGHT},
        {.title = "Energy", .name = "gpu_energy_j", .align = KW__ALIGN_RIGHT},
        {.title = "Share", .name = "gpu_energy_share", .align = KW__ALIGN_RIGHT},
    };
    kw__table_init(table);
    if (other) kw__table_column(table, &(struct kw__column){.title = "Stack", .name = "stack"});
    if (!people) kw__table_column(table, &(struct kw__column){.title = "Stage", .name = "stage"});
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) kw__table_column(table, &list[i]);
    operator_rows(table, bill, !other ? NULL : people ? "(1)" : bill->prediction->stack, !people);
    if (other) operator_rows(table, other, people ? "(2)" : other->prediction->stack, !people);
}

static json_t *operator_json(const kw_bill_line *line)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o}", "stage", line->stage,
                     "component", line->component, "operator", line->op, "class", line->kernel_class, "calls",
                     kw__cli_number(line->calls), "flop_executed", kw__cli_number(line->flop_executed),
                     "bytes", kw__cli_number(line->bytes), "launches", kw__cli_number(line->launches),
                     "intensity", kw__cli_number(line->intensity), "regime", kw_regime_name(line->regime),
                     "latency_s", kw__cli_number(line->latency_s), "gpu_energy_j",
                     kw__cli_number(line->gpu_energy_j));
}

/* ---- Two stacks ---- */

static const kw_cost *find_component(const kw_prediction *p, const char *name)
{
    for (size_t i = 0; i < p->num_components; i++)
        if (strcmp(p->components[i].name, name) == 0) return &p->components[i];
    return NULL;
}

static const struct {
    const char *title, *name;
    void (*cell)(struct kw__table *table, double value);
} figures[] = {
    {"Time", "latency_s", cell_seconds},
    {"GPU energy", "gpu_energy_j", cell_energy},
    {"FLOPs executed", "flop_executed", cell_flop},
    {"Bytes", "bytes", cell_bytes},
    {"Launches", "launches", cell_count},
};
enum { TIME, ENERGY, FLOP, BYTES, LAUNCHES, NUM_FIGURES };

static double figure_of(const kw_cost *cost, int figure)
{
    if (!cost) return 0; /* a component that one of the two lacks costs it nothing */
    switch (figure) {
    case TIME: return cost->latency_s.value;
    case ENERGY: return cost->energy_j[KW_GPU].value;
    case FLOP: return cost->flop_executed;
    case BYTES: return cost->bytes;
    default: return cost->launches;
    }
}

static void against_columns(struct kw__table *table, int first, int last)
{
    static const struct {
        const char *title, *prefix;
    } parts[] = {{"(1)", ""}, {"(2)", "against_"}, {"x", "ratio_"}};
    kw__table_init(table);
    kw__table_column(table, &(struct kw__column){.title = "Component", .name = "component"});
    for (int f = first; f <= last; f++) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s%s", parts[i].prefix, figures[f].name);
            kw__table_column(table, &(struct kw__column){.title = parts[i].title,
                                                         .name = name,
                                                         .group = figures[f].title,
                                                         .align = KW__ALIGN_RIGHT});
        }
    }
}

static void against_cells(struct kw__table *table, const char *name, const kw_cost *mine,
                          const kw_cost *other, int first, int last)
{
    kw__table_text(table, name);
    for (int f = first; f <= last; f++) {
        figures[f].cell(table, figure_of(mine, f));
        figures[f].cell(table, figure_of(other, f));
        cell_ratio(table, figure_of(other, f), figure_of(mine, f));
    }
}

/* The figures from `first` to `last`: all of them side by side are too wide for a terminal. */
static void against_table(struct kw__table *table, const kw_prediction *mine, const kw_prediction *other,
                          int first, int last)
{
    against_columns(table, first, last);
    for (size_t i = 0; i < mine->num_components; i++) {
        const char *name = mine->components[i].name;
        kw__table_row(table);
        against_cells(table, name, &mine->components[i], find_component(other, name), first, last);
    }
    for (size_t i = 0; i < other->num_components; i++) {
        const char *name = other->components[i].name;
        if (find_component(mine, name)) continue;
        kw__table_row(table);
        against_cells(table, name, NULL, &other->components[i], first, last);
    }
    kw__table_row_ruled(table);
    against_cells(table, "total", &mine->total, &other->total, first, last);
}

/* ---- The command ---- */

static json_t *bill_json(const kw_bill *bill, bool operators)
{
    const kw_prediction *p = bill->prediction;
    json_t *components = json_array(), *warnings = json_array();
    for (size_t i = 0; i < p->num_components; i++)
        json_array_append_new(components, component_json(&p->components[i]));
    for (size_t i = 0; i < p->num_warnings; i++)
        json_array_append_new(warnings, kw__cli_string(p->warnings[i]));
    json_t *total = component_json(&p->total);
    json_object_del(total, "regime");
    json_t *document = json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "model",
                                 kw__cli_string(p->model), "hardware", kw__cli_string(p->hardware), "stack",
                                 kw__cli_string(p->stack), "method", kw_method_name(p->method), "calibration",
                                 kw__cli_string(p->calibration), "request", kw__cli_request(&p->request),
                                 "components", components, "total", total, "warnings", warnings);
    if (!operators) return document;
    json_t *lines = json_array();
    for (size_t i = 0; i < bill->num_lines; i++) json_array_append_new(lines, operator_json(&bill->lines[i]));
    json_object_set_new(document, "operators", lines);
    return document;
}

static int print_json(const kw_bill *bill, const kw_bill *other, const struct kw__options *options,
                      const struct settings *settings)
{
    json_t *document = json_pack("{s:s}", "schema", "kinowatt.explanation/1");
    json_t *mine = bill_json(bill, settings->operators);
    json_object_update(document, mine);
    json_decref(mine);
    if (other) json_object_set_new(document, "against", bill_json(other, settings->operators));
    return kw__cli_emit_json(options, document);
}

static void put_header(struct kw__out *out, const kw_bill *bill, const kw_bill *other,
                       const struct kw__options *options)
{
    const kw_prediction *p = bill->prediction;
    kw__out_puts(out, "Model     ");
    kw__cli_put(out, p->model);
    kw__out_puts(out, "\n");
    kw__cli_put_request(out, &p->request);
    kw__cli_put_settings(out, p, options);
    if (other) {
        kw__out_puts(out, "\n(1) ");
        kw__cli_put(out, p->stack);
        kw__out_puts(out, "   (2) ");
        kw__cli_put(out, other->prediction->stack);
        kw__out_puts(out, "   x: (2) over (1)\n");
    }
    kw__out_puts(out, "\n");
}

static void put_table(struct kw__out *out, struct kw__table *table)
{
    kw__table_render_text(table, out);
    kw__table_free(table);
}

static void put_text(struct kw__out *out, const kw_bill *bill, const kw_bill *other,
                     const struct kw__options *options, const struct settings *settings)
{
    struct kw__table table;
    put_header(out, bill, other, options);
    if (other) {
        against_table(&table, bill->prediction, other->prediction, TIME, ENERGY);
        put_table(out, &table);
        kw__out_puts(out, "\n");
        against_table(&table, bill->prediction, other->prediction, FLOP, LAUNCHES);
    } else {
        component_table(&table, bill->prediction);
    }
    put_table(out, &table);
    if (settings->operators) {
        kw__out_puts(out, "\n");
        operator_table(&table, bill, other, true);
        put_table(out, &table);
    }
    kw__cli_put_assumptions(out, bill->prediction);
}

/* One table: operators, else two stacks, else components. */
static void put_csv(struct kw__out *out, const kw_bill *bill, const kw_bill *other,
                    const struct settings *settings)
{
    struct kw__table table;
    if (settings->operators)
        operator_table(&table, bill, other, false);
    else if (other)
        against_table(&table, bill->prediction, other->prediction, TIME, LAUNCHES);
    else
        component_table(&table, bill->prediction);
    kw__table_render_csv(&table, out);
    kw__table_free(&table);
}

static void warn(const kw_prediction *p, const kw_prediction *seen)
{
    for (size_t i = 0; i < p->num_warnings; i++) {
        bool twice = false;
        for (size_t j = 0; seen && j < seen->num_warnings; j++)
            twice = twice || strcmp(p->warnings[i], seen->warnings[j]) == 0;
        if (!twice) kw__cli_warn("%s", p->warnings[i]);
    }
}

static int print(const kw_bill *bill, const kw_bill *other, const struct kw__options *options,
                 const struct settings *settings)
{
    if (options->json) return print_json(bill, other, options, settings);
    struct kw__out out;
    kw__out_init(&out);
    if (options->csv)
        put_csv(&out, bill, other, settings);
    else
        put_text(&out, bill, other, options, settings);
    int code = kw__cli_emit(options, &out);
    if (code) return code;
    warn(bill->prediction, NULL);
    if (other) warn(other->prediction, bill->prediction);
    return code;
}

static kw_status explain(const kw_catalog *catalog, const kw_model *model, const struct kw__options *options,
                         const char *against, kw_bill **mine, kw_bill **other, kw_error *err)
{
    kw_status status = kw_explain(catalog, model, &options->request, &options->predict, mine, err);
    if (status || !against) return status;
    kw_predict_options predict = options->predict;
    predict.stack = against;
    predict.calibration = NULL; /* it is of one stack, and may have said the hardware */
    if (options->predict.calibration) predict.hardware = (*mine)->prediction->hardware;
    return kw_explain(catalog, model, &options->request, &predict, other, err);
}

int kw__cmd_explain(int argc, char **argv)
{
    struct settings settings = {0};
    const struct kw__option extra[] = {
        {"against", 0, KW__OPTION_TEXT, "STACK", "another stack beside it", &settings.against},
        {"operators", 0, KW__OPTION_FLAG, NULL, "operator by operator", &settings.operators},
    };
    struct kw__usage usage = usage_base;
    usage.extra = extra;
    usage.n_extra = sizeof extra / sizeof extra[0];
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    kw_error err = {0};
    kw_model *model = NULL;
    kw_bill *mine = NULL, *other = NULL;
    kw_status status = kw_model_open(catalog, options.args[0], &model, &err);
    if (!status) status = explain(catalog, model, &options, settings.against, &mine, &other, &err);
    code = status ? kw__cli_fail(&err) : print(mine, other, &options, &settings);
    kw_bill_free(other);
    kw_bill_free(mine);
    kw_model_close(model);
    kw_catalog_close(catalog);
    return code;
}
