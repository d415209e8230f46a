/*
 * kinowatt calibrate: fits the kernel predictor to measured rows and writes a calibration.
 *
 * What is fitted, with which priors, and how it is judged is in docs/CALIBRATION.md. The file that comes out
 * holds the priors it started from, the fitted values with their covariance, and the errors on held-out rows.
 */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "predict/validate.h"

struct settings {
    const char *from, *priors, *date;
};

static int write_calibration(const kw_catalog *catalog, const struct settings *settings,
                             const struct kw__options *options)
{
    kw_error err = {0};
    struct kw__validation *validation = NULL;
    json_t *priors = NULL, *document = NULL;
    char today[16];
    time_t now = time(NULL);
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(today, sizeof today, "%Y-%m-%d", &parts);
    kw_status status = kw__validate(catalog, settings->priors, KW__VALIDATE_SWEEPS, &validation, &err);
    if (!status) status = kw__json_load(validation->priors_path, &priors, &err);
    if (!status)
        status = kw__calibration_json(validation->samples, &validation->fit, priors,
                                      settings->date ? settings->date : today,
                                      kw__validation_held_out(validation), &document, &err);
    json_decref(priors);
    kw__validation_free(validation);
    return status ? kw__cli_fail(&err) : kw__cli_emit_json(options, document);
}

int kw__cmd_calibrate(int argc, char **argv)
{
    struct settings settings = {0};
    const struct kw__option extra[] = {
        {.name = "from",
         .kind = KW__OPTION_TEXT,
         .argument = "DATASET",
         .help = "the rows to fit: delavande2025",
         .target = &settings.from},
        {.name = "priors",
         .kind = KW__OPTION_TEXT,
         .argument = "FILE",
         .help = "a calibration to start from; the shipped priors without it",
         .target = &settings.priors},
        {.name = "date",
         .kind = KW__OPTION_TEXT,
         .argument = "YYYY-MM-DD",
         .help = "the date to write; today's without it",
         .target = &settings.date},
    };
    const struct kw__usage usage = {
        .name = "calibrate",
        .synopsis = "--from DATASET",
        .about =
            "Fits the kernel predictor to measured rows, towards priors, and writes a calibration: the fitted\n"
            "values with their covariance, and the errors on held-out rows.",
        .sets = KW__WITH_OUTPUT,
        .extra = extra,
        .n_extra = sizeof extra / sizeof extra[0],
    };
    struct kw__options options;
    int code = kw__options_parse(&usage, argc, argv, &options);
    if (code != KW__PROCEED) return code;
    if (!settings.from) return kw__cli_usage("calibrate needs rows: --from delavande2025");
    if (strcmp(settings.from, "delavande2025") != 0)
        return kw__cli_usage("--from: there is no data set '%.80s'; delavande2025 is there", settings.from);
    kw_catalog *catalog;
    code = kw__cli_catalog(&options, &catalog);
    if (code) return code;
    code = write_calibration(catalog, &settings, &options);
    kw_catalog_close(catalog);
    return code;
}
