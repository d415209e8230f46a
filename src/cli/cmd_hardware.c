/*
 * kinowatt hardware: the profiles, or one profile with the source of each value.
 *
 * The thresholds are those of arXiv 2509.19222, appendix B, with s bytes a scalar (2 for bf16), peak
 * Theta and bandwidth B: attention is bound by compute from l* = s Theta / (2 B) tokens on, the MLP from
 * l* = s Theta / B (kw_hardware_thresholds).
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct kw__usage usage = {
    .name = "hardware",
    .synopsis = "[NAME]",
    .about =
        "Lists the hardware profiles. With a name ('cpu' is this machine, found by probing) or a profile's\n"
        "file, shows each value with its source and the numbers of tokens from which on attention and the\n"
        "MLP are bound by compute.",
    .sets = KW__WITH_JSON | KW__WITH_CSV | KW__WITH_OUTPUT,
    .most = 1,
};

static const char this_machine[] = "cpu";

/* A value with its unit, scaled for people: "989.4 TFLOP/s". */
static const char *format_value(char *buffer, size_t size, double value, const char *unit)
{
    char number[KW__FORMAT_SIZE];
    if (isnan(value))
        snprintf(buffer, size, "\xE2\x80\x93");
    else if (strcmp(unit, "FLOP/s") == 0)
        snprintf(buffer, size, "%s/s", kw__format_flop(number, value));
    else if (strcmp(unit, "B/s") == 0 || strcmp(unit, "byte/s") == 0)
        snprintf(buffer, size, "%s/s", kw__format_bytes(number, value));
    else if (strcmp(unit, "B") == 0 || strcmp(unit, "byte") == 0)
        snprintf(buffer, size, "%s", kw__format_bytes(number, value));
    else if (strcmp(unit, "W") == 0)
        snprintf(buffer, size, "%g W", value);
    else if (strcmp(unit, "Hz") == 0)
        snprintf(buffer, size, "%.0f MHz", value / 1e6);
    else if (strcmp(unit, "1") == 0)
        snprintf(buffer, size, "%g", value);
    else
        snprintf(buffer, size, "%g %s", value, unit);
    return buffer;
}

static kw_thresholds thresholds_of(const kw_hardware *hardware)
{
    kw_thresholds thresholds;
    if (kw_hardware_thresholds(hardware, &thresholds, NULL)) thresholds = (kw_thresholds){NAN, NAN, NAN};
    return thresholds;
}

static json_t *thresholds_json(const kw_hardware *hardware)
{
    kw_thresholds t = thresholds_of(hardware);
    if (isnan(t.ridge_flop_per_byte)) return json_null();
    return json_pack("{s:o, s:o, s:o}", "ridge_flop_per_byte", kw__cli_number(t.ridge_flop_per_byte),
                     "attention_tokens", kw__cli_number(t.attention_tokens), "mlp_tokens",
                     kw__cli_number(t.mlp_tokens));
}

/* The schema of the data files, so that what is printed can be edited and given to --hardware. */
static json_t *profile_json(const kw_hardware *hardware)
{
    const char *kind = kw_hardware_kind(hardware);
    json_t *values = json_object();
    for (size_t i = 0; i < kw_hardware_count(hardware); i++) {
        const kw_hardware_value *v = kw_hardware_at(hardware, i);
        json_t *value = json_pack("{s:o, s:o, s:o, s:o}", "value", kw__cli_number(v->value), "unit",
                                  kw__cli_string(v->unit), "source", kw__cli_string(v->source), "date",
                                  kw__cli_string(v->date));
        if (v->note) json_object_set_new(value, "note", kw__cli_string(v->note));
        json_object_set_new(values, v->key, value);
    }
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "schema", "kinowatt.hardware/1", "name",
                     kw__cli_string(kw_hardware_name(hardware)), "title",
                     kw__cli_string(kw_hardware_title(hardware)), "kind", kw__cli_string(kind), "values",
                     values, "thresholds", thresholds_json(hardware));
}

/* ---- The list ---- */

