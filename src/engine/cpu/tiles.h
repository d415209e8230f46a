/* Matrix products in bf16 on AMX: twice the rate of oneDNN 2.6's, which keeps the tile unit waiting for
 * the caches, and which ends in SIGILL for some K that are no multiple of 32 (63 with 327 rows). Here such
 * rows are filled up with zeros. On a device with AMX. */
#ifndef KW_ENGINE_CPU_TILES_H
#define KW_ENGINE_CPU_TILES_H

#include "engine/cpu/cpu.h"

/* y = residual + gate * act(x w' + bias), y f32 or bf16 [rows, n]. */
struct kw__cpu_product {
    const uint16_t *x, *w; /* x[rows, k]; w as kw__cpu_pack_tiles lays it out */
    int64_t rows, n, k;
    const float *bias, *gate; /* [n], or NULL */
    enum kw__activation activation;
    const void *residual; /* as y, or NULL; may be y */
    enum kw__dtype residual_type, type;
    void *y;
};

size_t kw__cpu_tiles_bytes(int64_t n, int64_t k); /* of packed weights */
size_t kw__cpu_tiles_scratch(const struct kw__device *device, int64_t rows, int64_t k);

/* w[n,k], the last axis fastest: panels of 32 columns of w', zeros beyond n and k; of a panel the tiles of 16
 * pairs of rows by 16 columns, two side by side, in the order that a product reads them. */
void kw__cpu_pack_tiles(const struct kw__device *device, const uint16_t *w, int64_t n, int64_t k,
                        uint16_t *out);

void kw__cpu_multiply_tiles(const struct kw__device *device, const struct kw__cpu_product *product,
                            void *scratch);

#endif
