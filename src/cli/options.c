/* Options of the commands; options.h is the manual. */
#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "cli/cli.h"

#define MOST_OPTIONS 64
#define LONG_VALUE 256 /* what getopt_long returns for row i: past every letter */

struct table {
    struct kw__option rows[MOST_OPTIONS];
    size_t count;
};

static void add(struct table *table, const struct kw__option *rows, size_t count)
{
    for (size_t i = 0; i < count && table->count < MOST_OPTIONS; i++) table->rows[table->count++] = rows[i];
}

#define ADD(table, rows) add(table, rows, sizeof(rows) / sizeof((rows)[0]))

static void build(const struct kw__usage *usage, struct kw__options *o, struct table *table)
{
    kw_request *r = &o->request;
    const struct kw__option clip[] = {
        {"width", 'W', KW__OPTION_COUNT, "PIXELS", "frame width", &r->width},
        {"height", 'H', KW__OPTION_COUNT, "PIXELS", "frame height", &r->height},
        {"num-frames", 'f', KW__OPTION_COUNT, "N", "frames of the clip", &r->num_frames},
        {"num-inference-steps", 's', KW__OPTION_COUNT, "N", "denoising steps", &r->num_inference_steps},
        {"guidance-scale", 'g', KW__OPTION_AMOUNT, "X", "1 or less runs one pass a step", &r->guidance_scale},
        {"guidance-scale-2", 0, KW__OPTION_AMOUNT, "X", "of the second transformer, in models of two",
         &r->guidance_scale_2},
        {"fps", 0, KW__OPTION_ABOVE, "X", "frames per second of video", &r->fps},
        {"flow-shift", 0, KW__OPTION_ABOVE, "X", "the scheduler's shift", &r->flow_shift},
    };
    const struct kw__option counts[] = {
        {"prompt-tokens", 0, KW__OPTION_COUNT, "N", "tokens of the prompt", &r->prompt_tokens},
        {"negative-tokens", 0, KW__OPTION_COUNT, "N", "tokens of the negative prompt", &r->negative_tokens},
        {"batch-size", 0, KW__OPTION_COUNT, "N", "clips made at once", &r->batch_size},
    };
    const struct kw__option system[] = {
        {"hardware", 0, KW__OPTION_TEXT, "NAME", "a name of 'kinowatt hardware', or a file",
         &o->predict.hardware},
        {"stack", 0, KW__OPTION_TEXT, "NAME", "the software that runs the model", &o->predict.stack},
        {"calibration", 0, KW__OPTION_TEXT, "NAME", "a name or a file; says hardware and stack too",
         &o->predict.calibration},
        {"power-limit", 0, KW__OPTION_ABOVE, "WATTS", "power limit of the GPU", &r->power_limit_w},
    };
    const struct kw__option method[] = {
        {"method", 0, KW__OPTION_TEXT, "NAME", "kernel, flops or paper", &o->method}};
    const struct kw__option json[] = {{"json", 0, KW__OPTION_FLAG, NULL, "print JSON", &o->json}};
    const struct kw__option csv[] = {{"csv", 0, KW__OPTION_FLAG, NULL, "print CSV", &o->csv}};
    const struct kw__option output[] = {{"output", 'o', KW__OPTION_TEXT, "FILE",
                                         usage->output ? usage->output : "write there instead of stdout",
                                         &o->output}};
    const struct kw__option always[] = {
        {"data", 0, KW__OPTION_TEXT, "DIR", "data folder", &o->data},
        {"help", 'h', KW__OPTION_FLAG, NULL, "print this", &o->help},
    };
    table->count = 0;
    if (usage->sets & (KW__WITH_REQUEST | KW__WITH_CLIP)) ADD(table, clip);
    if (usage->sets & KW__WITH_REQUEST) ADD(table, counts);
    if (usage->sets & KW__WITH_SYSTEM) ADD(table, system);
    if (usage->sets & KW__WITH_METHOD) ADD(table, method);
    add(table, usage->extra, usage->n_extra);
    if (usage->sets & KW__WITH_JSON) ADD(table, json);
    if (usage->sets & KW__WITH_CSV) ADD(table, csv);
    if (usage->sets & KW__WITH_OUTPUT) ADD(table, output);
    ADD(table, always);
}

/* ---- Values ---- */

static bool read_count(const char *text, int64_t *out, bool *too_large)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0') return false;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    *too_large = errno == ERANGE;
    *out = value;
    return !*too_large;
}

