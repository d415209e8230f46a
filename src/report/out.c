/* The output buffer, writing it out, and numbers for people; out.h is the manual. */
#include "report/out.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/pending.h"

#define EN_DASH "\xE2\x80\x93"
#define REPLACEMENT 0xFFFDu

void kw__out_init(struct kw__out *out)
{
    *out = (struct kw__out){0};
}

void kw__out_free(struct kw__out *out)
{
    free(out->data);
    kw__out_init(out);
}

/* No room is left in one that has failed, so that the inline kw__out_write comes here. */
static bool fail(struct kw__out *out)
{
    out->failed = true;
    out->cap = out->len;
    return false;
}

bool kw__out_reserve(struct kw__out *out, size_t extra)
{
    if (out->failed) {
        return false;
    }
    if (extra < out->cap - out->len) {
        return true;
    }
    if (extra > SIZE_MAX / 2 - out->len - 1) {
        return fail(out);
    }
    size_t cap = out->cap < 128 ? 256 : out->cap * 2;
    while (cap < out->len + extra + 1) {
        cap *= 2;
    }
    char *data = realloc(out->data, cap);
    if (data == NULL) {
        return fail(out);
    }
    out->data = data;
    out->cap = cap;
    return true;
}

void kw__out_puts(struct kw__out *out, const char *text)
{
    kw__out_write(out, text, strlen(text));
}

void kw__out_printf(struct kw__out *out, const char *format, ...)
{
    va_list args;
    if (!kw__out_reserve(out, 128)) {
        return;
    }
    va_start(args, format);
    int need = kw__number_vformat(out->data + out->len, out->cap - out->len, format, args);
    va_end(args);
    if (need < 0) {
        out->data[out->len] = '\0';
        (void)fail(out);
        return;
    }
    if ((size_t)need >= out->cap - out->len) {
        out->data[out->len] = '\0';
        if (!kw__out_reserve(out, (size_t)need)) {
            return;
        }
        va_start(args, format);
        (void)kw__number_vformat(out->data + out->len, out->cap - out->len, format, args);
        va_end(args);
    }
    out->len += (size_t)need;
}

void kw__out_csv(struct kw__out *out, const char *field)
{
    if (field == NULL) {
        return;
    }
    size_t n = strlen(field);
    bool quote = strpbrk(field, ",\"\r\n") != NULL;
    if (n > 0 && (field[0] == ' ' || field[n - 1] == ' ')) {
        quote = true;
    }
    if (!quote) {
        kw__out_write(out, field, n);
        return;
    }
    kw__out_puts(out, "\"");
    for (const char *at = field; *at != '\0';) {
        size_t run = strcspn(at, "\"");
        kw__out_write(out, at, run);
        at += run;
        if (*at == '"') {
            kw__out_puts(out, "\"\"");
            at++;
        }
    }
    kw__out_puts(out, "\"");
}

void kw__out_xml(struct kw__out *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t code;
        size_t used = kw__utf8_decode(text + i, n - i, &code);
        bool forbidden = (code < 0x20 && code != '\t' && code != '\n' && code != '\r') ||
                         code == REPLACEMENT || code == 0xFFFE || code == 0xFFFF;
        if (forbidden) {
            kw__out_puts(out, "\xEF\xBF\xBD");
        } else if (code == '&') {
            kw__out_puts(out, "&amp;");
        } else if (code == '<') {
            kw__out_puts(out, "&lt;");
        } else if (code == '>') {
            kw__out_puts(out, "&gt;");
        } else if (code == '"') {
            kw__out_puts(out, "&quot;");
        } else if (code == '\'') {
            kw__out_puts(out, "&#39;");
        } else {
            kw__out_write(out, text + i, used);
        }
        i += used;
    }
}

char *kw__out_steal(struct kw__out *out)
{
    if (!out->failed && out->data == NULL) {
        kw__out_puts(out, "");
    }
    if (out->failed) {
        return NULL;
    }
    char *data = out->data;
    kw__out_init(out);
    return data;
}

size_t kw__utf8_decode(const char *text, size_t n, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t need = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    *code = REPLACEMENT;
    if (need == 0 || need > n) {
        return 1;
    }
    if (need == 1) {
        *code = s[0];
        return 1;
    }
    uint32_t value = s[0] & (0xFFu >> (need + 1));
    for (size_t i = 1; i < need; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 1;
        }
        value = value << 6 | (s[i] & 0x3Fu);
    }
    bool overlong = (need == 3 && value < 0x800) || (need == 4 && value < 0x10000);
    if (overlong || (value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF) {
        return 1;
    }
    *code = value;
    return need;
}

/* ---- writing out ---- */

kw_status kw__out_write_fd(const struct kw__out *out, int fd, kw_error *err)
{
    int error = out->failed ? ENOMEM : kw__write_all(fd, out->data, out->len);
    return error ? kw__fail_write(err, "the output", error) : KW_OK;
}

kw_status kw__out_write_file(const struct kw__out *out, const char *path, kw_error *err)
{
    struct kw__pending file;
    if (out->failed) return kw__fail_write(err, path, ENOMEM);
    kw_status status = kw__pending_open(path, &file, err);
    if (status) return status;
    status = kw__pending_write(&file, out->data, out->len, err);
    if (!status) return kw__pending_commit(&file, err);
    kw__pending_discard(&file);
    return status;
}

/* ---- numbers for people ---- */

