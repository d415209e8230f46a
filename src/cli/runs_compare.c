/*
 * kinowatt runs compare: two runs, stage by stage.
 *
 * Windows are matched by their path, "total/denoise/step"; those of one path are added up, since the one
 * run may have taken more steps than the other. Energies differ when their intervals leave no common value.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli/runs.h"
#include "store/fields.h"

#define EN_DASH "\xE2\x80\x93"

static const double wh_per_j = 1.0 / 3600;
static const char *const device_titles[KW_NUM_DEVICES] = {"GPU", "CPU", "RAM"};

/* What one run has at a path. */
struct side {
    int64_t count; /* of windows */
    double duration_s;
    kw_reading energy_j[KW_NUM_DEVICES]; /* absent when that of any window is */
};

struct path {
    const char *name; /* "denoise/step"; the whole is "total" */
    int depth;
    struct side sides[2];
};

struct difference {
    const char *name, *values[2];
};

struct comparison {
    struct kw__arena arena;
    struct kw__run *runs[2];
    struct path *paths;
    size_t num_paths, paths_room;
    struct difference *differences;
    size_t num_differences, differences_room;
    bool repeats; /* of each other */
};

/* ---- Matching ---------------------------------------------------------------------------------------- */

static struct path *find_path(struct comparison *c, const char *name, int depth)
{
    for (size_t i = 0; i < c->num_paths; i++)
        if (strcmp(c->paths[i].name, name) == 0) return &c->paths[i];
    struct path *paths = kw__arena_grow(&c->arena, c->paths, c->num_paths, &c->paths_room, sizeof *paths);
    if (!paths) return NULL;
    c->paths = paths;
    paths[c->num_paths] = (struct path){.name = kw__arena_strdup(&c->arena, name), .depth = depth};
    return paths[c->num_paths].name ? &paths[c->num_paths++] : NULL;
}

static void add_window(struct side *side, const struct kw__run_window *window)
{
    side->duration_s += window->duration_s;
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        kw_reading *sum = &side->energy_j[d];
        const kw_reading *more = &window->energy_j[d];
        if (side->count == 0) {
            *sum = *more;
        } else if (sum->status != KW_ABSENT && more->status != KW_ABSENT) {
            sum->value += more->value;
            sum->low += more->low;
            sum->high += more->high;
        } else {
            *sum = (kw_reading){NAN, NAN, NAN, KW_ABSENT, NULL};
        }
    }
    side->count++;
}

static kw_status add_windows(struct comparison *c, int which, kw_error *err)
{
    const struct kw__run *run = c->runs[which];
    const char **names = kw__arena_alloc(&c->arena, run->num_windows + 1, sizeof *names);
    int *depths = kw__arena_alloc(&c->arena, run->num_windows + 1, sizeof *depths);
    if (!names || !depths) return kw__fail_memory(err);
    for (size_t i = 0; i < run->num_windows; i++) {
        const struct kw__run_window *w = &run->windows[i];
        depths[i] = w->parent < 0 ? 0 : depths[w->parent] + 1;
        /* the whole has the same name in all runs, and is left out of the others' */
        names[i] = w->parent < 0    ? "total"
                   : w->parent == 0 ? w->name
                                    : kw__arena_printf(&c->arena, "%s/%s", names[w->parent], w->name);
        struct path *path = names[i] ? find_path(c, names[i], depths[i]) : NULL;
        if (!path) return kw__fail_memory(err);
        add_window(&path->sides[which], w);
    }
    return KW_OK;
}

static const char *value_text(struct comparison *c, const struct kw__field *field, const struct kw__run *run)
{
    char number[KW__FORMAT_SIZE];
    struct kw__field_value value = kw__field_get(field, run);
    switch (value.type) {
    case KW__VALUE_TEXT: return value.text;
    case KW__VALUE_WHOLE: return kw__arena_printf(&c->arena, "%" PRId64, value.whole);
    case KW__VALUE_REAL: return kw__arena_strdup(&c->arena, kw__format_exact(number, value.real));
    case KW__VALUE_NONE: break;
    }
    return NULL;
}

