#include "base/number.h"

#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* This thread's locale until `leave`. "C" is static in glibc and musl: newlocale has nothing to allocate. */
struct scope {
    locale_t before, here;
};

static struct scope enter(void)
{
    struct scope scope;
    scope.here = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    scope.before = uselocale(scope.here);
    return scope;
}

static void leave(struct scope scope)
{
    uselocale(scope.before);
    if (scope.here) freelocale(scope.here);
}

double kw__number_read(const char *text, char **end)
{
    struct scope scope = enter();
    double value = strtod(text, end);
    leave(scope);
    return value;
}

bool kw__number_parse(const char *text, double *out)
{
    if (!*text || text[strspn(text, "+-.0123456789eE")] != '\0') return false;
    char *end;
    double value = kw__number_read(text, &end);
    if (*end != '\0') return false;
    *out = value;
    return true;
}

int kw__number_vformat(char *buffer, size_t size, const char *format, va_list args)
{
    struct scope scope = enter();
    int length = vsnprintf(buffer, size, format, args);
    leave(scope);
    return length;
}

int kw__number_format(char *buffer, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = kw__number_vformat(buffer, size, format, args);
    va_end(args);
    return length;
}

double kw__number_round(double value, int digits)
{
    char text[40];
    (void)kw__number_format(text, sizeof text, "%.*g", digits, value);
    return kw__number_read(text, NULL);
}

/* ---- The exact decimal ------------------------------------------------------------------------------- */

enum { EXACT_SIZE = 32 };
typedef unsigned __int128 wide;

static size_t exact_by_trying(char *buffer, double value)
{
    for (int digits = 15; digits <= 17; digits++) {
        (void)kw__number_format(buffer, EXACT_SIZE, "%.*g", digits, value);
        if (kw__number_read(buffer, NULL) == value) break;
    }
    return strlen(buffer);
}

/* A decimal of `digits` times 10 to the -`places`, less its trailing zeros. Returns its length. */
static size_t put_decimal(char *buffer, bool negative, uint64_t digits, int places)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char text[32], *end = text + sizeof text, *at = end;
    for (; places > 0 && digits % 10 == 0; places--) digits /= 10;
    for (; digits >= 10; digits /= 100) memcpy(at -= 2, &pairs[2 * (digits % 100)], 2);
    if (digits) *--at = (char)('0' + digits);
    while (end - at <= places) *--at = '0'; /* a digit before the point at least */
    size_t before = (size_t)(end - at - places), length = 0;
    if (negative) buffer[length++] = '-';
    memcpy(buffer + length, at, before);
    length += before;
    if (places > 0) {
        buffer[length++] = '.';
        memcpy(buffer + length, end - places, (size_t)places);
        length += (size_t)places;
    }
    buffer[length] = '\0';
    return length;
}

/* 10 to the k, k at most 20. */
static wide power_of_ten(int k)
{
    static const uint64_t powers[] = {1,
                                      10,
                                      100,
                                      1000,
                                      10000,
                                      100000,
                                      1000000,
                                      10000000,
                                      100000000,
                                      1000000000,
                                      10000000000u,
                                      100000000000u,
                                      1000000000000u,
                                      10000000000000u,
                                      100000000000000u,
                                      1000000000000000u,
                                      10000000000000000u,
                                      100000000000000000u,
                                      1000000000000000000u,
                                      10000000000000000000u};
    return k < 20 ? powers[k] : (wide)powers[19] * 10;
}

/* With value = m * 2^-s, the n digits are round(m * 10^k / 2^s), ties to even as printf has it, and read
 * back as the value when they are off by less than half a step of the double, 10^k / 2 in units of
 * 10^-k 2^-s. For 1e-4 <= value < 1e15: k is at most 20 and s at most 66, so that every number here is
 * below 2^127. */
size_t kw__number_exact(char *buffer, double value)
{
    static const double bounds[] = {1e-4, 1e-3, 1e-2, 1e-1, 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,
                                    1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    if (value == 0) { /* of figures the most common */
        memcpy(buffer, signbit(value) ? "-0" : "0", signbit(value) ? 3 : 2);
        return signbit(value) ? 2 : 1;
    }
    double size = fabs(value);
    if (size < bounds[19] && size == trunc(size)) return put_decimal(buffer, value < 0, (uint64_t)size, 0);
    int above = -4; /* 10^above <= size < 10^(above + 1) */
    bool usual = size >= bounds[0] && size < bounds[19];
    while (usual && size >= bounds[above + 5]) above++;
    uint64_t bits, hidden = (uint64_t)1 << 52;
    memcpy(&bits, &size, sizeof bits);
    uint64_t m = (bits & (hidden - 1)) | hidden;
    for (int n = 15, s = 1075 - (int)(bits >> 52); usual && n <= 17; n++) {
        int k = n - 1 - above;
        wide power = power_of_ten(k), half = (wide)1 << (s - 1), exact = m * power;
        uint64_t digits = (uint64_t)((exact + half) >> s);
        wide back = (wide)digits << s, off = exact > back ? exact - back : back - exact;
        if (off == half && (digits & 1)) digits--;
        if (off && m == hidden) break; /* the step below a power of two is half as wide */
        if (2 * off > power || (2 * off == power && (m & 1))) continue;
        return put_decimal(buffer, value < 0, digits, k);
    }
    return exact_by_trying(buffer, value);
}

const char *kw__plural(int64_t count)
{
    return count == 1 ? "" : "s";
}
