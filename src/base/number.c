#include "base/number.h"

#include <locale.h>
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
