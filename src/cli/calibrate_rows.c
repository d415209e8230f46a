/* Fitting a calibration to measured rows: those that ship, or the user's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/calibrate.h"
#include "predict/validate_shipped.h"

/* A fit, where it came from, and what is said of it. */
struct fitted {
    const struct kw__samples *samples;
    const struct kw__validation *ladder;
    const json_t *priors;
    const bool *use; /* NULL: all rows */
    const char *stack, *hardware;
};

/* "group-out: latency 1.12 (3.53), energy 1.45 (5.34)" */
static void put_score(struct kw__out *out, const struct kw__validation *v, enum kw__split split)
{
    static const char *const names[] = {"latency", "energy"};
    const struct kw__score *s = kw__score_of(v, split, KW__KERNEL, NULL);
    if (!s) return;
    kw__out_printf(out, "  %-12s", kw__split_name(v, split));
    for (int q = KW__LATENCY; q <= KW__ENERGY; q++)
        if (s->errors[q].count)
            kw__out_printf(out, "  %s %.2f (%.2f) on %d rows", names[q], 100 * s->errors[q].mean,
                           100 * s->errors[q].largest, s->errors[q].count);
    kw__out_puts(out, "\n");
}

static void put_scores(struct kw__out *out, const struct fitted *f)
{
    kw__out_puts(out, "errors, mean (largest) in %:\n");
    put_score(out, f->ladder, KW__AS_PREDICTED);
    for (int split = f->use ? KW__FEW_RUNS : KW__IN_SAMPLE; split <= KW__ZERO_ROWS; split++)
        put_score(out, f->ladder, (enum kw__split)split);
}

static kw_status make_document(const struct fitted *f, const char *date, json_t **out, kw_error *err)
{
    json_t *held_out = NULL;
    struct kw__kernel_fit *few = NULL;
    const struct kw__kernel_fit *fit = &f->ladder->fit;
    kw_status status = KW_OK;
    if (f->use) {
        few = malloc(sizeof *few);
        status = few ? kw__kernel_fit(f->samples, f->use, few, err) : KW_ERROR_MEMORY;
        fit = few;
    }
    if (!status)
        status = kw__validation_held_out(f->ladder, f->use ? KW__FEW_RUNS : KW__NUM_SPLITS, &held_out, err);
    if (!status) status = kw__calibration_json(f->samples, f->use, fit, f->priors, date, held_out, out, err);
    free(few);
    return status;
}

/* `head`: what was said so far; it is freed. */
static int write_fit(const struct fitted *f, const char *date, struct kw__out *head,
                     const struct kw__options *options)
{
    kw_error err = {0};
    json_t *document = NULL;
    char *path = NULL;
    kw_status status = options->output ? KW_OK : kw__calibrate_place(f->stack, f->hardware, &path, &err);
    if (!status) status = make_document(f, date, &document, &err);
    if (!status) put_scores(head, f);
    int code;
    if (status) {
        kw__out_free(head);
        code = kw__cli_fail(&err);
    } else {
        code = kw__calibrate_write(options, document, path, head, f->stack, f->hardware);
    }
    free(path);
    return code;
}

static int fit_shipped(const kw_catalog *catalog, const char *priors_path, const char *date,
                       const struct kw__options *options)
{
    kw_error err = {0};
    struct kw__shipped *shipped = NULL;
    json_t *priors = NULL;
    kw_status status = kw__validate_shipped(catalog, priors_path, KW__VALIDATE_SWEEPS, &shipped, &err);
    if (!status) status = kw__json_load(shipped->priors_path, &priors, &err);
    int code;
    if (status) {
        code = kw__cli_fail(&err);
    } else {
        const struct fitted f = {.samples = shipped->samples,
                                 .ladder = shipped->ladder,
                                 .priors = priors,
                                 .stack = shipped->stack->name,
                                 .hardware = kw_hardware_name(shipped->hardware)};
        struct kw__out head;
        kw__out_init(&head);
        code = write_fit(&f, date, &head, options);
    }
    json_decref(priors);
    kw__shipped_free(shipped);
    return code;
}

int kw__calibrate_rows(const kw_catalog *catalog, const struct kw__fit_settings *settings, bool train,
                       const char *date, const struct kw__options *options)
{
    if (strcmp(settings->from, "delavande2025") == 0)
        return fit_shipped(catalog, settings->priors, date, options);
    struct kw__fit_rows rows;
    kw_error err = {0};
    if (kw__fit_open(catalog, settings, &rows, &err)) return kw__cli_fail(&err);
    const struct fitted f = {.samples = rows.samples,
                             .ladder = rows.ladder,
                             .priors = rows.priors.document,
                             .use = train ? rows.few : NULL,
                             .stack = rows.stack->name,
                             .hardware = kw_hardware_name(rows.hardware)};
    int code;
    if (train && !rows.few) {
        code = kw__cli_usage("%zu of the %zu rows are chosen, which leaves none to score; ask for fewer with "
                             "--train-runs, or fit all without it",
                             rows.num_few, rows.samples->num_wholes);
    } else {
        struct kw__out head;
        kw__out_init(&head);
        kw__fit_put(&head, &rows);
        code = write_fit(&f, date, &head, options);
        if (!code) kw__fit_warn(&rows);
    }
    kw__fit_close(&rows);
    return code;
}
