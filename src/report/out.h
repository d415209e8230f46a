/*
 * Text on its way out: a growable buffer, its last step to a file or a descriptor, and numbers
 * as people read them. Tables, figures, CSV and JSON are all built here first and written whole.
 *
 * Invariants
 * - Failure is sticky: once memory runs out, `failed` is set, later appends do nothing, and the
 *   text is never written in part. Append freely; look at the result of the write (or of
 *   kw__out_steal) once.
 * - `data` is NULL before the first append, and NUL-terminated afterwards.
 * - Numbers are printed with a decimal point whatever locale the host program has set (base/number.h).
 * - Absence is never 0: NaN reads as an en dash for people and as nothing at all in CSV.
 */
#ifndef KW__REPORT_OUT_H
#define KW__REPORT_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kinowatt.h"

struct kw__out {
    char *data;
    size_t len;
    size_t cap;
    bool failed;
};

void kw__out_init(struct kw__out *out);
void kw__out_free(struct kw__out *out);

__attribute__((format(printf, 2, 3))) void kw__out_printf(struct kw__out *out, const char *format, ...);
void kw__out_puts(struct kw__out *out, const char *text);
/* Room for `extra` bytes and the NUL; false after a failure. */
bool kw__out_reserve(struct kw__out *out, size_t extra);
/* Inline: of an export's time, most of what is not spent on numbers is spent here, on a few bytes each time.
 */
static inline void kw__out_write(struct kw__out *out, const char *bytes, size_t n)
{
    if (n >= out->cap - out->len && !kw__out_reserve(out, n)) return;
    if (n > 0) memcpy(out->data + out->len, bytes, n);
    out->len += n;
    out->data[out->len] = '\0';
}

/* One CSV field (RFC 4180): quoted when it holds a comma, a quote, a line break, or a space at
 * either end (some readers trim those). NULL is an absent value: nothing is written. */
void kw__out_csv(struct kw__out *out, const char *field);

/* `n` bytes as XML or HTML character data, safe in attributes too. Bytes that are not UTF-8 and
 * characters that XML 1.0 forbids become U+FFFD, so that the result is always well-formed. */
void kw__out_xml(struct kw__out *out, const char *text, size_t n);

/* The text, owned by the caller (free()), and an empty buffer; NULL after a failure. */
char *kw__out_steal(struct kw__out *out);

/* Writes the text to `path` whole or not at all, as base/pending.h says. KW_ERROR_MEMORY of a buffer that
 * failed. */
kw_status kw__out_write_file(const struct kw__out *out, const char *path, kw_error *err);

/* Writes the text to an open descriptor, however many write() calls it takes. A full disk or a closed pipe
 * is a failure; for the latter the command must have ignored SIGPIPE, which a library may not do for it. */
kw_status kw__out_write_fd(const struct kw__out *out, int fd, kw_error *err);

/* Decodes one character at `text` (not the terminating NUL). Returns its length in bytes;
 * malformed, overlong or surrogate input is U+FFFD of length 1. */
size_t kw__utf8_decode(const char *text, size_t n, uint32_t *code);

/*
 * Numbers for people, into a buffer of KW__FORMAT_SIZE bytes, which always suffices; they return
 * the buffer. Three significant digits, but two decimals down to 0.1 and, for Wh and FLOP, which
 * readers subtract and add up, one decimal up to 999.9:
 *
 *   seconds  "12.5 ms"  "0.85 s"  "45.3 s"  "3 min 12 s"  "1 h 04 min"  "5 d 03 h"
 *   wh       "50.0 mWh"  "0.11 Wh"  "359.7 Wh"  "1.32 kWh"
 *   flop     "283.0 TFLOP"  "1.24 EFLOP"
 *   bytes    "512 B"  "31.2 GB" (decimal prefixes)
 *   w        "62.4 W"  "689 W"  "1.25 kW"
 *   percent  "0.52 %"  "12.3 %"  "100 %" (of a fraction: 1 is 100 %)
 *   fine     "0.850 s"  "0.114 Wh": seconds and wh with three decimals below 1, to set side by side
 *   exact    "192.3": the shortest decimal that reads back as the same double; "" for NaN
 */
#define KW__FORMAT_SIZE 40
const char *kw__format_seconds(char *buffer, double seconds_s);
const char *kw__format_wh(char *buffer, double energy_wh);
const char *kw__format_fine_seconds(char *buffer, double seconds_s);
const char *kw__format_fine_wh(char *buffer, double energy_wh);
const char *kw__format_flop(char *buffer, double flop);
const char *kw__format_bytes(char *buffer, double bytes);
const char *kw__format_w(char *buffer, double power_w);
const char *kw__format_percent(char *buffer, double fraction);
const char *kw__format_exact(char *buffer, double value);

#endif
