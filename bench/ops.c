/* Every operator on the cpu backend, correctness and speed in one place: the relative error of its small
 * cases against the float64 interpreter, then what its cases of WAN2.1-1.3B at 256x256x17 reach, beside
 * a matrix product of oneDNN's of 2048 x 1536 x 1536 in the same run.
 *
 *     bench/ops [WORD]      the operators whose case holds the word */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/op_cases.h"
#include "support/yardstick.h"

static void show_error(const struct op_case *c, enum kw__dtype dtype)
{
    char reason[256] = "";
    double error = op_error(c, &kw__backend_cpu, dtype, reason);
    if (error < 0)
        printf(" %s: %s", kw__dtype_name(dtype), reason);
    else
        printf("  %s error %.1e", kw__dtype_name(dtype), error);
}

static void show_speed(const struct op_case *c, enum kw__dtype dtype, double rate)
{
    char reason[256] = "";
    struct op_speed s;
    if (!op_time(c, &kw__backend_cpu, dtype, 0.3, &s, reason)) {
        printf("  %s: %s", kw__dtype_name(dtype), reason);
        return;
    }
    printf("  %s %8.3f ms", kw__dtype_name(dtype), 1e3 * s.seconds);
    if (s.flop > 0)
        printf(" %6.0f GFLOP/s (%3.0f %%)", 1e-9 * s.flop / s.seconds, 1e-7 * s.flop / s.seconds / rate);
    else
        printf(" %6.1f GB/s           ", 1e-9 * s.bytes / s.seconds);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    static const enum kw__dtype dtypes[2] = {KW__F32, KW__BF16};
    double rate[2];
    for (int d = 0; d < 2; d++) {
        rate[d] = yardstick(dtypes[d], 2048, 1536, 1536);
        if (rate[d] > 0)
            printf("oneDNN's matrix product of 2048 x 1536 x 1536 in %s: %.0f GFLOP/s\n",
                   kw__dtype_name(dtypes[d]), rate[d]);
        else
            printf("oneDNN has no kernels for %s on this CPU\n", kw__dtype_name(dtypes[d]));
    }
    for (int large = 0; large < 2; large++) {
        const char *heading = large ? "\nWAN2.1-1.3B at 256x256x17, beside that product\n"
                                    : "\nRelative error of all outputs against float64\n";
        for (size_t i = 0; i < num_op_cases; i++) {
            const struct op_case *c = &op_cases[i];
            if (c->large != large || !strstr(c->name, word)) continue;
            printf("%s%-44s", heading, c->name);
            heading = "";
            for (int d = 0; d < 2; d++) {
                if (rate[d] <= 0) continue;
                if (large)
                    show_speed(c, dtypes[d], rate[d]);
                else
                    show_error(c, dtypes[d]);
            }
            printf("\n");
            fflush(stdout);
        }
    }
    return 0;
}
