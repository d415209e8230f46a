#include "cli/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "store/measured.h"

enum { FEWEST = 3, FEWEST_STAGED = 2 };

/* ---- Opening --------------------------------------------------------------------------------------- */

static bool ends(const char *text, const char *end)
{
    size_t length = strlen(text), of_end = strlen(end);
    return length > of_end && strcmp(text + length - of_end, end) == 0;
}

static kw_status read_store(const struct kw__fit_settings *settings, struct kw__dataset **out, kw_error *err)
{
    struct kw__store *store = NULL;
    char *path;
    const char *name = strcmp(settings->from, "store") == 0 ? NULL : settings->from;
    kw_status status = kw__store_path(settings->store, &path, err);
    if (status) return status;
    kw_error why = {0};
    status = kw__store_open(path, KW__STORE_READ, &store, &why);
    free(path);
    if (status && name)
        return kw__fail(err, status, "there is no file and no data set '%.80s': %s", name, why.message);
    if (status) return kw__fail(err, status, "%s", why.message);
    if (!status) status = kw__measured_read(store, name, out, err);
    kw__store_close(store);
    return status;
}

static kw_status read_rows(const kw_catalog *catalog, const struct kw__fit_settings *settings,
                           struct kw__dataset **out, kw_error *err)
{
    const char *from = settings->from;
    if (ends(from, ".json") || ends(from, ".csv") || strchr(from, '/'))
        return kw__measured_read_file(catalog, from, settings->selection.stack, settings->selection.hardware,
                                      out, err);
    return read_store(settings, out, err);
}

static kw_status choose(const struct kw__fit_settings *settings, struct kw__fit_rows *r, kw_error *err)
{
    const struct kw__samples *s = r->samples;
    bool *marks = kw__arena_alloc(&r->set->arena, s->count, sizeof *marks);
    if (!marks) return kw__fail_memory(err);
    kw_status status = kw__choose_runs(s, (int)settings->train_runs, settings->train_seconds, marks, err);
    for (size_t i = 0; !status && i < s->count; i++) {
        if (!marks[i]) continue;
        r->num_few++;
        r->few_s += s->list[i].latency_s;
    }
    if (status || !r->num_few || r->num_few == s->num_wholes) return status;
    snprintf(r->few_name, sizeof r->few_name, "%zu-runs", r->num_few);
    r->few = marks;
    return KW_OK;
}

/* The rows with what `predict` has for this pair, where that was fitted to rows of it; not having it is no
 * fault. */
static kw_status open_predicted(const kw_catalog *catalog, struct kw__fit_rows *r, kw_error *err)
{
    enum kw__distance distance;
    kw_error why, skipped;
    kw_status status =
        kw__calibration_find(catalog, r->stack->name, r->hardware, &r->predicting, &distance, &skipped, &why);
    if (!status && distance == KW__SAME && !isnan(r->predicting->tokens_low))
        status = kw__samples_new(catalog, r->set, r->stack, r->predicting, r->hardware, &r->predicted, &why);
    return status == KW_ERROR_MEMORY ? kw__fail_memory(err) : KW_OK;
}

static kw_status open_rows(const kw_catalog *catalog, const struct kw__fit_settings *settings,
                           struct kw__fit_rows *r, kw_error *err)
{
    const char *asked = settings->selection.stack, *stack;
    kw_status status = asked ? kw__stack_open(catalog, asked, &r->stack, err) : KW_OK;
    (void)(status || (status = read_rows(catalog, settings, &r->set, err)) ||
           (status = kw__dataset_select(catalog, &settings->selection, r->set, &stack, &r->hardware, err)) ||
           (status = asked ? KW_OK : kw__stack_open(catalog, stack, &r->stack, err)) ||
           (status = kw__priors_open(catalog, stack, r->hardware, settings->priors, &r->priors, err)) ||
           (status = kw__samples_new(catalog, r->set, r->stack, r->priors.calibration, r->hardware,
                                     &r->samples, err)) ||
           (status = open_predicted(catalog, r, err)));
    if (status) return status;
    const struct kw__samples *s = r->samples;
    bool staged = s->count >= s->num_wholes + FEWEST_STAGED; /* their parts tell as much as more rows */
    if (s->num_wholes < (staged ? FEWEST_STAGED : FEWEST))
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s has %zu rows that can be fitted, and %d are the least%s%s", r->set->path,
                        r->samples->num_wholes, FEWEST, r->samples->left_out.count ? "; left out: " : "",
                        r->samples->left_out.count ? kw__most_left_out(&r->samples->left_out) : "");
    return choose(settings, r, err);
}

