/* Weights as the kernels of the cpu backend want them: entered while plans are compiled, loaded once. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/tiles.h"
#include "engine/cpu/vec.h"

static bool same_recipe(const struct kw__value *a, const struct kw__value *b)
{
    return a->recipe == b->recipe && a->dtype == b->dtype && a->num_tensors == b->num_tensors &&
           memcmp(a->tensor, b->tensor, (size_t)a->num_tensors * sizeof a->tensor[0]) == 0;
}

static struct kw__cpu_weight *find(const struct kw__device *device, const struct kw__value *value,
                                   enum kw__cpu_form form, int slice, const dnnl_memory_desc_t *packed)
{
    for (size_t i = 0; i < device->num_weights; i++) {
        struct kw__cpu_weight *w = device->weights[i];
        if (w->form == form && w->slice == slice && same_recipe(&w->value, value) &&
            (!packed || dnnl_memory_desc_equal(&w->packed, packed)))
            return w;
    }
    return NULL;
}

static struct kw__cpu_weight *add(struct kw__cpu_plan *plan, const struct kw__cpu_weight *weight)
{
    struct kw__device *d = plan->device;
    if (d->num_weights == d->weight_capacity) {
        size_t capacity = d->weight_capacity ? 2 * d->weight_capacity : 256;
        struct kw__cpu_weight **more = realloc(d->weights, capacity * sizeof(struct kw__cpu_weight *));
        if (!more) return NULL;
        d->weights = more;
        d->weight_capacity = capacity;
    }
    struct kw__cpu_weight *w = malloc(sizeof *w);
    if (!w) return NULL;
    *w = *weight;
    plan->plan.weight_bytes += (double)w->bytes;
    return d->weights[d->num_weights++] = w;
}

struct kw__cpu_weight *kw__cpu_weight(struct kw__cpu_plan *plan, const struct kw__value *value,
                                      enum kw__cpu_form form)
{
    if (value->dtype == KW__F32) form = KW__CPU_PLAIN;
    struct kw__cpu_weight *w = find(plan->device, value, form, -1, NULL);
    if (w) return w;
    enum kw__dtype kept = form == KW__CPU_WIDE ? KW__F32 : value->dtype;
    return add(
        plan, &(struct kw__cpu_weight){.value = *value,
                                       .form = form,
                                       .slice = -1,
                                       .bytes = (size_t)kw__elements(value) * (size_t)kw__dtype_bytes(kept)});
}

struct kw__cpu_weight *kw__cpu_weight_tiles(struct kw__cpu_plan *plan, const struct kw__value *value)
{
    struct kw__cpu_weight *w = find(plan->device, value, KW__CPU_TILES, -1, NULL);
    if (w) return w;
    int64_t n = value->dim[0];
    return add(plan, &(struct kw__cpu_weight){.value = *value,
                                              .form = KW__CPU_TILES,
                                              .slice = -1,
                                              .bytes = kw__cpu_tiles_bytes(n, kw__elements(value) / n)});
}

const dnnl_memory_desc_t *kw__cpu_packed(const struct kw__cpu_plan *plan, const struct kw__value *value,
                                         int slice)
{
    const struct kw__cpu_weight *w = find(plan->device, value, KW__CPU_PACKED, slice, NULL);
    return w ? &w->packed : NULL;
}

struct kw__cpu_weight *kw__cpu_weight_packed(struct kw__cpu_plan *plan, const struct kw__value *value,
                                             int slice, size_t first_element,
                                             const dnnl_memory_desc_t *source,
                                             const dnnl_memory_desc_t *packed)
{
    struct kw__cpu_weight *w = find(plan->device, value, KW__CPU_PACKED, slice, packed);
    if (w) return w;
    return add(plan,
               &(struct kw__cpu_weight){.value = *value,
                                        .form = KW__CPU_PACKED,
                                        .slice = slice,
                                        .source = *source,
                                        .packed = *packed,
                                        .first_byte = first_element * (size_t)kw__dtype_bytes(value->dtype),
                                        .bytes = dnnl_memory_desc_get_size(packed)});
}

/* ---- Loading ---------------------------------------------------------------------------------- */

/* w[O,C,3,3] -> y[4,O,C,2,2]: the kernel of the pixels (2i + a, 2j + b) is the sum of the taps of 3x3
 * that fall on the same pixel of the image before upsampling. Of three rows, the first alone (a = 0)
 * or the first two (a = 1) fall on the upper of the two. */
static void fold_upsample(const float *w, int64_t kernels, enum kw__dtype dtype, void *out)
{
    static const int upper[2] = {1, 2};
    for (int parity = 0; parity < 4; parity++)
        for (int64_t k = 0; k < kernels; k++) {
            float y[4] = {0};
            for (int row = 0; row < 3; row++)
                for (int column = 0; column < 3; column++)
                    y[2 * (row >= upper[parity / 2]) + (column >= upper[parity % 2])] +=
                        w[k * 9 + row * 3 + column];
            int64_t at = (parity * kernels + k) * 4;
            if (dtype == KW__F32)
                memcpy((float *)out + at, y, sizeof y);
            else
                kw__store(dtype, out, at, 4, y);
        }
}

static int64_t tensor_elements(const struct kw__tensor *tensor)
{
    int64_t n = 1;
    for (int i = 0; i < tensor->ndim; i++) n *= tensor->dim[i];
    return n;
}

