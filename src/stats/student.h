/* Student's t: how well a mean of few values is known. */
#ifndef KW_STATS_STUDENT_H
#define KW_STATS_STUDENT_H

#include <stddef.h>

/* The p-quantile of Student's t with df degrees of freedom, 0.5 <= p < 1, df >= 1; from the closed forms of
 * its distribution (Abramowitz and Stegun, 26.7.3 and 26.7.4) by bisection. */
double kw__student_quantile(double p, size_t df);

struct kw__mean {
    double mean; /* NaN of none */
    double half; /* of the mean's 90 % interval, t s / sqrt(n); NaN of fewer than two */
};
struct kw__mean kw__mean_of(const double *values, size_t count);

#endif
