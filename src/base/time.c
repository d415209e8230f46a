#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

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

/* Days from 1970-01-01, proleptic Gregorian: years begin in March, so that the leap day is the last
 * (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms"). */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

void kw__time_format(double unix_s, char *buffer, size_t size)
{
    int64_t all_ms = (int64_t)floor(unix_s * 1000 + 0.5), millis = (all_ms % 1000 + 1000) % 1000;
    time_t seconds = (time_t)((all_ms - millis) / 1000);
    struct tm utc;
    buffer[0] = '\0';
    if (gmtime_r(&seconds, &utc))
        (void)snprintf(buffer, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900,
                       utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, (int)millis);
}

bool kw__time_parse(const char *text, double *unix_s)
{
    static const char pattern[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    int f[7];
    if (strlen(text) != sizeof pattern - 1) return false;
    for (size_t i = 0; pattern[i]; i++)
        if (pattern[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != pattern[i]) return false;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6]) != 7)
        return false;
    if (f[1] < 1 || f[1] > 12 || f[2] < 1 || f[2] > 31 || f[3] > 23 || f[4] > 59 || f[5] > 60) return false;
    *unix_s = (double)days_of(f[0], f[1], f[2]) * 86400 + f[3] * 3600 + f[4] * 60 + f[5] + f[6] * 1e-3;
    return true;
}
