/* The monotonic clock: time that no one sets back, in seconds since an unnamed moment. A double holds
 * it to some nanoseconds for longer than machines stay up. */
#ifndef KW_BASE_TIME_H
#define KW_BASE_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

double kw__monotonic_s(void);

struct timespec kw__timespec(double seconds);

/* Sleeps until kw__monotonic_s() is at least `until_s`, signals or not. */
void kw__sleep_until(double until_s);

/* Moments of the calendar, UTC: "2026-11-24T17:20:00.123Z" and the seconds since 1970. `size` is at least 25.
 * False: no such text. */
void kw__time_format(double unix_s, char *buffer, size_t size);
bool kw__time_parse(const char *text, double *unix_s);

#endif
