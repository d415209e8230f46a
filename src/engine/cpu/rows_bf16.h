/* Kernels from bf16 to bf16 for devices that have bf16 (struct kw__device); never called on others. */
#ifndef KW_ENGINE_CPU_ROWS_BF16_H
#define KW_ENGINE_CPU_ROWS_BF16_H

#include <math.h>

#include "engine/cpu/cpu.h"

/* y = gelu(y), on all cores. */
void kw__cpu_gelu_in_place(const struct kw__device *device, void *y, int64_t count);

/* Rows from .. to - 1 of d channels. */
void kw__cpu_channel_rmsnorm_bf16(const void *in, const float *gamma, void *out, int64_t d,
                                  enum kw__activation activation, int64_t from, int64_t to);

#endif