static kw_status add_difference(struct comparison *c, const char *name, const char *a, const char *b,
                                kw_error *err)
{
    if (c->arena.failed) return kw__fail_memory(err);
    if (a == b || (a && b && strcmp(a, b) == 0)) return KW_OK;
    struct difference *all =
        kw__arena_grow(&c->arena, c->differences, c->num_differences, &c->differences_room, sizeof *all);
    if (!all) return kw__fail_memory(err);
    c->differences = all;
    all[c->num_differences++] = (struct difference){name, {a, b}};
    return KW_OK;
}

/* Fields that say what was run, and settings that do; not those of one run alone. */
static kw_status find_differences(struct comparison *c, kw_error *err)
{
    static const char *const left_out[] = {"uuid",  "began",  "session", "dataset", "sweep",
                                           "point", "repeat", "anchor",  "note",    "source"};
    const struct kw__run *a = c->runs[0], *b = c->runs[1];
    kw_status status = KW_OK;
    for (size_t i = 0; i < kw__run_fields.count && !status; i++) {
        const struct kw__field *field = &kw__run_fields.fields[i];
        bool skip = strncmp(field->name, "predicted_", 10) == 0;
        for (size_t k = 0; k < sizeof left_out / sizeof left_out[0]; k++)
            skip = skip || strcmp(field->name, left_out[k]) == 0;
        if (!skip)
            status = add_difference(c, field->name, value_text(c, field, a), value_text(c, field, b), err);
    }
    for (size_t i = 0, k = 0; !status && (i < a->num_settings || k < b->num_settings);) {
        int order = i == a->num_settings   ? 1
                    : k == b->num_settings ? -1
                                           : strcmp(a->settings[i].name, b->settings[k].name);
        const struct kw__run_setting *left = order <= 0 ? &a->settings[i++] : NULL;
        const struct kw__run_setting *right = order >= 0 ? &b->settings[k++] : NULL;
        const char *name = left ? left->name : right->name;
        if (strncmp(name, "run.", 4) == 0) continue;
        status = add_difference(c, name, left ? left->value : NULL, right ? right->value : NULL, err);
    }
    if (status) return status;
    const char *keys[2] = {kw__run_key(a, &c->arena), kw__run_key(b, &c->arena)};
    if (!keys[0] || !keys[1]) return kw__fail_memory(err);
    c->repeats = strcmp(keys[0], keys[1]) == 0;
    return KW_OK;
}

/* Whether the intervals have no value in common: 1, 0, or -1 when one is not known. */
static int differs(const kw_reading *a, const kw_reading *b)
{
    if (a->status == KW_ABSENT || b->status == KW_ABSENT) return -1;
    if (isnan(a->low) || isnan(a->high) || isnan(b->low) || isnan(b->high)) return -1;
    return a->low > b->high || b->low > a->high;
}

static double ratio(double a, double b)
{
    return a > 0 ? b / a : NAN;
}

/* ---- Printing ---------------------------------------------------------------------------------------- */

static bool has_device(const struct comparison *c, int device)
{
    for (size_t i = 0; i < c->num_paths; i++)
        for (int s = 0; s < 2; s++)
            if (c->paths[i].sides[s].count && c->paths[i].sides[s].energy_j[device].status != KW_ABSENT)
                return true;
    return false;
}

static void put_ratio(struct kw__table *table, double value)
{
    char text[KW__FORMAT_SIZE];
    snprintf(text, sizeof text, "%.3f", value);
    kw__table_value(table, text, value);
}

static void put_path(struct kw__table *table, const struct comparison *c, const struct path *path)
{
    const struct side *a = &path->sides[0], *b = &path->sides[1];
    char text[KW__FORMAT_SIZE], name[256];
    const char *last = strrchr(path->name, '/');
    int used = snprintf(name, sizeof name, "%*s%.150s", 2 * (path->depth < 20 ? path->depth : 20), "",
                        last ? last + 1 : path->name);
    if (a->count > 1 || b->count > 1)
        (void)snprintf(name + used, sizeof name - (size_t)used, " (%" PRId64 ", %" PRId64 ")", a->count,
                       b->count);
    kw__table_row(table);
    kw__table_text(table, name);
    double times[2] = {a->count ? a->duration_s : NAN, b->count ? b->duration_s : NAN};
    for (int s = 0; s < 2; s++) kw__table_value(table, kw__format_seconds(text, times[s]), times[s]);
    put_ratio(table, ratio(times[0], times[1]));
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        if (!has_device(c, d)) continue;
        const kw_reading none = {NAN, NAN, NAN, KW_ABSENT, NULL};
        const kw_reading *readings[2] = {a->count ? &a->energy_j[d] : &none,
                                         b->count ? &b->energy_j[d] : &none};
        for (int s = 0; s < 2; s++) kw__runs_cell(table, readings[s], wh_per_j, kw__format_wh);
        put_ratio(table, ratio(readings[0]->value, readings[1]->value));
        int verdict = differs(readings[0], readings[1]);
        kw__table_text(table, verdict < 0 ? NULL : verdict ? "yes" : "no");
    }
}