/* The elements of the recipe, in the checkpoint's order and the value's dtype. */
static kw_status assemble(const struct kw__program *program, const struct kw__value *value,
                          const struct kw__weights *weights, void *out, kw_error *err)
{
    if (value->recipe == KW__RECIPE_FOLD_UPSAMPLE) {
        const struct kw__tensor *tensor = &program->tensors[value->tensor[0]];
        int64_t n = tensor_elements(tensor);
        float *whole = kw__cpu_allocate((size_t)n * sizeof *whole);
        if (!whole) return kw__fail_memory(err);
        kw_status status = weights->get(weights->self, tensor, KW__F32, whole, err);
        if (!status) fold_upsample(whole, n / 9, value->dtype, out);
        free(whole);
        return status;
    }
    char *at = out;
    for (int i = 0; i < value->num_tensors; i++) {
        const struct kw__tensor *tensor = &program->tensors[value->tensor[i]];
        size_t bytes = (size_t)tensor_elements(tensor) * (size_t)kw__dtype_bytes(value->dtype);
        bool aligned = (uintptr_t)at % KW__ALIGNMENT == 0; /* of joined tensors, the later ones may not be */
        void *to = aligned ? at : kw__cpu_allocate(bytes);
        if (!to) return kw__fail_memory(err);
        kw_status status = weights->get(weights->self, tensor, value->dtype, to, err);
        if (!aligned) {
            memcpy(at, to, bytes);
            free(to);
        }
        if (status) return status;
        at += bytes;
    }
    return KW_OK;
}

static kw_status pack(struct kw__device *device, struct kw__cpu_weight *w, char *elements, kw_error *err)
{
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_status_t s;
    if (!kw__cpu_code_room()) return kw__fail_memory(err);
    (void)((s = dnnl_memory_create(&from, &w->source, device->engine, elements + w->first_byte)) ||
           (s = dnnl_memory_create(&to, &w->packed, device->engine, w->data)) ||
           (s = dnnl_reorder_primitive_desc_create(&desc, &w->source, device->engine, &w->packed,
                                                   device->engine, NULL)) ||
           (s = dnnl_primitive_create(&reorder, desc)));
    if (!s) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
        s = dnnl_primitive_execute(reorder, device->stream, 2, args);
        if (!s) s = dnnl_stream_wait(device->stream);
    }
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(desc);
    dnnl_memory_destroy(to);
    dnnl_memory_destroy(from);
    return s ? kw__cpu_fail(s, "reorder a weight", err) : KW_OK;
}

static kw_status keep(struct kw__device *device, struct kw__cpu_weight *w, char *elements, kw_error *err)
{
    w->data = kw__cpu_allocate(w->bytes);
    if (!w->data) return kw__fail_memory(err);
    if (w->form == KW__CPU_PACKED) return pack(device, w, elements, err);
    int64_t n = w->value.dim[0];
    if (w->form == KW__CPU_TILES)
        kw__cpu_pack_tiles(device, (const uint16_t *)elements, n, kw__elements(&w->value) / n, w->data);
    else if (w->form == KW__CPU_PLAIN)
        memcpy(w->data, elements, w->bytes);
    else
        kw__load(w->value.dtype, elements, 0, kw__elements(&w->value), w->data);
    return KW_OK;
}

/* All forms of the weight's recipe, from elements that are read once. */
static kw_status load_recipe(struct kw__cpu_plan *plan, size_t first, const struct kw__weights *weights,
                             kw_error *err)
{
    struct kw__device *d = plan->device;
    struct kw__cpu_weight *w = d->weights[first];
    const struct kw__program *program = plan->graph->program;
    size_t forms = 0;
    for (size_t i = first; i < d->num_weights; i++)
        forms += !d->weights[i]->data && same_recipe(&d->weights[i]->value, &w->value);
    size_t bytes = (size_t)kw__elements(&w->value) * (size_t)kw__dtype_bytes(w->value.dtype);
    char *elements = kw__cpu_allocate(bytes);
    if (!elements) return kw__fail_memory(err);
    kw_status status = assemble(program, &w->value, weights, elements, err);
    if (!status && forms == 1 && w->form == KW__CPU_PLAIN) { /* a large table is not copied */
        w->data = elements;
        return KW_OK;
    }
    for (size_t i = first; i < d->num_weights && !status; i++)
        if (!d->weights[i]->data && same_recipe(&d->weights[i]->value, &w->value))
            status = keep(d, d->weights[i], elements, err);
    free(elements);
    return status;
}

static bool reads(const struct kw__cpu_plan *plan, const struct kw__cpu_weight *w)
{
    for (size_t i = 0; i < plan->graph->num_ops; i++)
        for (int k = 0; k < KW__MAX_INPUTS; k++)
            if (plan->steps[i].weight[k] == w) return true;
    return false;
}

kw_status kw__cpu_load_weights(struct kw__cpu_plan *plan, const struct kw__weights *weights, kw_error *err)
{
    struct kw__device *d = plan->device;
    kw_status status = KW_OK;
    for (size_t i = 0; i < d->num_weights && !status; i++)
        if (!d->weights[i]->data && reads(plan, d->weights[i])) status = load_recipe(plan, i, weights, err);
    return status;
}

void kw__cpu_free_weights(struct kw__device *device)
{
    for (size_t i = 0; i < device->num_weights; i++) {
        free(device->weights[i]->data);
        free(device->weights[i]);
    }
    free(device->weights);
}