kw_status kw__fit_open(const kw_catalog *catalog, const struct kw__fit_settings *settings,
                       struct kw__fit_rows *out, kw_error *err)
{
    *out = (struct kw__fit_rows){0};
    kw_status status = open_rows(catalog, settings, out, err);
    const struct kw__validate_options options = {
        .few = out->few, .few_name = out->few_name, .predicted = out->predicted};
    if (!status) status = kw__validate(out->samples, &options, &out->ladder, err);
    if (status) kw__fit_close(out);
    return status;
}

void kw__fit_close(struct kw__fit_rows *rows)
{
    kw__validation_free(rows->ladder);
    kw__samples_free(rows->samples);
    kw__samples_free(rows->predicted);
    kw__calibration_close(rows->predicting);
    kw__priors_close(&rows->priors);
    kw__stack_close(rows->stack);
    kw_hardware_close(rows->hardware);
    kw__dataset_close(rows->set);
    *rows = (struct kw__fit_rows){0};
}

/* ---- Saying what they are ---------------------------------------------------------------------------- */

static void put_left_out(struct kw__out *out, const struct kw__left_outs *all)
{
    for (size_t i = 0; i < all->count; i++) {
        kw__out_printf(out, "left out: %d rows: ", all->list[i].count);
        kw__cli_put(out, all->list[i].why);
        kw__out_puts(out, "\n");
    }
}

static size_t count_parts(const struct kw__samples *s)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) count += s->list[i].has_parts;
    return count;
}

void kw__fit_put(struct kw__out *out, const struct kw__fit_rows *r)
{
    const struct kw__samples *s = r->samples;
    size_t parts = count_parts(s);
    kw__out_printf(out, "%zu rows of %s on %s", s->num_wholes, r->stack->name, kw_hardware_name(r->hardware));
    if (parts) kw__out_printf(out, ", %zu by stages", parts);
    kw__out_puts(out, ", from ");
    kw__cli_put(out, r->set->path);
    kw__out_printf(out, "; %d sessions of several rows\n", s->num_sessions);
    put_left_out(out, &r->set->left_out);
    put_left_out(out, &s->left_out);
    kw__out_puts(out, "priors: ");
    kw__cli_put(out, r->priors.calibration->basis);
    kw__out_puts(out, "\n");
    if (r->predicted) {
        kw__out_puts(out, "as-predicted: by what 'predict' has, ");
        kw__cli_put(out, r->predicting->name);
        kw__out_puts(out, ", fitted to ");
        kw__cli_put(out, r->predicting->basis);
        kw__out_puts(out, "\n");
    }
    if (r->few)
        kw__out_printf(out,
                       "%s: fitted to %zu runs of %.1f s together, chosen by what the priors say they tell\n",
                       r->few_name, r->num_few, r->few_s);
}

static void add_left_out(json_t *array, const struct kw__left_outs *all)
{
    for (size_t i = 0; i < all->count; i++)
        json_array_append_new(array, json_pack("{s:i, s:o}", "rows", all->list[i].count, "why",
                                               kw__cli_string(all->list[i].why)));
}

json_t *kw__fit_json(const struct kw__fit_rows *r)
{
    json_t *left_out = json_array(), *few = r->few ? json_array() : json_null();
    add_left_out(left_out, &r->set->left_out);
    add_left_out(left_out, &r->samples->left_out);
    for (size_t i = 0; r->few && i < r->samples->count; i++)
        if (r->few[i]) json_array_append_new(few, json_integer(r->samples->list[i].row->line));
    return json_pack("{s:o, s:s, s:s, s:I, s:I, s:i, s:s, s:o, s:o, s:o, s:o}", "from",
                     kw__cli_string(r->set->path), "stack", r->stack->name, "hardware",
                     kw_hardware_name(r->hardware), "rows", (json_int_t)r->samples->num_wholes, "with_stages",
                     (json_int_t)count_parts(r->samples), "sessions", r->samples->num_sessions, "priors",
                     r->priors.calibration->basis, "few_runs", few, "few_seconds",
                     kw__cli_number(r->few ? r->few_s : NAN), "left_out", left_out, "predicted_by",
                     r->predicted ? json_string(r->predicting->name) : json_null());
}

void kw__fit_warn(const struct kw__fit_rows *r)
{
    if (r->priors.skipped.code) kw__cli_warn("a calibration was passed over: %s", r->priors.skipped.message);
    if (r->priors.distance != KW__SAME)
        kw__cli_warn(
            "no calibration is there for %s on %s to start from; the priors are %s, and wider for it",
            r->stack->name, kw_hardware_name(r->hardware), r->priors.calibration->basis);
    if (r->samples->num_shapes == 1)
        kw__cli_warn(
            "all rows are of one shape: they tell how fast it is, and little of others; vary the size "
            "or the frames");
}