static void put_windows(struct kw__out *out, const struct comparison *c)
{
    struct kw__table table;
    char heads[2][32];
    kw__table_init(&table);
    for (int s = 0; s < 2; s++) snprintf(heads[s], sizeof heads[s], "run %" PRId64, c->runs[s]->id);
    kw__table_column(&table, &(struct kw__column){.title = "Window"});
    for (int s = 0; s < 2; s++)
        kw__table_column(&table,
                         &(struct kw__column){.title = heads[s], .group = "Time", .align = KW__ALIGN_RIGHT});
    kw__table_column(&table,
                     &(struct kw__column){.title = "ratio", .group = "Time", .align = KW__ALIGN_RIGHT});
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        char group[32];
        if (!has_device(c, d)) continue;
        snprintf(group, sizeof group, "%s energy", device_titles[d]);
        for (int s = 0; s < 2; s++)
            kw__table_column(
                &table, &(struct kw__column){.title = heads[s], .group = group, .align = KW__ALIGN_RIGHT});
        kw__table_column(&table,
                         &(struct kw__column){.title = "ratio", .group = group, .align = KW__ALIGN_RIGHT});
        kw__table_column(&table, &(struct kw__column){.title = "differs", .group = group});
    }
    for (size_t i = 0; i < c->num_paths; i++) put_path(&table, c, &c->paths[i]);
    kw__table_render_text(&table, out);
    kw__table_free(&table);
    kw__out_puts(out, "\n\"differs\": the two 90 % intervals have no value in common.\n");
}

static void put_differences(struct kw__out *out, const struct comparison *c)
{
    struct kw__table table;
    char heads[2][32];
    const char *const sessions[2] = {c->runs[0]->session, c->runs[1]->session};
    if (!sessions[0] || !sessions[1] || strcmp(sessions[0], sessions[1]) != 0)
        kw__out_puts(out,
                     "The runs are of two sessions: by that alone, times and energies differ by 2 to 5 %.\n");
    if (!c->num_differences) {
        kw__out_puts(out, c->repeats
                              ? "They are repeats of each other: nothing in their settings differs.\n"
                              : "Nothing in their settings differs, but nothing says what ran either: no "
                                "model, command or project.\n");
        return;
    }
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "Setting"});
    for (int s = 0; s < 2; s++) {
        snprintf(heads[s], sizeof heads[s], "run %" PRId64, c->runs[s]->id);
        kw__table_column(&table, &(struct kw__column){.title = heads[s]});
    }
    for (size_t i = 0; i < c->num_differences; i++) {
        kw__table_row(&table);
        kw__table_text(&table, c->differences[i].name);
        kw__table_text(&table, c->differences[i].values[0]);
        kw__table_text(&table, c->differences[i].values[1]);
    }
    kw__out_puts(out, "\n");
    kw__table_render_text(&table, out);
    kw__table_free(&table);
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

static json_t *reading_json(const kw_reading *r)
{
    if (r->status == KW_ABSENT) return json_null();
    return json_pack("{s:o, s:o, s:o}", "value", kw__cli_number(r->value), "low", kw__cli_number(r->low),
                     "high", kw__cli_number(r->high));
}

static json_t *side_json(const struct side *side)
{
    if (!side->count) return json_null();
    json_t *energy = json_object();
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        json_object_set_new(energy, kw_device_name(d), reading_json(&side->energy_j[d]));
    return json_pack("{s:I, s:o, s:o}", "windows", (json_int_t)side->count, "duration_s",
                     kw__cli_number(side->duration_s), "energy_j", energy);
}

