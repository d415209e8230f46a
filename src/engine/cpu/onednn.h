/* oneDNN primitives as the steps of the cpu backend use them: compiled once, their scratchpad part of
 * the step's scratch, so that running one allocates nothing of a tensor's size. */
#ifndef KW_ENGINE_CPU_ONEDNN_H
#define KW_ENGINE_CPU_ONEDNN_H

#include "engine/cpu/cpu.h"

struct kw__cpu_primitive {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t scratch;
    size_t scratch_bytes;
    bool executed;
};

/* Replaces what `out` held. `post` is copied. */
dnnl_status_t kw__cpu_primitive(struct kw__device *device, const void *desc, const_dnnl_post_ops_t post,
                                struct kw__cpu_primitive *out);
void kw__cpu_primitive_free(struct kw__cpu_primitive *p);
/* Whether there is address space for the code that oneDNN 2.6 generates as a primitive is made or first
 * executed: where it gets none (ulimit -v) it writes through a null pointer, and no status tells. */
bool kw__cpu_code_room(void);
/* Whether all that oneDNN has for it are plain loops, hundreds of times slower. */
bool kw__cpu_is_reference(const struct kw__cpu_primitive *p);

/* A memory object without data, of the shape and layout that the primitive has for this operand. */
dnnl_status_t kw__cpu_memory(const struct kw__cpu_primitive *p, dnnl_query_t what, dnnl_engine_t engine,
                             dnnl_memory_t *out);

/* A dense descriptor, the last axis fastest. */
dnnl_status_t kw__cpu_plain(dnnl_memory_desc_t *out, int ndim, const dnnl_dims_t dim, dnnl_data_type_t type);

dnnl_data_type_t kw__cpu_type(enum kw__dtype dtype);

/* Runs it, with its scratchpad at the beginning of the step's scratch; `args` has room for one more.
 * What fails is remembered in the plan. */
void kw__cpu_execute(struct kw__cpu_plan *plan, struct kw__cpu_step *step, struct kw__cpu_primitive *p,
                     int count, dnnl_exec_arg_t *args);

#endif
