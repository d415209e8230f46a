#include "support/yardstick.h"

#include <dnnl.h>
#include <string.h>

#include "base/time.h"
#include "engine/random.h"

struct product {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y;
};

/* Filled with random numbers, in whatever order: on matrix units zeros take a fifth less. */
static bool filled(dnnl_memory_t *memory, const dnnl_memory_desc_t *desc, dnnl_data_type_t type,
                   dnnl_engine_t engine)
{
    const struct kw__random stream = kw__random_stream("yardstick", "operand", 0);
    const size_t bytes = dnnl_memory_desc_get_size(desc), each = type == dnnl_bf16 ? 2 : 4;
    void *data;
    if (dnnl_memory_create(memory, desc, engine, DNNL_MEMORY_ALLOCATE) ||
        dnnl_memory_get_data_handle(*memory, &data))
        return false;
    if (type == dnnl_f32) {
        kw__random_fill(&stream, 0, KW__RANDOM_UNIT, 0, bytes / each, data);
        return true;
    }
    for (size_t i = 0; i < bytes / each; i++) {
        float x;
        uint32_t bits;
        kw__random_fill(&stream, 0, KW__RANDOM_UNIT, i, 1, &x);
        memcpy(&bits, &x, sizeof bits);
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
    }
    return true;
}

static bool create(struct product *p, dnnl_data_type_t type, int64_t m, int64_t n, int64_t k)
{
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t desc;
    if (dnnl_engine_create(&p->engine, dnnl_cpu, 0) || dnnl_stream_create(&p->stream, p->engine, 0) ||
        dnnl_memory_desc_init_by_tag(&x, 2, (dnnl_dims_t){m, k}, type, dnnl_ab) ||
        dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){k, n}, type, dnnl_format_tag_any) ||
        dnnl_memory_desc_init_by_tag(&y, 2, (dnnl_dims_t){m, n}, type, dnnl_ab) ||
        dnnl_matmul_desc_init(&desc, &x, &w, NULL, &y) ||
        dnnl_primitive_desc_create(&p->desc, &desc, NULL, p->engine, NULL) ||
        dnnl_primitive_create(&p->primitive, p->desc))
        return false;
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0);
    return filled(&p->x, &x, type, p->engine) && filled(&p->y, &y, type, p->engine) &&
           filled(&p->w, packed, type, p->engine);
}

double yardstick(enum kw__dtype dtype, int64_t m, int64_t n, int64_t k)
{
    struct product p = {0};
    double best = 1e9;
    bool good = create(&p, dtype == KW__BF16 ? dnnl_bf16 : dnnl_f32, m, n, k);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p.x}, {DNNL_ARG_WEIGHTS, p.w}, {DNNL_ARG_DST, p.y}};
    for (int i = 0; good && i < 30; i++) {
        double t = kw__monotonic_s();
        good = !dnnl_primitive_execute(p.primitive, p.stream, 3, args) && !dnnl_stream_wait(p.stream);
        t = kw__monotonic_s() - t;
        if (t < best) best = t;
    }
    dnnl_memory_destroy(p.x);
    dnnl_memory_destroy(p.w);
    dnnl_memory_destroy(p.y);
    dnnl_primitive_destroy(p.primitive);
    dnnl_primitive_desc_destroy(p.desc);
    dnnl_stream_destroy(p.stream);
    dnnl_engine_destroy(p.engine);
    return good ? 2e-9 * (double)m * (double)n * (double)k / best : 0;
}