static json_t *path_json(const struct path *path)
{
    const struct side *a = &path->sides[0], *b = &path->sides[1];
    json_t *energy = json_object(), *apart = json_object();
    bool both = a->count && b->count;
    for (int d = 0; d < KW_NUM_DEVICES; d++) {
        int verdict = both ? differs(&a->energy_j[d], &b->energy_j[d]) : -1;
        json_object_set_new(energy, kw_device_name(d),
                            both ? kw__cli_number(ratio(a->energy_j[d].value, b->energy_j[d].value))
                                 : json_null());
        json_object_set_new(apart, kw_device_name(d), verdict < 0 ? json_null() : json_boolean(verdict));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "window", kw__cli_string(path->name), "a",
                     side_json(a), "b", side_json(b), "duration_ratio",
                     both ? kw__cli_number(ratio(a->duration_s, b->duration_s)) : json_null(), "energy_ratio",
                     energy, "energy_differs", apart);
}

static json_t *comparison_json(const struct comparison *c)
{
    json_t *windows = json_array(), *settings = json_array();
    const char *a = c->runs[0]->session, *b = c->runs[1]->session;
    for (size_t i = 0; i < c->num_paths; i++) json_array_append_new(windows, path_json(&c->paths[i]));
    for (size_t i = 0; i < c->num_differences; i++)
        json_array_append_new(settings,
                              json_pack("{s:o, s:o, s:o}", "name", kw__cli_string(c->differences[i].name),
                                        "a", kw__cli_string(c->differences[i].values[0]), "b",
                                        kw__cli_string(c->differences[i].values[1])));
    return json_pack("{s:s, s:I, s:I, s:b, s:o, s:o}", "schema", "kinowatt.runs_comparison/1", "a",
                     (json_int_t)c->runs[0]->id, "b", (json_int_t)c->runs[1]->id, "same_session",
                     a && b && strcmp(a, b) == 0, "windows", windows, "settings", settings);
}

/* ---- The command ------------------------------------------------------------------------------------- */

static int print(const struct comparison *c, const struct kw__options *options)
{
    if (options->json) return kw__cli_emit_json(options, comparison_json(c));
    struct kw__out out;
    kw__out_init(&out);
    put_windows(&out, c);
    put_differences(&out, c);
    return kw__cli_emit(options, &out);
}

static int compare(struct kw__store *store, const int64_t ids[2], const struct kw__options *options)
{
    struct comparison c = {0};
    kw_error err = {0};
    kw__arena_init(&c.arena);
    kw_status status = kw__store_get(store, ids[0], &c.runs[0], &err);
    if (!status) status = kw__store_get(store, ids[1], &c.runs[1], &err);
    for (int s = 0; s < 2 && !status; s++) status = add_windows(&c, s, &err);
    if (!status) status = find_differences(&c, &err);
    int code = status ? kw__cli_fail(&err) : print(&c, options);
    kw__run_free(c.runs[0]);
    kw__run_free(c.runs[1]);
    kw__arena_free(&c.arena);
    return code;
}

int kw__runs_compare(int argc, char **argv)
{
    struct kw__runs_settings settings = {0};
    const struct kw__option extra[] = {KW__RUNS_STORE(settings)};
    const struct kw__usage usage = {
        .name = "runs compare",
        .synopsis = "RUN RUN",
        .about = "Compares two runs stage by stage: times, energies, the second over the first, whether the\n"
                 "energies differ by more than both are uncertain, and which settings are not the same.",
        .sets = KW__WITH_JSON | KW__WITH_OUTPUT,
        .least = 2,
        .most = 2,
        .missing = "name two runs, by the numbers that 'kinowatt runs' lists",
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    struct kw__store *store;
    int64_t ids[2];
    int code = kw__options_parse(&usage, argc, argv, &options);
    for (int s = 0; s < 2 && code == KW__PROCEED; s++) code = kw__runs_id(options.args[s], &ids[s]);
    if (code != KW__PROCEED) return code;
    code = kw__runs_open(&settings, KW__STORE_READ, &store);
    if (code) return code;
    code = compare(store, ids, &options);
    kw__store_close(store);
    return code;
}
