#include "stats/student.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* P(|T| <= sqrt(df) tan(angle)) */
static double central_probability(double angle, size_t df)
{
    double c = cos(angle), sum = 0, term = df % 2 ? c : 1;
    /* df even: 1 + (1/2) c^2 + (1 3)/(2 4) c^4 ... c^(df-2);  odd: c + (2/3) c^3 + (2 4)/(3 5) c^5 ... */
    for (size_t power = df % 2; power + 2 <= df; power += 2) {
        sum += term;
        term *= (double)(power + 1) / (double)(power + 2) * c * c;
    }
    return df % 2 ? 2 / pi * (angle + sin(angle) * sum) : sin(angle) * sum;
}

double kw__student_quantile(double p, size_t df)
{
    double low = 0, high = pi / 2;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (central_probability(middle, df) < 2 * p - 1)
            low = middle;
        else
            high = middle;
    }
    return sqrt((double)df) * tan((low + high) / 2);
}

struct kw__mean kw__mean_of(const double *values, size_t count)
{
    struct kw__mean out = {NAN, NAN};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) sum += values[i];
    if (count == 0) return out;
    out.mean = sum / (double)count;
    for (size_t i = 0; i < count; i++) squares += (values[i] - out.mean) * (values[i] - out.mean);
    if (count > 1)
        out.half =
            kw__student_quantile(0.95, count - 1) * sqrt(squares / (double)(count - 1) / (double)count);
    return out;
}
