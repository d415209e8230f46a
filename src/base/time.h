/* The monotonic clock: time that no one sets back, in seconds since an unnamed moment. A double holds
 * it to some nanoseconds for longer than machines stay up. */
#ifndef KW_BASE_TIME_H
#define KW_BASE_TIME_H

#include <time.h>

double kw__monotonic_s(void);

struct timespec kw__timespec(double seconds);

/* Sleeps until kw__monotonic_s() is at least `until_s`, signals or not. */
void kw__sleep_until(double until_s);

#endif
