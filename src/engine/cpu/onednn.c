#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "engine/cpu/onednn.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "engine/cpu/library.h"

struct kw__cpu_library kw__cpu_library(void)
{
    const dnnl_version_t *v = dnnl_version();
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    bool amx = (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
    bool bf16 = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
    struct kw__cpu_library library = {.bf16 = amx ? "amx" : bf16 ? "avx512_bf16" : NULL};
    (void)snprintf(library.version, sizeof library.version, "%d.%d.%d", v->major, v->minor, v->patch);
    return library;
}

dnnl_data_type_t kw__cpu_type(enum kw__dtype dtype)
{
    return dtype == KW__BF16 ? dnnl_bf16 : dtype == KW__I32 ? dnnl_s32 : dnnl_f32;
}

dnnl_status_t kw__cpu_plain(dnnl_memory_desc_t *out, int ndim, const dnnl_dims_t dim, dnnl_data_type_t type)
{
    dnnl_dims_t strides;
    dnnl_dim_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= dim[i];
    }
    return dnnl_memory_desc_init_by_strides(out, ndim, dim, type, strides);
}

void kw__cpu_primitive_free(struct kw__cpu_primitive *p)
{
    dnnl_memory_destroy(p->scratch);
    dnnl_primitive_destroy(p->primitive);
    dnnl_primitive_desc_destroy(p->desc);
    *p = (struct kw__cpu_primitive){0};
}

/* A primitive has up to a few dozen kernels of a quarter of a MiB each. */
bool kw__cpu_code_room(void)
{
    const size_t bytes = (size_t)32 << 20;
    void *room = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return false;
    (void)munmap(room, bytes);
    return true;
}

static const char *implementation(const_dnnl_primitive_desc_t desc)
{
    const char *name = NULL;
    dnnl_status_t s = dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, (void *)&name);
    return s || !name ? "" : name;
}

/* The library's first choice. Under AddressSanitizer it is nothing on tiles: while oneDNN 2.6 makes a
 * convolution there it looks for the next byte that is not 0 behind the end of an array of its own. What
 * malloc puts there holds such a byte; the sanitizer's heap may hold none up to its end. */
static dnnl_status_t choose(dnnl_engine_t engine, const void *desc, const_dnnl_primitive_attr_t attr,
                            dnnl_primitive_desc_t *out)
{
#ifdef __SANITIZE_ADDRESS__
    dnnl_primitive_desc_iterator_t at = NULL;
    dnnl_status_t s = dnnl_primitive_desc_iterator_create(&at, desc, attr, engine, NULL);
    for (; !s; s = dnnl_primitive_desc_iterator_next(at)) {
        *out = dnnl_primitive_desc_iterator_fetch(at);
        if (!strstr(implementation(*out), "amx")) break;
        dnnl_primitive_desc_destroy(*out);
        *out = NULL;
    }
    dnnl_primitive_desc_iterator_destroy(at);
    return s;
#else
    return dnnl_primitive_desc_create(out, desc, attr, engine, NULL);
#endif
}

/* The first of oneDNN's general products in a process makes the kernels of all of them as it runs: 20 ms on
 * AVX2, which the first stage would be charged. A small one, before any primitive that may use them runs. */
static dnnl_status_t make_products(struct kw__device *device, const_dnnl_primitive_desc_t desc)
{
    enum { N = 2 };
    const float x[N * N] = {0}, w[N * N] = {0};
    float y[N * N];
    if (device->has_products || strncmp(implementation(desc), "gemm", 4) != 0) return dnnl_success;
    if (!kw__cpu_code_room()) return dnnl_out_of_memory;
    dnnl_status_t s = dnnl_sgemm('N', 'N', N, N, N, 1.0f, x, N, w, N, 0.0f, y, N);
    device->has_products = !s;
    return s;
}

dnnl_status_t kw__cpu_primitive(struct kw__device *device, const void *desc, const_dnnl_post_ops_t post,
                                struct kw__cpu_primitive *out)
{
    kw__cpu_primitive_free(out);
    dnnl_primitive_attr_t attr = NULL;
    if (!kw__cpu_code_room()) return dnnl_out_of_memory;
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);
    if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!s && post) s = dnnl_primitive_attr_set_post_ops(attr, post);
    if (!s) s = choose(device->engine, desc, attr, &out->desc);
    if (!s) s = dnnl_primitive_create(&out->primitive, out->desc);
    if (!s) s = make_products(device, out->desc);
    if (!s) {
        const dnnl_memory_desc_t *scratch =
            dnnl_primitive_desc_query_md(out->desc, dnnl_query_scratchpad_md, 0);
        out->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
        if (out->scratch_bytes)
            s = dnnl_memory_create(&out->scratch, scratch, device->engine, DNNL_MEMORY_NONE);
    }
    dnnl_primitive_attr_destroy(attr);
    return s;
}

bool kw__cpu_is_reference(const struct kw__cpu_primitive *p)
{
    return strncmp(implementation(p->desc), "ref", 3) == 0;
}

dnnl_status_t kw__cpu_memory(const struct kw__cpu_primitive *p, dnnl_query_t what, dnnl_engine_t engine,
                             dnnl_memory_t *out)
{
    return dnnl_memory_create(out, dnnl_primitive_desc_query_md(p->desc, what, 0), engine, DNNL_MEMORY_NONE);
}

void kw__cpu_execute(struct kw__cpu_plan *plan, struct kw__cpu_step *step, struct kw__cpu_primitive *p,
                     int count, dnnl_exec_arg_t *args)
{
    if (!p->executed && !kw__cpu_code_room()) {
        plan->failed = dnnl_out_of_memory;
        return;
    }
    p->executed = true;
    if (p->scratch) {
        dnnl_memory_set_data_handle(p->scratch, step->scratch);
        args[count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratch};
    }
    dnnl_status_t s = dnnl_primitive_execute(p->primitive, plan->device->stream, count, args);
    if (!s) s = dnnl_stream_wait(plan->device->stream);
    if (s) plan->failed = s;
}

kw_status kw__cpu_fail(dnnl_status_t status, const char *what, kw_error *err)
{
    if (status == dnnl_out_of_memory) return kw__fail_memory(err);
    if (status == dnnl_unimplemented)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "oneDNN has no kernel for %s on this CPU", what);
    return kw__fail(err, KW_ERROR_DEVICE, "oneDNN failed at %s (status %d)", what, (int)status);
}
