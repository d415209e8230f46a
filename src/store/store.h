/* The store: every run in one SQLite database, which any number of processes may write.
 *
 * - Write-ahead log; each run is one transaction: it is there whole or not at all, also after SIGKILL.
 * - `PRAGMA user_version` is the schema's version; older ones are migrated when opened for writing, a newer
 *   one is refused (KW_ERROR_UNSUPPORTED) and left as it is. A file that is no database of ours:
 * KW_ERROR_FORMAT.
 * - A writer waits for others as long as it takes (30 s, then KW_ERROR_IO says who is in the way).
 * - One thread at a time uses a store.
 * - docs/STORE.md has the schema, column by column. */
#ifndef KW_STORE_STORE_H
#define KW_STORE_STORE_H

#include "store/run.h"

struct kw__store;

enum kw__store_mode { KW__STORE_READ, KW__STORE_WRITE };

/* The file that `given` names; NULL: the environment's KINOWATT_STORE, else
 * ${XDG_DATA_HOME:-$HOME/.local/share}/kinowatt/runs.db. The caller frees *out. */
kw_status kw__store_path(const char *given, char **out, kw_error *err);

/* READ: KW_ERROR_NOT_FOUND when there is no such file. WRITE: makes file and folder when they are missing;
 * KW_ERROR_IO when they can't be written, before anything was measured. */
kw_status kw__store_open(const char *path, enum kw__store_mode mode, struct kw__store **out, kw_error *err);
void kw__store_close(struct kw__store *store);

/* Adds a run in one transaction and sets its id. A run whose uuid, or whose sweep, point and repeat, is there
 * already is not added again: *id is that of the one that is there. */
kw_status kw__store_add(struct kw__store *store, struct kw__run *run, kw_error *err);
/* The same, and whether it is new. */
kw_status kw__store_add_new(struct kw__store *store, struct kw__run *run, bool *added, kw_error *err);
/* Between these, adds are one transaction: for imports. _end with commit false undoes them. */
kw_status kw__store_begin(struct kw__store *store, kw_error *err);
kw_status kw__store_end(struct kw__store *store, bool commit, kw_error *err);

kw_status kw__store_get(struct kw__store *store, int64_t id, struct kw__run **out, kw_error *err);
kw_status kw__store_delete(struct kw__store *store, int64_t id, kw_error *err);

/* Which runs; NULL and 0: any. */
struct kw__run_filter {
    const char *model, *hardware, *stack, *dataset, *kind, *sweep, *session;
    int64_t limit;  /* the newest so many */
    int flagged;    /* 1: runs with findings alone, -1: without */
    bool done_only; /* no failed or stopped ones */
};

/* Calls `each` with every run that fits, oldest first; the run is freed after the call. Another status than
 * KW_OK from `each` ends the walk and is returned. Runs are read one by one: any number may be there. */
kw_status kw__store_each(struct kw__store *store, const struct kw__run_filter *filter,
                         kw_status (*each)(void *user, struct kw__run *run, kw_error *err), void *user,
                         kw_error *err);

/* The same for runs that several threads read, each with a store of its own: calls `each` with pages of
 * numbers, which _read reads, less those that were deleted meanwhile, and of each the whole and the parts
 * asked for. `each` asks this store for the findings of its run and nothing else where it was opened to read.
 */
enum { KW__STORE_PAGE = 64 };
enum kw__run_parts {
    KW__PART_NESTED = 1, /* windows but the whole run */
    KW__PART_CHANNELS = 2,
    KW__PART_DETAILS = 4, /* of channels: with them alone */
    KW__PART_SETTINGS = 8,
    KW__PART_ALL = 15
};
kw_status kw__store_each_page(struct kw__store *store, const struct kw__run_filter *filter,
                              kw_status (*each)(void *user, const int64_t *ids, int count, kw_error *err),
                              void *user, kw_error *err);
kw_status kw__store_read(struct kw__store *store, const int64_t *ids, int count, unsigned parts,
                         kw_status (*each)(void *user, struct kw__run *run, kw_error *err), void *user,
                         kw_error *err);
/* The file. */
const char *kw__store_name(const struct kw__store *store);

/* What the linter found in a run: replaces what was kept. */
struct kw__finding {
    const char *code;    /* "power-above-limit" */
    const char *window;  /* NULL: the whole run */
    const char *message; /* what is wrong, with figures */
    const char *advice;  /* what to do */
    bool excludes;       /* the run is left out of fits */
};
kw_status kw__store_set_findings(struct kw__store *store, int64_t run, const struct kw__finding *findings,
                                 size_t count, kw_error *err);
/* Strings are of the arena. */
kw_status kw__store_get_findings(struct kw__store *store, int64_t run, struct kw__arena *arena,
                                 struct kw__finding **out, size_t *count, kw_error *err);

/* A sweep's plan: a JSON text that sweep.c writes and reads. One of the same name is KW_ERROR_USAGE. */
kw_status kw__store_add_sweep(struct kw__store *store, const char *uuid, const char *name, const char *plan,
                              kw_error *err);
/* By uuid or name; texts are of the arena. */
kw_status kw__store_get_sweep(struct kw__store *store, const char *name, struct kw__arena *arena,
                              const char **uuid, const char **plan, kw_error *err);

#endif
