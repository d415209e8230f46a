/* What the halves of `kinowatt calibrate` share: timing this machine (cmd_calibrate.c) and fitting rows
 * (calibrate_rows.c). */
#ifndef KW__CLI_CALIBRATE_H
#define KW__CLI_CALIBRATE_H

#include "cli/cli.h"
#include "cli/fit.h"

/* Where the calibration of a pair goes without --output: the user's folder of calibrations. malloc'ed, its
 * folders made. */
kw_status kw__calibrate_place(const char *stack, const char *hardware, char **path, kw_error *err);
/* Writes the document, whose reference it takes, to --output, else to `path`, and then says `head`, where it
 * went and how to use it. Frees `head`; returns the exit code. */
int kw__calibrate_write(const struct kw__options *options, json_t *document, const char *path,
                        struct kw__out *head, const char *stack, const char *hardware);

/* Fits the rows of the settings. `train`: to a few of them alone. */
int kw__calibrate_rows(const kw_catalog *catalog, const struct kw__fit_settings *settings, bool train,
                       const char *date, const struct kw__options *options);

#endif
