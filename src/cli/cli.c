/* Failing, warning and the way out; cli.h is the manual. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/number.h"
#include "base/pending.h"

#define WRAP_COLUMNS 100

/* ---- Failing and warning ---- */

/* The rule of all commands. 2: mend the command line; it is not valid, names something that is not there, or
 * asks for what this version cannot do. 1: mend a file, or the machine; a file or folder is there but is
 * broken, incomplete or not what it is used as, or reading, writing or the run itself failed. So a
 * folder of weights, a tokenizer, a trace and a profile all fail with 2 when their path leads nowhere, and
 * with 1 for anything that is wrong inside. */
static int exit_code(kw_status status)
{
    switch (status) {
    case KW_OK: return KW__EXIT_OK;
    case KW_ERROR_USAGE:
    case KW_ERROR_NOT_FOUND:
    case KW_ERROR_UNSUPPORTED: return KW__EXIT_USAGE;
    case KW_ERROR_DEVICE: return KW__EXIT_DEVICE;
    case KW_ERROR_FORMAT:
    case KW_ERROR_IO:
    case KW_ERROR_MEMORY:
    case KW_ERROR_CANCELLED: break;
    }
    return KW__EXIT_FAILED;
}

/* One write, so that lines of several processes do not mix. */
static void say(const char *prefix, const char *message)
{
    struct kw__out line;
    kw__out_init(&line);
    kw__out_puts(&line, prefix);
    kw__cli_put(&line, message);
    kw__out_puts(&line, "\n");
    (void)kw__out_write_fd(&line, STDERR_FILENO, NULL);
    kw__out_free(&line);
}

int kw__cli_fail(const kw_error *err)
{
    say("kinowatt: ", err->message);
    return exit_code(err->code);
}

int kw__cli_usage(const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    say("kinowatt: ", message);
    return KW__EXIT_USAGE;
}

void kw__cli_warn(const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    say("kinowatt: warning: ", message);
}

int kw__cli_catalog(const struct kw__options *options, kw_catalog **out)
{
    kw_error err = {0};
    kw_status status = kw_catalog_open(options->data, out, &err);
    if (!status) return KW__EXIT_OK;
    int code = kw__cli_fail(&err);
    return status == KW_ERROR_NOT_FOUND && !options->data ? KW__EXIT_FAILED : code;
}

/* ---- The result ---- */

int kw__cli_check_output(const struct kw__options *options)
{
    kw_error err;
    bool file = options->output && strcmp(options->output, "-") != 0;
    return file && kw__pending_check(options->output, &err) ? kw__cli_fail(&err) : KW__EXIT_OK;
}

int kw__cli_emit(const struct kw__options *options, struct kw__out *out)
{
    kw_error err = {KW_OK, ""};
    const char *path = options ? options->output : NULL;
    kw_status status =
        path ? kw__out_write_file(out, path, &err) : kw__out_write_fd(out, STDOUT_FILENO, &err);
    kw__out_free(out);
    /* Network file systems report the last failures on closing. */
    if (!status && !path && close(STDOUT_FILENO) != 0)
        status = kw__fail(&err, KW_ERROR_IO, "cannot write the output: %s", strerror(errno));
    return status ? kw__cli_fail(&err) : KW__EXIT_OK;
}