/* Decimals that give three digits, or `hundreds` of them from 100 up. The bounds are where
 * rounding would carry into another digit: 9.996 is "10.0", not "10.00". */
static int decimals(double magnitude, int hundreds)
{
    return magnitude < 9.995 ? 2 : magnitude < 99.95 ? 1 : hundreds;
}

/* False when `value` was no number and the buffer already holds its text. */
static bool is_number(char *buffer, double value, const char *unit)
{
    if (isnan(value)) {
        (void)snprintf(buffer, KW__FORMAT_SIZE, "%s", EN_DASH);
    } else if (isinf(value)) {
        (void)snprintf(buffer, KW__FORMAT_SIZE, "%sinf %s", value < 0 ? "-" : "", unit);
    } else if (value == 0) {
        (void)snprintf(buffer, KW__FORMAT_SIZE, "0 %s", unit);
    } else {
        return true;
    }
    return false;
}

/* `smallest` and `largest` are the decimal prefixes allowed, as powers of 1000; `below_1` the decimals there.
 */
static const char *format_fine(char *buffer, double value, const char *unit, int below_1, int hundreds,
                               int smallest, int largest)
{
    static const char *const prefix[] = {"n", "\xC2\xB5", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y"};
    double carry = hundreds > 0 ? 999.95 : 999.5;
    double magnitude = fabs(value);
    int power = 0;
    if (!is_number(buffer, value, unit)) {
        return buffer;
    }
    while (magnitude >= carry && power < largest) {
        magnitude /= 1000;
        power++;
    }
    /* Down to 0.1 a value keeps its unit: "0.85 s" and "0.11 Wh" are easier than 850 ms. */
    while (magnitude < 0.0995 && power > smallest) {
        magnitude *= 1000;
        power--;
    }
    int digits = magnitude < 0.9995 ? below_1 : decimals(magnitude, hundreds);
    if (magnitude >= 1e6 || magnitude < 0.005) {
        (void)kw__number_format(buffer, KW__FORMAT_SIZE, "%.2e %s%s", copysign(magnitude, value),
                                prefix[power + 3], unit);
    } else {
        (void)kw__number_format(buffer, KW__FORMAT_SIZE, "%.*f %s%s", digits, copysign(magnitude, value),
                                prefix[power + 3], unit);
    }
    return buffer;
}

static const char *format_si(char *buffer, double value, const char *unit, int hundreds, int smallest,
                             int largest)
{
    return format_fine(buffer, value, unit, 2, hundreds, smallest, largest);
}

const char *kw__format_seconds(char *buffer, double seconds_s)
{
    double magnitude = fabs(seconds_s);
    const char *sign = seconds_s < 0 ? "-" : "";
    /* Past three years nobody reads days and hours; infinities and NaN end here too. */
    if (!(magnitude >= 59.95 && magnitude < 1e8)) {
        return format_si(buffer, seconds_s, "s", 0, -3, 0);
    }
    long long s = llround(magnitude);
    long long min = llround(magnitude / 60);
    long long h = llround(magnitude / 3600);
    if (s < 3600) {
        (void)snprintf(buffer, KW__FORMAT_SIZE, "%s%lld min %02lld s", sign, s / 60, s % 60);
    } else if (min < 100 * 60) {
        (void)snprintf(buffer, KW__FORMAT_SIZE, "%s%lld h %02lld min", sign, min / 60, min % 60);
    } else {
        (void)snprintf(buffer, KW__FORMAT_SIZE, "%s%lld d %02lld h", sign, h / 24, h % 24);
    }
    return buffer;
}

const char *kw__format_fine_seconds(char *buffer, double seconds_s)
{
    if (!(fabs(seconds_s) < 1)) return kw__format_seconds(buffer, seconds_s);
    return format_fine(buffer, seconds_s, "s", 3, 0, -3, 0);
}

const char *kw__format_fine_wh(char *buffer, double energy_wh)
{
    return format_fine(buffer, energy_wh, "Wh", 3, 1, -2, 4);
}

const char *kw__format_wh(char *buffer, double energy_wh)
{
    return format_si(buffer, energy_wh, "Wh", 1, -2, 4);
}

const char *kw__format_flop(char *buffer, double flop)
{
    return format_si(buffer, flop, "FLOP", 1, 0, 8);
}

const char *kw__format_bytes(char *buffer, double bytes)
{
    if (fabs(bytes) < 999.5 && bytes == rint(bytes)) {
        (void)kw__number_format(buffer, KW__FORMAT_SIZE, "%.0f B", bytes);
        return buffer;
    }
    return format_si(buffer, bytes, "B", 0, 0, 8);
}

const char *kw__format_w(char *buffer, double power_w)
{
    return format_si(buffer, power_w, "W", 0, -1, 3);
}

const char *kw__format_percent(char *buffer, double fraction)
{
    double percent = 100 * fraction;
    if (!is_number(buffer, percent, "%")) {
        return buffer;
    }
    double magnitude = fabs(percent);
    if (magnitude >= 1e6 || magnitude < 0.005) {
        (void)kw__number_format(buffer, KW__FORMAT_SIZE, "%.2e %%", percent);
    } else {
        (void)kw__number_format(buffer, KW__FORMAT_SIZE, "%.*f %%", decimals(magnitude, 0), percent);
    }
    return buffer;
}

const char *kw__format_exact(char *buffer, double value)
{
    buffer[0] = '\0';
    if (!isnan(value)) (void)kw__number_exact(buffer, value);
    return buffer;
}
