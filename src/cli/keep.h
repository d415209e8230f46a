/*
 * Keeping what was measured: the store that a measuring command writes its run to.
 *
 *     struct kw__keep keep;
 *     int code = kw__keep_open(store, &keep);     // before the run
 *     if (code) return code;
 *     ...
 *     kw__keep_add(&keep, run);                   // run->id is 0 when it could not be kept
 *     kw__keep_check(&keep, catalog, run, &findings, &count);
 *     ...                                         // print the result
 *     kw__keep_say(findings, count);              // what the linter found
 *     kw__keep_warn(&keep);                       // if it was not kept
 *     kw__keep_close(&keep);
 *
 * A store that was named must be writable, or nothing runs. The usual one is a convenience: when it can't be
 * written the run goes on, and a warning after the result says that it was not kept.
 */
#ifndef KW__CLI_KEEP_H
#define KW__CLI_KEEP_H

#include "store/check.h"

struct kw__keep {
    struct kw__store *store; /* NULL: nothing is kept, because of `why` */
    kw_error why;
};

/* `given` is --store's value, NULL without. Returns KW__EXIT_OK or the exit code of the failure, printed. */
int kw__keep_open(const char *given, struct kw__keep *keep);
/* The options' row. */
#define KW__KEEP_OPTION(target)                                                                              \
    {                                                                                                        \
        "store", 0, KW__OPTION_TEXT, "FILE", "keep the run there; 'kinowatt runs' shows it", target          \
    }
/* Keeps the run; what goes wrong, also before, is told by kw__keep_warn. */
void kw__keep_add(struct kw__keep *keep, struct kw__run *run);
void kw__keep_refuse(struct kw__keep *keep, const kw_error *why);
/* What the linter finds in the run, in its arena, is kept with it. A run that could not be checked has no
 * findings, and a warning says why. */
void kw__keep_check(struct kw__keep *keep, const kw_catalog *catalog, struct kw__run *run,
                    struct kw__finding **findings, size_t *count);
/* A warning for each finding, one for all windows that have the same. */
void kw__keep_say(const struct kw__finding *findings, size_t count);
/* How many runs have findings, if any. `store`: as the user named it; NULL: the usual one. */
void kw__keep_say_counts(const struct kw__check_counts *counts, const char *store);
/* Says that the run was not kept, and why; nothing when it was. */
void kw__keep_warn(const struct kw__keep *keep);
void kw__keep_close(struct kw__keep *keep);

#endif