static bool read_number(const char *text, double *out, bool *too_large)
{
    double value;
    if (!kw__number_parse(text, &value)) return false;
    *too_large = isinf(value) && value > 0;
    *out = value;
    return isfinite(value);
}

static int append(const struct kw__option *row, const char *text)
{
    struct kw__texts *list = row->target;
    if (list->count == KW__MOST_TEXTS)
        return kw__cli_usage("--%s is given more than %d times; give fewer", row->name, KW__MOST_TEXTS);
    list->texts[list->count++] = text;
    return KW__PROCEED;
}

static int set(const struct kw__usage *usage, const struct kw__option *row, const char *text)
{
    bool good = false, too_large = false;
    const char *wanted = "";
    if ((row->kind == KW__OPTION_TEXT || row->kind == KW__OPTION_LIST) && !*text)
        return kw__cli_usage("--%s is empty; see 'kinowatt %s --help'", row->name, usage->name);
    switch (row->kind) {
    case KW__OPTION_FLAG: *(bool *)row->target = true; return KW__PROCEED;
    case KW__OPTION_TEXT:
    case KW__OPTION_STRING: *(const char **)row->target = text; return KW__PROCEED;
    case KW__OPTION_LIST: return append(row, text);
    case KW__OPTION_COUNT:
        wanted = "a whole number of at least 1";
        good = read_count(text, row->target, &too_large) && *(int64_t *)row->target > 0;
        break;
    case KW__OPTION_WHOLE:
        wanted = "a whole number of at least 0";
        good = read_count(text, row->target, &too_large);
        break;
    case KW__OPTION_ABOVE:
        wanted = "a number greater than 0";
        good = read_number(text, row->target, &too_large) && *(double *)row->target > 0;
        break;
    case KW__OPTION_AMOUNT:
        wanted = "a number of at least 0";
        good = read_number(text, row->target, &too_large) && *(double *)row->target >= 0;
        break;
    }
    if (good) return KW__PROCEED;
    return kw__cli_usage("--%s '%.80s' is %s; give %s", row->name, text,
                         too_large ? "too large" : "not valid", wanted);
}

/* ---- Help ---- */

static int print_help(const struct kw__usage *usage, const struct table *table)
{
    struct kw__out out;
    kw__out_init(&out);
    kw__out_printf(&out, "Usage: kinowatt %s%s%s%s\n\n%s\n\nOptions:\n", usage->name,
                   *usage->synopsis ? " " : "", usage->synopsis, usage->runs_command ? "" : " [options]",
                   usage->about);
    for (size_t i = 0; i < table->count; i++) {
        const struct kw__option *row = &table->rows[i];
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", row->name, row->argument ? " " : "",
                 row->argument ? row->argument : "");
        if (row->letter)
            kw__out_printf(&out, "  -%c, ", row->letter);
        else
            kw__out_puts(&out, "      ");
        kw__out_printf(&out, "%-26s  %s\n", left, row->help);
    }
    kw__out_printf(&out, "\n'man kinowatt-%.*s' says more.\n", (int)strcspn(usage->name, " "), usage->name);
    return kw__cli_emit(NULL, &out);
}

/* ---- Parsing ---- */

/* What getopt_long did not know: `text` is the argument it stands in. */
static int unknown(const struct kw__usage *usage, const struct table *table, const char *text, int letter)
{
    if (letter > 0 && letter < LONG_VALUE)
        return kw__cli_usage("unknown option '-%c'; see 'kinowatt %s --help'", letter, usage->name);
    char name[64];
    size_t length = strcspn(text + 2, "=");
    snprintf(name, sizeof name, "%.*s", length < sizeof name ? (int)length : (int)sizeof name - 1, text + 2);
    if (letter >= LONG_VALUE) return kw__cli_usage("--%s takes no value", name);
    const char *names[MOST_OPTIONS];
    for (size_t i = 0; i < table->count; i++) names[i] = table->rows[i].name;
    const char *nearest = kw__nearest_name(name, names, table->count);
    if (nearest)
        return kw__cli_usage("unknown option '--%s', did you mean '--%s'? See 'kinowatt %s --help'", name,
                             nearest, usage->name);
    return kw__cli_usage("unknown option '--%s'; see 'kinowatt %s --help'", name, usage->name);
}

static const struct kw__option *find(const struct table *table, int value)
{
    for (size_t i = 0; i < table->count; i++)
        if (value == LONG_VALUE + (int)i || (value != 0 && value == table->rows[i].letter))
            return &table->rows[i];
    return NULL;
}

