/* Published rows that answer one request. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "hardware/hardware.h"
#include "model/family.h"
#include "predict/dataset.h"

static const char *const datasets[] = {"delavande2025_wan_sweeps", "delavande2025_models",
                                       "mlenergy_v3_one_gpu", "h200_diffusers040"};
enum { NUM_DATASETS = sizeof datasets / sizeof datasets[0] };

struct owned_list {
    kw_published_list list;
    struct kw__arena arena;
    kw_published *rows;
    size_t capacity;
};

/* Whether a row's request becomes the same one under the model's own rules. */
static bool same_request(const kw_model *model, const kw_effective *wanted, const struct kw__row *row)
{
    if (strcmp(row->model, model->name) != 0) return false;
    if (row->what && strcmp(row->what, "pipeline") != 0) return false;
    kw_request request = kw__row_request(row);
    kw_effective r;
    return !kw_request_resolve(model, &request, &r, NULL) && kw__same_run(&r, wanted);
}

static const char *profile_of(const kw_catalog *catalog, struct kw__arena *arena, const char *gpu)
{
    kw_hardware *hardware;
    kw_status status = kw_hardware_open(catalog, gpu, &hardware, NULL);
    if (status == KW_ERROR_MEMORY) arena->failed = true;
    if (status) return NULL;
    const char *name = kw__arena_strdup(arena, kw_hardware_name(hardware));
    kw_hardware_close(hardware);
    return name;
}

static void add_row(const kw_catalog *catalog, struct owned_list *o, const struct kw__row *row)
{
    struct kw__arena *arena = &o->arena;
    kw_published *rows = kw__arena_grow(arena, o->rows, o->list.num_rows, &o->capacity, sizeof *rows);
    if (!rows) return;
    o->rows = rows;
    o->list.rows = rows;
    kw_published *p = &rows[o->list.num_rows];
    *p =
        (kw_published){.source = row->sweep ? kw__arena_printf(arena, "%s, %s sweep", row->source, row->sweep)
                                            : kw__arena_strdup(arena, row->source),
                       .gpu = kw__arena_strdup(arena, row->gpu),
                       .note = row->note ? kw__arena_strdup(arena, row->note) : NULL,
                       .hardware = profile_of(catalog, arena, row->gpu),
                       .requested_frames = row->frames,
                       .latency_s = row->latency_s};
    memcpy(p->energy_wh, row->energy_wh, sizeof p->energy_wh);
    o->list.num_rows++;
}

kw_status kw_published_find(const kw_catalog *catalog, const kw_model *model, const kw_effective *request,
                            kw_published_list **out, kw_error *err)
{
    kw__error_clear(err);
    struct owned_list *o = calloc(1, sizeof *o);
    if (!o) return kw__fail_memory(err);
    kw__arena_init(&o->arena);
    kw_status status = KW_OK;
    for (int d = 0; !status && d < NUM_DATASETS; d++) {
        struct kw__dataset *dataset;
        bool there = false;
        status = kw__dataset_exists(catalog, datasets[d], &there, err);
        if (!status && !there) continue;
        if (!status) status = kw__dataset_open(catalog, datasets[d], &dataset, err);
        if (status) break;
        for (size_t i = 0; i < dataset->num_rows; i++)
            if (same_request(model, request, &dataset->rows[i])) add_row(catalog, o, &dataset->rows[i]);
        kw__dataset_close(dataset);
    }
    if (!status && o->arena.failed) status = kw__fail_memory(err);
    if (status)
        kw_published_free(&o->list);
    else
        *out = &o->list;
    return status;
}

void kw_published_free(kw_published_list *list)
{
    if (!list) return;
    struct owned_list *o = (struct owned_list *)list;
    kw__arena_free(&o->arena);
    free(o);
}