static const struct kw__column list_columns[] = {
    {.title = "Name", .name = "hardware"},
    {.title = "Title", .name = "title"},
    {.title = "Peak bf16", .name = "bf16_flop_per_s", .align = KW__ALIGN_RIGHT},
    {.title = "Bandwidth", .name = "memory_bandwidth_bytes_per_s", .align = KW__ALIGN_RIGHT},
    {.title = "Memory", .name = "memory_bytes", .align = KW__ALIGN_RIGHT},
    {.title = "Limit", .name = "power_limit_w", .align = KW__ALIGN_RIGHT},
    {.title = "Ridge", .unit = "FLOP/B", .name = "ridge_flop_per_byte", .align = KW__ALIGN_RIGHT},
};

static void list_row(struct kw__table *table, const kw_hardware *hardware)
{
    static const struct {
        const char *key, *unit;
    } shown[] = {{"bf16_flop_per_s", "FLOP/s"},
                 {"memory_bandwidth_bytes_per_s", "B/s"},
                 {"memory_bytes", "B"},
                 {"power_limit_w", "W"}};
    char buffer[64];
    kw__table_row(table);
    kw__table_text(table, kw_hardware_name(hardware));
    kw__table_text(table, kw_hardware_title(hardware));
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        double value = kw_hardware_get(hardware, shown[i].key);
        kw__table_value(table, format_value(buffer, sizeof buffer, value, shown[i].unit), value);
    }
    kw__table_number(table, 0, thresholds_of(hardware).ridge_flop_per_byte);
}

static int list(const kw_catalog *catalog, const struct kw__options *options)
{
    struct kw__table table;
    json_t *profiles = json_array();
    kw_error err = {0};
    kw_status status = KW_OK;
    size_t count = kw_catalog_count(catalog, KW_HARDWARE);
    kw__table_init(&table);
    for (size_t i = 0; i < sizeof list_columns / sizeof list_columns[0]; i++)
        kw__table_column(&table, &list_columns[i]);
    for (size_t i = 0; !status && i <= count; i++) {
        kw_hardware *hardware = NULL;
        const char *name = i < count ? kw_catalog_name(catalog, KW_HARDWARE, i) : this_machine;
        status = kw_hardware_open(catalog, name, &hardware, &err);
        if (!status) {
            list_row(&table, hardware);
            json_array_append_new(profiles, profile_json(hardware));
        }
        kw_hardware_close(hardware);
    }
    if (!status && options->json) {
        kw__table_free(&table);
        return kw__cli_emit_json(
            options, json_pack("{s:s, s:o}", "schema", "kinowatt.hardware_list/1", "hardware", profiles));
    }
    json_decref(profiles);
    if (!status) return kw__cli_emit_table(options, &table);
    kw__table_free(&table);
    return kw__cli_fail(&err);
}

/* ---- One profile ---- */

/* Sources are long and shared: the table has their numbers. */
static size_t source_number(const kw_hardware *hardware, size_t index)
{
    size_t number = 1;
    for (size_t i = 0; i <= index; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = strcmp(kw_hardware_at(hardware, i)->source, kw_hardware_at(hardware, j)->source) == 0;
        if (strcmp(kw_hardware_at(hardware, i)->source, kw_hardware_at(hardware, index)->source) == 0)
            return number;
        number += !seen;
    }
    return number;
}

static void put_values(struct kw__out *out, const kw_hardware *hardware)
{
    static const struct kw__column columns[] = {
        {.title = "Key"},
        {.title = "Value", .align = KW__ALIGN_RIGHT},
        {.title = "Date"},
        {.title = "Source"},
    };
    struct kw__table table;
    char buffer[64];
    kw__table_init(&table);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) kw__table_column(&table, &columns[i]);
    for (size_t i = 0; i < kw_hardware_count(hardware); i++) {
        const kw_hardware_value *v = kw_hardware_at(hardware, i);
        kw__table_row(&table);
        kw__table_text(&table, v->key);
        kw__table_text(&table, format_value(buffer, sizeof buffer, v->value, v->unit));
        kw__table_text(&table, v->date);
        snprintf(buffer, sizeof buffer, "[%zu]%s", source_number(hardware, i), v->note ? " and note" : "");
        kw__table_text(&table, buffer);
    }
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

