#include <errno.h>
#include <math.h>

#include "base/time.h"

double kw__monotonic_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

struct timespec kw__timespec(double seconds)
{
    double whole = floor(fmax(seconds, 0));
    long nano = (long)((fmax(seconds, 0) - whole) * 1e9);
    return (struct timespec){.tv_sec = (time_t)whole, .tv_nsec = nano > 999999999 ? 999999999 : nano};
}

void kw__sleep_until(double until_s)
{
    struct timespec until = kw__timespec(until_s);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) continue;
}
