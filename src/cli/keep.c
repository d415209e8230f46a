#include "cli/keep.h"

#include <stdlib.h>

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

void kw__keep_warn(const struct kw__keep *keep)
{
    if (!keep->store) kw__cli_warn("the run was not kept: %s", keep->why.message);
}

void kw__keep_close(struct kw__keep *keep)
{
    kw__store_close(keep->store);
    keep->store = NULL;
}
