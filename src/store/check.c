#include "store/check.h"

struct checking {
    const struct kw__check *check;
    struct kw__check_counts *counts;
    struct kw__lint *lint;
};

static kw_status count_run(void *user, struct kw__run *run, kw_error *err)
{
    const struct checking *c = user;
    return kw__lint_count(c->lint, run, err);
}

static kw_status count_page(void *user, const int64_t *ids, int count, kw_error *err)
{
    const struct checking *c = user;
    /* repeats are known by what a run was, not by what was measured */
    return kw__store_read(c->check->store, ids, count, KW__PART_SETTINGS, count_run, user, err);
}

static kw_status check_run(void *user, struct kw__run *run, kw_error *err)
{
    struct checking *c = user;
    const struct kw__check *check = c->check;
    struct kw__finding *findings;
    size_t count;
    if (check->wanted && !check->wanted(check->user, run)) return KW_OK;
    kw_status status = kw__lint_run(c->lint, run, &run->arena, &findings, &count, err);
    if (!status) status = kw__store_set_findings(check->store, run->id, findings, count, err);
    if (status) return status;
    c->counts->runs++;
    c->counts->flagged += count > 0;
    c->counts->findings += (int64_t)count;
    return check->checked ? check->checked(check->user, run, findings, count, err) : KW_OK;
}

kw_status kw__check_runs(const struct kw__check *check, struct kw__check_counts *counts, kw_error *err)
{
    struct checking c = {.check = check, .counts = counts};
    struct kw__run_filter all = *check->filter;
    *counts = (struct kw__check_counts){0};
    all.limit = 0;
    kw_status status = kw__lint_open(check->catalog, &c.lint, err);
    if (status) return status;
    status = kw__store_each_page(check->store, &all, count_page, &c, err);
    if (!status) status = kw__store_begin(check->store, err);
    if (!status) {
        status = kw__store_each(check->store, check->filter, check_run, &c, err);
        kw_status ended = kw__store_end(check->store, !status, status ? NULL : err);
        if (!status) status = ended;
    }
    kw__lint_close(c.lint);
    return status;
}
