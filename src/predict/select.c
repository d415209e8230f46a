#include "predict/select.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "hardware/hardware.h"

/* The rows' pairs, and the profiles that their names of hardware stand for. */
struct selecting {
    const kw_catalog *catalog;
    const struct kw__selection *selection;
    struct kw__dataset *set;
    kw_hardware *asked;   /* NULL: whatever there is */
    const char **profile; /* by row; NULL: not said */
};

static bool same(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* The name of the profile that a row's hardware has. */
static kw_status name_profile(struct selecting *s, size_t row, kw_error *err)
{
    const char *gpu = s->set->rows[row].gpu;
    for (size_t i = 0; gpu && i < row; i++)
        if (same(s->set->rows[i].gpu, gpu)) {
            s->profile[row] = s->profile[i];
            return KW_OK;
        }
    if (s->asked && (!gpu || kw__hardware_is(s->asked, gpu))) {
        s->profile[row] = kw_hardware_name(s->asked);
        return KW_OK;
    }
    if (!gpu) return KW_OK;
    kw_hardware *hardware;
    kw_status status = kw_hardware_open(s->catalog, gpu, &hardware, NULL);
    if (status == KW_ERROR_MEMORY) return kw__fail_memory(err);
    s->profile[row] = kw__arena_strdup(&s->set->arena, status ? gpu : kw_hardware_name(hardware));
    if (!status) kw_hardware_close(hardware);
    return s->profile[row] ? KW_OK : kw__fail_memory(err);
}

/* Whether a row is asked for; if not, *why. */
static bool is_asked(const struct selecting *s, size_t row, const char **why)
{
    const struct kw__selection *asked = s->selection;
    const struct kw__row *r = &s->set->rows[row];
    *why = NULL;
    if (!kw__row_measured(r)) *why = "computed from other runs, not measured";
    if (asked->model && !same(asked->model, r->model)) *why = "not of the model asked for";
    if (asked->stack && r->stack && !same(asked->stack, r->stack)) *why = "not of the stack asked for";
    if (s->asked && !same(s->profile[row], kw_hardware_name(s->asked)))
        *why = "not of the hardware asked for";
    return !*why;
}

/* Keeps the rows that are asked for, in their order. */
static kw_status keep_asked(struct selecting *s, kw_error *err)
{
    struct kw__dataset *set = s->set;
    int *place = kw__arena_alloc(&set->arena, set->num_rows, sizeof *place);
    size_t kept = 0;
    if (!place) return kw__fail_memory(err);
    for (size_t i = 0; i < set->num_rows; i++) {
        struct kw__row *row = &set->rows[i];
        const char *why;
        place[i] = -1;
        if (!is_asked(s, i, &why) || (row->whole >= 0 && place[row->whole] < 0)) {
            if (row->whole < 0) kw__leave_out(&set->left_out, &set->arena, why);
            continue;
        }
        if (row->whole >= 0) row->whole = place[row->whole];
        if (!row->stack) row->stack = s->selection->stack;
        place[i] = (int)kept;
        s->profile[kept] = s->profile[i];
        set->rows[kept++] = *row;
    }
    set->num_rows = kept;
    if (kept) return KW_OK;
    const struct kw__left_outs *left = &set->left_out;
    return kw__fail(err, KW_ERROR_NOT_FOUND, "%s has no row to fit%s%s", set->path, left->count ? ": " : "",
                    left->count ? kw__most_left_out(left) : "");
}

/* All rows must be of one pair. */
static kw_status check_pair(const struct selecting *s, kw_error *err)
{
    const struct kw__row *first = &s->set->rows[0];
    for (size_t i = 0; i < s->set->num_rows; i++) {
        const struct kw__row *row = &s->set->rows[i];
        if (!row->stack)
            return kw__fail(err, KW_ERROR_USAGE,
                            "%s does not say which software ran; give --stack NAME, as 'diffusers-0.40'",
                            s->set->path);
        if (!s->profile[i])
            return kw__fail(err, KW_ERROR_USAGE, "%s does not say on which hardware; give --hardware NAME",
                            s->set->path);
        if (!same(row->stack, first->stack))
            return kw__fail(err, KW_ERROR_USAGE, "%s has rows of stacks %s and %s; choose one with --stack",
                            s->set->path, first->stack, row->stack);
        if (!same(s->profile[i], s->profile[0]))
            return kw__fail(err, KW_ERROR_USAGE,
                            "%s has rows of hardware %s and %s; choose one with --hardware", s->set->path,
                            s->profile[0], s->profile[i]);
    }
    return KW_OK;
}

static kw_status select_rows(struct selecting *s, kw_error *err)
{
    kw_status status = KW_OK;
    s->profile = kw__arena_alloc(&s->set->arena, s->set->num_rows, sizeof(const char *));
    if (!s->profile) return kw__fail_memory(err);
    for (size_t i = 0; !status && i < s->set->num_rows; i++) status = name_profile(s, i, err);
    if (!status) status = keep_asked(s, err);
    return status ? status : check_pair(s, err);
}

kw_status kw__dataset_select(const kw_catalog *catalog, const struct kw__selection *selection,
                             struct kw__dataset *dataset, const char **stack, kw_hardware **hardware,
                             kw_error *err)
{
    struct selecting s = {.catalog = catalog, .selection = selection, .set = dataset};
    kw_status status = KW_OK;
    if (selection->hardware) status = kw_hardware_open(catalog, selection->hardware, &s.asked, err);
    if (!status) status = select_rows(&s, err);
    if (!status) *stack = dataset->rows[0].stack;
    if (!status && !s.asked) status = kw_hardware_open(catalog, s.profile[0], &s.asked, err);
    if (status)
        kw_hardware_close(s.asked);
    else
        *hardware = s.asked;
    return status;
}