static bool begins(const char *name, const char *with, size_t length)
{
    return strncmp(name, with, length) == 0;
}

/* What getopt_long calls ambiguous is not when one of the names begins all others: --guidance is
 * guidance-scale, not guidance-scale-2. NULL: it is. */
static const struct kw__option *shortest(const struct table *table, const char *name, size_t length)
{
    const struct kw__option *found = NULL;
    for (size_t i = 0; i < table->count; i++) {
        const struct kw__option *row = &table->rows[i];
        if (!begins(row->name, name, length)) continue;
        if (!found || begins(found->name, row->name, strlen(row->name)))
            found = row;
        else if (!begins(row->name, found->name, strlen(found->name)))
            return NULL;
    }
    return found;
}

/* The option of an argument that getopt_long did not take, and its value, which may be the next argument. */
static int set_shortest(const struct kw__usage *usage, const struct table *table, const char *text, int argc,
                        char **argv)
{
    size_t length = strncmp(text, "--", 2) == 0 ? strcspn(text + 2, "=") : 0;
    const struct kw__option *row = length && !optopt ? shortest(table, text + 2, length) : NULL;
    if (!row) return unknown(usage, table, text, optopt);
    if (text[2 + length] == '=') return set(usage, row, text + 3 + length);
    if (optind < argc) return set(usage, row, argv[optind++]);
    return kw__cli_usage("%s needs a value; see 'kinowatt %s --help'", text, usage->name);
}

static int read_all(const struct kw__usage *usage, const struct table *table, int argc, char **argv,
                    struct kw__options *out)
{
    /* '-': arguments are returned in order, as 1; '+': the first one ends the options; ':': a missing value
     * is told from an unknown option. */
    char letters[2 * MOST_OPTIONS + 3] = "-:";
    if (usage->runs_command) letters[0] = '+';
    struct option longs[MOST_OPTIONS + 1] = {{0}};
    size_t n = 2;
    for (size_t i = 0; i < table->count; i++) {
        const struct kw__option *row = &table->rows[i];
        longs[i] = (struct option){row->name, row->kind == KW__OPTION_FLAG ? no_argument : required_argument,
                                   NULL, LONG_VALUE + (int)i};
        if (row->letter) letters[n++] = row->letter;
        if (row->letter && row->kind != KW__OPTION_FLAG) letters[n++] = ':';
    }
    optind = 0; /* glibc: start anew */
    opterr = 0;
    out->args = argv + 1;
    for (int value; (value = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        const char *text = argv[optind > 0 ? optind - 1 : 0];
        int rc = KW__PROCEED;
        if (value == 1)
            out->args[out->n_args++] = optarg; /* a slot getopt has passed */
        else if (value == ':')
            rc = kw__cli_usage("%s needs a value; see 'kinowatt %s --help'", text, usage->name);
        else if (value == '?')
            rc = set_shortest(usage, table, text, argc, argv);
        else
            rc = set(usage, find(table, value), optarg);
        if (rc != KW__PROCEED) return rc;
    }
    while (optind < argc) out->args[out->n_args++] = argv[optind++];
    out->args[out->n_args] = NULL;
    return KW__PROCEED;
}

int kw__options_parse(const struct kw__usage *usage, int argc, char **argv, struct kw__options *out)
{
    *out =
        (struct kw__options){.usage = usage, .request = KW_REQUEST_INIT, .predict = KW_PREDICT_OPTIONS_INIT};
    struct table table;
    build(usage, out, &table);
    int rc = read_all(usage, &table, argc, argv, out);
    if (rc != KW__PROCEED) return rc;
    if (out->help) return print_help(usage, &table);
    if (out->json && out->csv) return kw__cli_usage("give --json or --csv, not both");
    if (out->output && !usage->output && strcmp(out->output, "-") == 0) out->output = NULL;
    if (out->n_args < usage->least) return kw__cli_usage("%s", usage->missing);
    for (size_t i = 0; i < out->n_args && !(i && usage->runs_command); i++)
        if (!*out->args[i])
            return kw__cli_usage("an argument is empty; see 'kinowatt %s --help'", usage->name);
    if (out->n_args > usage->most && !usage->runs_command)
        return kw__cli_usage("unexpected argument '%.80s'; see 'kinowatt %s --help'", out->args[usage->most],
                             usage->name);
    if (out->method) {
        kw_error err = {0};
        if (kw_method_parse(out->method, &out->predict.method, &err)) return kw__cli_fail(&err);
    }
    return KW__PROCEED;
}