int kw__cli_emit_json(const struct kw__options *options, json_t *document)
{
    struct kw__out out;
    kw__out_init(&out);
    char *text = document ? json_dumps(document, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(document);
    if (text) {
        kw__out_puts(&out, text);
        kw__out_puts(&out, "\n");
    }
    out.failed = out.failed || !text;
    free(text);
    return kw__cli_emit(options, &out);
}

int kw__cli_emit_table(const struct kw__options *options, struct kw__table *table)
{
    struct kw__out out;
    kw__out_init(&out);
    if (options->csv)
        kw__table_render_csv(table, &out);
    else
        kw__table_render_text(table, &out);
    kw__table_free(table);
    return kw__cli_emit(options, &out);
}

/* ---- JSON ---- */

json_t *kw__cli_number(double value)
{
    const double exact = 9007199254740992.0; /* 2^53 */
    if (!isfinite(value)) return json_null();
    if (value == floor(value) && fabs(value) <= exact) return json_integer((json_int_t)value);
    return json_real(value);
}

json_t *kw__cli_string(const char *text)
{
    if (!text) return json_null();
    json_t *string = json_string(text);
    if (string) return string;
    struct kw__out clean;
    kw__out_init(&clean);
    size_t length = strlen(text), used;
    for (size_t i = 0; i < length; i += used) {
        uint32_t code;
        used = kw__utf8_decode(text + i, length - i, &code);
        if (code == 0xFFFD)
            kw__out_puts(&clean, "\xEF\xBF\xBD");
        else
            kw__out_write(&clean, text + i, used);
    }
    string = clean.failed || !clean.data ? NULL : json_string(clean.data);
    kw__out_free(&clean);
    return string;
}

json_t *kw__cli_request(const kw_effective *r)
{
    const struct {
        const char *name;
        double value;
    } members[] = {
        {"width", (double)r->width},
        {"height", (double)r->height},
        {"num_frames", (double)r->num_frames},
        {"requested_width", (double)r->requested_width},
        {"requested_height", (double)r->requested_height},
        {"requested_frames", (double)r->requested_frames},
        {"num_inference_steps", (double)r->num_inference_steps},
        {"guidance_scale", r->guidance_scale},
        {"guidance_passes", (double)r->guidance_passes},
        {"batch_size", (double)r->batch_size},
        {"prompt_tokens", (double)r->prompt_tokens},
        {"negative_tokens", (double)r->negative_tokens},
        {"text_tokens", (double)r->text_tokens},
        {"fps", r->fps},
        {"flow_shift", r->flow_shift},
        {"latent_channels", (double)r->latent_channels},
        {"latent_frames", (double)r->latent_frames},
        {"latent_height", (double)r->latent_height},
        {"latent_width", (double)r->latent_width},
        {"tokens", (double)r->tokens},
    };
    json_t *request = json_object();
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        json_object_set_new(request, members[i].name, kw__cli_number(members[i].value));
    if (!isnan(r->guidance_scale_2))
        json_object_set_new(request, "guidance_scale_2", kw__cli_number(r->guidance_scale_2));
    return request;
}

/* ---- Text ---- */

/* Bytes of the character at `text`, and whether it may go to a terminal as it is. */
static bool printable(const char *text, size_t n, size_t *used)
{
    uint32_t code;
    *used = kw__utf8_decode(text, n, &code);
    return code >= 0x20 && !(code >= 0x7F && code < 0xA0) && code != 0xFFFD;
}

void kw__cli_put(struct kw__out *out, const char *text)
{
    size_t length = strlen(text), used;
    for (size_t i = 0; i < length; i += used) {
        if (printable(text + i, length - i, &used))
            kw__out_write(out, text + i, used);
        else
            kw__out_puts(out, "?");
    }
}

void kw__cli_put_item(struct kw__out *out, const char *text)
{
    size_t column = 4;
    kw__out_puts(out, "  -");
    for (const char *word = text; *word;) {
        size_t blanks = strspn(word, " "), length = strcspn(word + blanks, " ");
        char buffer[512];
        snprintf(buffer, sizeof buffer, "%.*s", length < sizeof buffer ? (int)length : (int)sizeof buffer - 1,
                 word + blanks);
        size_t width = kw__text_columns(buffer);
        if (column > 4 && column + width > WRAP_COLUMNS) {
            kw__out_puts(out, "\n   ");
            column = 4;
        }
        kw__out_puts(out, " ");
        kw__cli_put(out, buffer);
        column += width + 1;
        word += blanks + length;
    }
    kw__out_puts(out, "\n");
}

void kw__cli_put_request(struct kw__out *out, const kw_effective *r)
{
    char buffer[KW__FORMAT_SIZE];
    kw__out_printf(out, "Request   %" PRId64 " x %" PRId64, r->width, r->height);
    if (r->requested_width != r->width || r->requested_height != r->height)
        kw__out_printf(out, " (of %" PRId64 " x %" PRId64 " asked for)", r->requested_width,
                       r->requested_height);
    kw__out_printf(out, ", %" PRId64 " frame%s", r->num_frames, kw__plural(r->num_frames));
    if (r->requested_frames != r->num_frames)
        kw__out_printf(out, " (of %" PRId64 " asked for)", r->requested_frames);
    if (r->fps > 0)
        kw__out_printf(out, " at %g fps (%s)", r->fps,
                       kw__format_seconds(buffer, (double)r->num_frames / r->fps));
    kw__out_printf(out, ", %" PRId64 " step%s, guidance %g", r->num_inference_steps,
                   kw__plural(r->num_inference_steps), r->guidance_scale);
    if (r->guidance_passes == 2 && !isnan(r->guidance_scale_2) && r->guidance_scale_2 != r->guidance_scale)
        kw__out_printf(out, ", then %g", r->guidance_scale_2);
    kw__out_printf(out, " (%s a step)", r->guidance_passes == 2 ? "2 passes" : "1 pass");
    if (r->batch_size > 1) kw__out_printf(out, ", batch of %" PRId64, r->batch_size);
    kw__out_printf(out,
                   "\nTokens    %" PRId64 " from a latent of %" PRId64 " x %" PRId64 " x %" PRId64
                   "; prompt %" PRId64,
                   r->tokens, r->latent_frames, r->latent_height, r->latent_width, r->prompt_tokens);
    if (r->guidance_passes == 2) kw__out_printf(out, ", negative prompt %" PRId64, r->negative_tokens);
    kw__out_printf(out, ", padded to %" PRId64 "\n", r->text_tokens);
}

void kw__cli_put_settings(struct kw__out *out, const kw_prediction *p, const struct kw__options *options)
{
    const char *by_default = " (default)"; /* of hardware and stack the assumptions say it */
    kw__out_puts(out, "Hardware  ");
    kw__cli_put(out, p->hardware);
    kw__out_puts(out, ", stack ");
    kw__cli_put(out, p->stack);
    kw__out_printf(out, ", method %s%s\n", kw_method_name(p->method), options->method ? "" : by_default);
    if (p->calibration) {
        kw__out_puts(out, "          calibration ");
        kw__cli_put(out, p->calibration);
        kw__out_puts(out, "\n");
    }
}

void kw__cli_put_assumptions(struct kw__out *out, const kw_prediction *p)
{
    if (p->num_assumptions) kw__out_puts(out, "\nAssumptions\n");
    for (size_t i = 0; i < p->num_assumptions; i++) kw__cli_put_item(out, p->assumptions[i]);
}

const char *kw__cli_spread(char *buffer, size_t size, const kw_reading *r)
{
    double down = 100 * (1 - r->low / r->value), up = 100 * (r->high / r->value - 1);
    if (!isfinite(down) || !isfinite(up)) return NULL;
    snprintf(buffer, size, "-%.*f +%.*f %%", down < 9.95, down, up < 9.95, up);
    return buffer;
}
