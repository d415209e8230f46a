/*
 * What the files of the command share: the table's entries, exit codes, and the way out.
 *
 * Invariants
 * - A command builds its whole result in memory and hands it to kw__cli_emit once; stdout holds that
 *   or nothing. Everything else goes to stderr.
 * - A command that fails prints one line, "kinowatt: message", at one place: whoever decides on the
 *   exit code calls kw__cli_fail or kw__cli_usage and returns what they return.
 * - Warnings come after the result, so that a failure is the only line on stderr.
 */
#ifndef KW__CLI_H
#define KW__CLI_H

#include <jansson.h>

#include "cli/options.h"
#include "kinowatt.h"
#include "report/out.h"
#include "report/table.h"

enum kw__exit {
    KW__EXIT_OK = 0,
    KW__EXIT_FAILED = 1,
    KW__EXIT_USAGE = 2,
    KW__EXIT_DEVICE = 3,     /* a device or permission is missing */
    KW__EXIT_VALIDATION = 4, /* a validation fell short */
};

/* The commands, one in each cmd_*.c. argv[0] is the command's name. */
int kw__cmd_models(int argc, char **argv);
int kw__cmd_hardware(int argc, char **argv);
int kw__cmd_doctor(int argc, char **argv);
int kw__cmd_predict(int argc, char **argv);
int kw__cmd_explain(int argc, char **argv);
int kw__cmd_scaling(int argc, char **argv);
int kw__cmd_compare(int argc, char **argv);
int kw__cmd_validate(int argc, char **argv);
int kw__cmd_reproduce(int argc, char **argv);
int kw__cmd_calibrate(int argc, char **argv);
int kw__cmd_generate(int argc, char **argv);
int kw__cmd_runs(int argc, char **argv);
int kw__cmd_import(int argc, char **argv);
int kw__cmd_sweep(int argc, char **argv);
int kw__cmd_record(int argc, char **argv);
int kw__cmd_mark(int argc, char **argv);

/* ---- Failing and warning (cli.c) ---- */

/* Prints the error and returns the exit code of its status. */
int kw__cli_fail(const kw_error *err);
/* What the user typed is wrong: prints the message, returns KW__EXIT_USAGE. */
int kw__cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "kinowatt: warning: ..." on stderr; control characters become '?'. */
void kw__cli_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Opens the catalog of --data. A folder the user named and that is not there is a usage error, an
 * installation without data is a failure. Returns KW__EXIT_OK or the exit code. */
int kw__cli_catalog(const struct kw__options *options, kw_catalog **out);

/* ---- The result ---- */

/* Whether --output can be written, before what takes long. Returns KW__EXIT_OK or the exit code. */
int kw__cli_check_output(const struct kw__options *options);
/* Writes the text to --output or stdout, frees it, and returns the exit code. */
int kw__cli_emit(const struct kw__options *options, struct kw__out *out);
/* The same for a JSON document, whose reference it takes. main makes every allocation of jansson's
 * succeed or end the program, so that builders need not look. */
int kw__cli_emit_json(const struct kw__options *options, json_t *document);
/* The same for a table as the options ask: text or CSV. Frees the table. */
int kw__cli_emit_table(const struct kw__options *options, struct kw__table *table);

/* NaN becomes null, whole numbers have no fraction. */
json_t *kw__cli_number(double value);
/* NULL becomes null. Text that is not UTF-8 (a folder's name) has the bytes that are not replaced. */
json_t *kw__cli_string(const char *text);
/* The defaults and the derived sizes of a request, with the names of kinowatt.prediction/1. */
json_t *kw__cli_request(const kw_effective *request);

/* Appends text a file or a user named; control characters become '?', they must not steer a terminal. */
void kw__cli_put(struct kw__out *out, const char *text);
/* Appends "  - text", wrapped at 100 columns. */
void kw__cli_put_item(struct kw__out *out, const char *text);
/* "832 x 480, 81 frames (of 83 asked for) at 16 fps, 50 steps, ..." and the line of tokens. */
void kw__cli_put_request(struct kw__out *out, const kw_effective *request);
/* "hardware h100-sxm (default), stack ..., method ..." and the calibration. */
void kw__cli_put_settings(struct kw__out *out, const kw_prediction *p, const struct kw__options *options);
/* The assumptions, if any. */
void kw__cli_put_assumptions(struct kw__out *out, const kw_prediction *p);

/* "-7.0 +8.2 %": what the ends of the interval are from the value. NULL when there is none. */
const char *kw__cli_spread(char *buffer, size_t size, const kw_reading *r);

#endif