static void put_sources(struct kw__out *out, const kw_hardware *hardware)
{
    size_t next = 1;
    kw__out_puts(out, "\nSources\n");
    for (size_t i = 0; i < kw_hardware_count(hardware); i++) {
        if (source_number(hardware, i) != next) continue;
        kw__out_printf(out, "  [%zu] ", next++);
        kw__cli_put(out, kw_hardware_at(hardware, i)->source);
        kw__out_puts(out, "\n");
    }
    bool any = false;
    for (size_t i = 0; i < kw_hardware_count(hardware); i++) {
        const kw_hardware_value *v = kw_hardware_at(hardware, i);
        if (!v->note) continue;
        struct kw__out line;
        kw__out_init(&line);
        kw__out_printf(&line, "%s: %s", v->key, v->note);
        if (!any) kw__out_puts(out, "\nNotes\n");
        any = true;
        kw__cli_put_item(out, line.data ? line.data : v->key);
        kw__out_free(&line);
    }
}

static void put_thresholds(struct kw__out *out, const kw_hardware *hardware)
{
    kw_thresholds t = thresholds_of(hardware);
    if (isnan(t.ridge_flop_per_byte)) {
        kw__out_puts(out, "\nNo thresholds: the profile has no bf16 rate.\n");
        return;
    }
    char peak[64], bandwidth[64];
    format_value(peak, sizeof peak, kw_hardware_get(hardware, "bf16_flop_per_s"), "FLOP/s");
    format_value(bandwidth, sizeof bandwidth, kw_hardware_get(hardware, "memory_bandwidth_bytes_per_s"),
                 "B/s");
    kw__out_printf(out, "\nBound by compute above (bf16: s = 2 bytes; \xCE\x98 = %s, B = %s)\n", peak,
                   bandwidth);
    /* l > 590.7 is l > 590 for whole l: the paper's figures. */
    kw__out_printf(out,
                   "  attention  s\xC2\xB7\xCE\x98 / (2\xC2\xB7"
                   "B) = %6.0f tokens\n",
                   floor(t.attention_tokens));
    kw__out_printf(out, "  MLP        s\xC2\xB7\xCE\x98 / B     = %6.0f tokens\n", floor(t.mlp_tokens));
    kw__out_printf(out, "  ridge      \xCE\x98 / B       = %6.1f FLOP per byte\n", t.ridge_flop_per_byte);
    kw__out_puts(out, "  (arXiv 2509.19222, appendix B)\n");
}

static void put_csv(struct kw__out *out, const kw_hardware *hardware)
{
    static const char *const names[] = {"key", "value", "unit", "source", "date", "note"};
    struct kw__table table;
    kw__table_init(&table);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        kw__table_column(&table, &(struct kw__column){.title = names[i]});
    for (size_t i = 0; i < kw_hardware_count(hardware); i++) {
        const kw_hardware_value *v = kw_hardware_at(hardware, i);
        kw__table_row(&table);
        kw__table_text(&table, v->key);
        kw__table_value(&table, "", v->value);
        kw__table_text(&table, v->unit);
        kw__table_text(&table, v->source);
        kw__table_text(&table, v->date);
        kw__table_text(&table, v->note);
    }
    kw__table_render_csv(&table, out);
    kw__table_free(&table);
}

static int show(const kw_catalog *catalog, const struct kw__options *options)
{
    kw_hardware *hardware;
    kw_error err = {0};
    if (kw_hardware_open(catalog, options->args[0], &hardware, &err)) return kw__cli_fail(&err);
    int code;
    if (options->json) {
        code = kw__cli_emit_json(options, profile_json(hardware));
    } else {
        struct kw__out out;
        kw__out_init(&out);
        if (options->csv) {
            put_csv(&out, hardware);
        } else {
            kw__cli_put(&out, kw_hardware_name(hardware));
            kw__out_puts(&out, ": ");
            kw__cli_put(&out, kw_hardware_title(hardware));
            kw__out_puts(&out, "\n\n");
            put_values(&out, hardware);
            put_thresholds(&out, hardware);
            put_sources(&out, hardware);
        }
        code = kw__cli_emit(options, &out);
    }
    kw_hardware_close(hardware);
    return code;
}

int kw__cmd_hardware(int argc, char **argv)
{
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    code = options.n_args ? show(catalog, &options) : list(catalog, &options);
    kw_catalog_close(catalog);
    return code;
}
