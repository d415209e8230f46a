/* Decimal numbers as text, with a point whatever locale the host program has set: a decimal comma would
 * break every data file and every output. Nothing else of the library calls strtod. */
#ifndef KW_BASE_NUMBER_H
#define KW_BASE_NUMBER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads a text that is a decimal number from its first character to its last: digits with at most one
 * point, a sign, an exponent; no blanks, hexadecimal, "nan" or "inf". One too large for a double is
 * infinite. */
bool kw__number_parse(const char *text, double *out);
/* strtod: the number that a text begins with. */
double kw__number_read(const char *text, char **end);

/* snprintf and vsnprintf. */
int kw__number_format(char *buffer, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int kw__number_vformat(char *buffer, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/* The decimal of the fewest digits, from 15 on, that reads back as the same double, without trailing zeros:
 * what "%.15g", "%.16g" or "%.17g" gives, but ten times faster for usual magnitudes. `buffer` holds 32
 * bytes; the value is finite. Returns the text's length. */
size_t kw__number_exact(char *buffer, double value);

/* "s", or "" for one: "%d run%s". */
const char *kw__plural(int64_t count);

/* The value to so many significant digits, at most 17. */
double kw__number_round(double value, int digits);

#endif
