#include "engine/cpu/onednn.h"

#include <string.h>

#include "base/error.h"

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

dnnl_status_t kw__cpu_primitive(struct kw__device *device, const void *desc, const_dnnl_post_ops_t post,
                                struct kw__cpu_primitive *out)
{
    kw__cpu_primitive_free(out);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);
    if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!s && post) s = dnnl_primitive_attr_set_post_ops(attr, post);
    if (!s) s = dnnl_primitive_desc_create(&out->desc, desc, attr, device->engine, NULL);
    if (!s) s = dnnl_primitive_create(&out->primitive, out->desc);
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
    const char *name = NULL;
    dnnl_status_t s = dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, &name);
    return !s && name && strncmp(name, "ref", 3) == 0;
}

dnnl_status_t kw__cpu_memory(const struct kw__cpu_primitive *p, dnnl_query_t what, dnnl_engine_t engine,
                             dnnl_memory_t *out)
{
    return dnnl_memory_create(out, dnnl_primitive_desc_query_md(p->desc, what, 0), engine, DNNL_MEMORY_NONE);
}

void kw__cpu_execute(struct kw__cpu_plan *plan, struct kw__cpu_step *step, const struct kw__cpu_primitive *p,
                     int count, dnnl_exec_arg_t *args)
{
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
