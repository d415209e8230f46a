#include "cli/keep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "cli/cli.h"

int kw__keep_open(const char *given, struct kw__keep *keep)
{
    char *path = NULL;
    *keep = (struct kw__keep){0};
    kw_status status = kw__store_path(given, &path, &keep->why);
    if (!status) status = kw__store_open(path, KW__STORE_WRITE, &keep->store, &keep->why);
    free(path);
    return status && given ? kw__cli_fail(&keep->why) : KW__EXIT_OK;
}

void kw__keep_refuse(struct kw__keep *keep, const kw_error *why)
{
    if (keep->store) keep->why = *why;
    kw__keep_close(keep);
}

void kw__keep_add(struct kw__keep *keep, struct kw__run *run)
{
    kw_error err = {0};
    if (keep->store && kw__store_add(keep->store, run, &err)) kw__keep_refuse(keep, &err);
}

/* Says a finding, unless the same was found in a window before. */
static void say_finding(const struct kw__finding *findings, size_t count, size_t index)
{
    const struct kw__finding *f = &findings[index];
    size_t more = 0;
    char others[48] = "";
    for (size_t i = 0; i < count; i++) {
        if (i == index || strcmp(findings[i].code, f->code) != 0) continue;
        if (i < index) return;
        more++;
    }
    if (more) snprintf(others, sizeof others, " (and %zu window%s more)", more, kw__plural((int64_t)more));
    kw__cli_warn("%s%s%s%s; %s", f->window ? f->window : "", f->window ? ": " : "", f->message, others,
                 f->advice);
}

void kw__keep_say(const struct kw__finding *findings, size_t count)
{
    for (size_t i = 0; i < count; i++) say_finding(findings, count, i);
}

void kw__keep_say_counts(const struct kw__check_counts *counts, const char *store)
{
    if (counts->findings)
        kw__cli_warn("%" PRId64 " finding%s in %" PRId64 " run%s; 'kinowatt runs --check%s%s' shows %s",
                     counts->findings, kw__plural(counts->findings), counts->flagged,
                     kw__plural(counts->flagged), store ? " --store " : "", store ? store : "",
                     counts->findings == 1 ? "it" : "them");
}

void kw__keep_check(struct kw__keep *keep, const kw_catalog *catalog, struct kw__run *run,
                    struct kw__finding **findings, size_t *count)
{
    struct kw__lint *lint = NULL;
    kw_error err = {0};
    *count = 0;
    kw_status status = kw__lint_open(catalog, &lint, &err);
    if (!status) status = kw__lint_run(lint, run, &run->arena, findings, count, &err);
    if (!status && run->id && keep->store)
        status = kw__store_set_findings(keep->store, run->id, *findings, *count, &err);
    if (status) kw__cli_warn("the run could not be checked: %s", err.message);
    kw__lint_close(lint);
}

void kw__keep_warn(const struct kw__keep *keep)
{
    if (!keep->store) kw__cli_warn("the run was not kept: %s", keep->why.message);
}

void kw__keep_close(struct kw__keep *keep)
{
    kw__store_close(keep->store);
    keep->store = NULL;
}
