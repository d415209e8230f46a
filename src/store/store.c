#include "store/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/catalog.h"
#include "report/out.h"
#include "store/rows.h"

/* ---- Opening ----------------------------------------------------------------------------------------- */

kw_status kw__store_path(const char *given, char **out, kw_error *err)
{
    const char *named = given ? given : getenv("KINOWATT_STORE");
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (named && *named)
        *out = strdup(named);
    else if (data && data[0] == '/') /* relative ones are void */
        *out = kw__text("%s/kinowatt/runs.db", data);
    else if (home && *home)
        *out = kw__text("%s/.local/share/kinowatt/runs.db", home);
    else
        return kw__fail(err, KW_ERROR_USAGE,
                        "nothing says where runs are kept; give --store FILE, or set HOME or KINOWATT_STORE");
    return *out ? KW_OK : kw__fail_memory(err);
}

/* One number that a query gives. */
static kw_status ask(struct kw__store *store, const char *sql, int64_t *out, kw_error *err)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (!rc) rc = sqlite3_step(statement);
    kw_status status = rc == SQLITE_ROW ? KW_OK : kw__db_fail(store, rc, err);
    if (!status) *out = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    return status;
}

/* Whose file it is, within a transaction. *version is 0 for one without content. */
static kw_status check_content(struct kw__store *store, int64_t *version, kw_error *err)
{
    int64_t application, objects = 0;
    kw_status status = ask(store, "PRAGMA application_id", &application, err);
    if (!status) status = ask(store, "PRAGMA user_version", version, err);
    if (!status) status = ask(store, "SELECT count(*) FROM sqlite_schema", &objects, err);
    if (status) return status;
    bool blank = application == 0 && *version == 0 && objects == 0;
    if (!blank && application != KW__STORE_APPLICATION_ID)
        return kw__fail(err, KW_ERROR_FORMAT, "%s is another program's database; name another file",
                        store->path);
    if (*version > kw__store_version)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%s was written by a newer kinowatt (version %" PRId64
                        ", this one knows %d); update kinowatt or name another file",
                        store->path, *version, kw__store_version);
    return KW_OK;
}

static kw_status run_sql(struct kw__store *store, const char *sql, kw_error *err)
{
    int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return rc ? kw__db_fail(store, rc, err) : KW_OK;
}

/* Brings the file to this version. The version is written in any case: so it is known here, before anything
 * is measured, that the disk takes what is written. */
static kw_status migrate(struct kw__store *store, kw_error *err)
{
    char sql[128];
    int64_t version;
    kw_status status = kw__db_begin(store, err);
    if (status) return status;
    status = check_content(store, &version, err); /* again: another process may have been here */
    for (; !status && version < kw__store_version; version++)
        status = run_sql(store, kw__store_migrations[version], err);
    (void)snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d",
                   KW__STORE_APPLICATION_ID, kw__store_version);
    if (!status) status = run_sql(store, sql, err);
    return kw__db_end(store, status, err);
}

static kw_status open_content(struct kw__store *store, kw_error *err)
{
    int64_t version;
    kw_status status = kw__db_open(store, err);
    /* another process may be making it: all or nothing of that is seen */
    if (!status) status = kw__db_begin_read(store, err);
    if (status) return status;
    status = check_content(store, &version, err);
    kw__db_end_read(store);
    if (status) return status;
    if (store->mode == KW__STORE_READ)
        return version ? KW_OK
                       : kw__fail(err, KW_ERROR_NOT_FOUND, "no runs are kept yet: %s is empty", store->path);
    status = kw__db_use_log(store, err);
    return status ? status : migrate(store, err);
}

kw_status kw__store_open(const char *path, enum kw__store_mode mode, struct kw__store **out, kw_error *err)
{
    struct kw__store *store = calloc(1, sizeof *store);
    if (!store) return kw__fail_memory(err);
    store->mode = mode;
    store->parts = KW__PART_ALL;
    /* SQLite takes some names for more than files: ":memory:" */
    store->path = path[0] == ':' ? kw__text("./%s", path) : strdup(path);
    kw_status status = store->path ? open_content(store, err) : kw__fail_memory(err);
    if (status)
        kw__store_close(store);
    else
        *out = store;
    return status;
}

void kw__store_close(struct kw__store *store)
{
    if (!store) return;
    for (int i = 0; i < KW__NUM_SQL; i++) (void)sqlite3_finalize(store->statements[i]);
    (void)sqlite3_close(store->db); /* undoes what was not committed */
    free(store->path);
    free(store);
}

const char *kw__store_name(const struct kw__store *store)
{
    return store->path;
}

/* ---- Runs -------------------------------------------------------------------------------------------- */

kw_status kw__store_begin(struct kw__store *store, kw_error *err)
{
    kw_status status = kw__db_begin(store, err);
    store->transaction = !status;
    return status;
}

kw_status kw__store_end(struct kw__store *store, bool commit, kw_error *err)
{
    store->transaction = false;
    if (commit) return kw__db_end(store, KW_OK, err);
    return sqlite3_get_autocommit(store->db) ? KW_OK : kw__db_do(store, KW__SQL_ROLLBACK, err);
}

kw_status kw__store_add(struct kw__store *store, struct kw__run *run, kw_error *err)
{
    bool added;
    return kw__store_add_new(store, run, &added, err);
}

kw_status kw__store_add_new(struct kw__store *store, struct kw__run *run, bool *added, kw_error *err)
{
    kw_status status = kw__db_begin(store, err);
    if (status) return status;
    status = kw__rows_add(store, run, added, err);
    status = kw__db_end(store, status, err);
    if (status) run->id = 0;
    return status;
}

static kw_status fail_no_run(const struct kw__store *store, int64_t id, kw_error *err)
{
    return kw__fail(err, KW_ERROR_NOT_FOUND, "there is no run %" PRId64 " in %s; 'kinowatt runs' lists them",
                    id, store->path);
}

/* *out is NULL when it is not there. One transaction: a run that another process deletes is read whole or
 * not at all. */
static kw_status get(struct kw__store *store, int64_t id, struct kw__run **out, kw_error *err)
{
    bool own = sqlite3_get_autocommit(store->db) != 0;
    kw_status status = own ? kw__db_begin_read(store, err) : KW_OK;
    if (status) return status;
    status = kw__rows_get(store, id, out, err);
    if (own) kw__db_end_read(store);
    return status;
}

kw_status kw__store_get(struct kw__store *store, int64_t id, struct kw__run **out, kw_error *err)
{
    kw_status status = get(store, id, out, err);
    return status || *out ? status : fail_no_run(store, id, err);
}

kw_status kw__store_delete(struct kw__store *store, int64_t id, kw_error *err)
{
    sqlite3_stmt *statement;
    kw_status status = kw__db_begin(store, err);
    if (status) return status;
    status = kw__db_use(store, KW__SQL_DELETE_RUN, &statement, err);
    if (!status) {
        (void)sqlite3_bind_int64(statement, 1, id);
        status = kw__db_run(store, statement, err);
    }
    if (!status && sqlite3_changes(store->db) == 0) status = fail_no_run(store, id, err);
    return kw__db_end(store, status, err);
}

/* ---- Walking ----------------------------------------------------------------------------------------- */

/* Ids are read a page at a time, so that no statement is open while `each` runs: it may write, and takes as
 * long as it likes. */
struct walk {
    struct kw__store *store;
    const struct kw__run_filter *filter;
    char *began; /* of the run to go on behind, or at the start with: NULL: from the oldest */
    int64_t id;
    int64_t ids[KW__STORE_PAGE];
    int count;
};

static void put_filter(struct kw__out *sql, const struct kw__run_filter *f)
{
    const struct {
        const char *column, *value;
    } texts[] = {{"model", f->model},     {"hardware", f->hardware}, {"stack", f->stack},
                 {"dataset", f->dataset}, {"kind", f->kind},         {"sweep", f->sweep},
                 {"session", f->session}};
    kw__out_puts(sql, "1");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].value) kw__out_printf(sql, " AND %s = $%s", texts[i].column, texts[i].column);
    if (f->done_only) kw__out_puts(sql, " AND state = 'done'");
    if (f->flagged > 0) kw__out_puts(sql, " AND id IN (SELECT run FROM findings)");
    if (f->flagged < 0) kw__out_puts(sql, " AND id NOT IN (SELECT run FROM findings)");
}

static void bind_named(sqlite3_stmt *statement, const char *name, const char *text)
{
    int at = sqlite3_bind_parameter_index(statement, name);
    if (at && text) kw__db_bind_text(statement, at, text);
}

/* Prepares the query that `sql` holds, whose buffer it takes. */
static kw_status prepare(struct walk *walk, struct kw__out *sql, sqlite3_stmt **out, kw_error *err)
{
    const struct kw__run_filter *f = walk->filter;
    int rc = sql->failed ? SQLITE_NOMEM : sqlite3_prepare_v2(walk->store->db, sql->data, -1, out, NULL);
    kw__out_free(sql);
    if (rc) return kw__db_fail(walk->store, rc, err);
    bind_named(*out, "$model", f->model);
    bind_named(*out, "$hardware", f->hardware);
    bind_named(*out, "$stack", f->stack);
    bind_named(*out, "$dataset", f->dataset);
    bind_named(*out, "$kind", f->kind);
    bind_named(*out, "$sweep", f->sweep);
    bind_named(*out, "$session", f->session);
    bind_named(*out, "$began", walk->began);
    int at = sqlite3_bind_parameter_index(*out, "$id");
    if (at) (void)sqlite3_bind_int64(*out, at, walk->id);
    return KW_OK;
}

static kw_status keep_place(struct walk *walk, sqlite3_stmt *row, kw_error *err)
{
    const char *began = (const char *)sqlite3_column_text(row, 0);
    free(walk->began);
    walk->began = began ? strdup(began) : NULL;
    walk->id = sqlite3_column_int64(row, 1);
    return walk->began ? KW_OK : kw__fail_memory(err);
}

/* Where the newest `limit` runs begin; stays at the oldest when there are no more than these. */
static kw_status find_start(struct walk *walk, kw_error *err)
{
    struct kw__out sql;
    sqlite3_stmt *statement = NULL;
    kw__out_init(&sql);
    kw__out_puts(&sql, "SELECT began, id FROM runs WHERE ");
    put_filter(&sql, walk->filter);
    kw__out_printf(&sql, " ORDER BY began DESC, id DESC LIMIT 1 OFFSET %" PRId64, walk->filter->limit);
    kw_status status = prepare(walk, &sql, &statement, err);
    bool more = false;
    if (!status) status = kw__db_next(walk->store, statement, &more, err);
    if (!status && more) status = keep_place(walk, statement, err);
    (void)sqlite3_finalize(statement);
    return status;
}

static kw_status read_page(struct walk *walk, sqlite3_stmt *statement, kw_error *err)
{
    bool more;
    kw_status status;
    walk->count = 0;
    while (!(status = kw__db_next(walk->store, statement, &more, err)) && more) {
        walk->ids[walk->count++] = sqlite3_column_int64(statement, 1);
        if (walk->count == KW__STORE_PAGE) {
            status = keep_place(walk, statement, err);
            (void)sqlite3_reset(statement);
            break;
        }
    }
    return status;
}

static kw_status next_page(struct walk *walk, kw_error *err)
{
    struct kw__out sql;
    sqlite3_stmt *statement = NULL;
    kw__out_init(&sql);
    kw__out_puts(&sql, "SELECT began, id FROM runs WHERE ");
    put_filter(&sql, walk->filter);
    if (walk->began) kw__out_puts(&sql, " AND (began, id) > ($began, $id)");
    kw__out_printf(&sql, " ORDER BY began, id LIMIT %d", KW__STORE_PAGE);
    kw_status status = prepare(walk, &sql, &statement, err);
    if (!status) status = read_page(walk, statement, err);
    (void)sqlite3_finalize(statement);
    return status;
}

kw_status kw__store_each_page(struct kw__store *store, const struct kw__run_filter *filter,
                              kw_status (*each)(void *user, const int64_t *ids, int count, kw_error *err),
                              void *user, kw_error *err)
{
    static const struct kw__run_filter all = {0};
    struct walk walk = {.store = store, .filter = filter ? filter : &all};
    kw_status status = walk.filter->limit > 0 ? find_start(&walk, err) : KW_OK;
    do {
        if (!status) status = next_page(&walk, err);
        if (!status && walk.count) status = each(user, walk.ids, walk.count, err);
    } while (!status && walk.count == KW__STORE_PAGE);
    free(walk.began);
    return status;
}

/* The last of the runs whose numbers follow each other, from the one at `at` on. */
static int end_of_stretch(const int64_t *ids, int count, int at)
{
    while (at + 1 < count && ids[at + 1] == ids[at] + 1) at++;
    return at;
}

/* Where the store is only read, a page is one transaction, whose locks take as long as a tenth of a run, and
 * each table of it is read from end to end. */
kw_status kw__store_read(struct kw__store *store, const int64_t *ids, int count, unsigned parts,
                         kw_status (*each)(void *user, struct kw__run *run, kw_error *err), void *user,
                         kw_error *err)
{
    bool own = store->mode == KW__STORE_READ && sqlite3_get_autocommit(store->db);
    kw_status status = own ? kw__db_begin_read(store, err) : KW_OK;
    bool begun = own && !status;
    int last = -1;
    store->parts = parts;
    for (int i = 0; i < count && !status; i++) {
        struct kw__run *run;
        if (begun && i > last) {
            last = end_of_stretch(ids, count, i);
            kw__db_end_rows(store);
            store->last_run = ids[last];
        }
        status = get(store, ids[i], &run, err);
        if (status || !run) continue;
        status = each(user, run, err);
        kw__run_free(run);
    }
    store->parts = KW__PART_ALL;
    store->last_run = 0;
    kw__db_end_rows(store);
    if (begun) kw__db_end_read(store);
    return status;
}

struct each_run {
    struct kw__store *store;
    kw_status (*each)(void *user, struct kw__run *run, kw_error *err);
    void *user;
};

static kw_status read_runs(void *user, const int64_t *ids, int count, kw_error *err)
{
    const struct each_run *e = user;
    return kw__store_read(e->store, ids, count, KW__PART_ALL, e->each, e->user, err);
}

kw_status kw__store_each(struct kw__store *store, const struct kw__run_filter *filter,
                         kw_status (*each)(void *user, struct kw__run *run, kw_error *err), void *user,
                         kw_error *err)
{
    struct each_run e = {store, each, user};
    return kw__store_each_page(store, filter, read_runs, &e, err);
}

/* ---- Findings ---------------------------------------------------------------------------------------- */

static kw_status add_finding(struct kw__store *store, int64_t run, int64_t position,
                             const struct kw__finding *finding, kw_error *err)
{
    sqlite3_stmt *add;
    kw_status status = kw__db_use(store, KW__SQL_ADD_FINDING, &add, err);
    if (status) return status;
    (void)sqlite3_bind_int64(add, 1, run);
    (void)sqlite3_bind_int64(add, 2, position);
    kw__db_bind_text(add, 3, finding->code);
    kw__db_bind_text(add, 4, finding->window);
    kw__db_bind_text(add, 5, finding->message);
    kw__db_bind_text(add, 6, finding->advice);
    (void)sqlite3_bind_int(add, 7, finding->excludes);
    return kw__db_run(store, add, err);
}

kw_status kw__store_set_findings(struct kw__store *store, int64_t run, const struct kw__finding *findings,
                                 size_t count, kw_error *err)
{
    sqlite3_stmt *clear;
    kw_status status = kw__db_begin(store, err);
    if (status) return status;
    status = kw__db_use(store, KW__SQL_CLEAR_FINDINGS, &clear, err);
    if (!status) {
        (void)sqlite3_bind_int64(clear, 1, run);
        status = kw__db_run(store, clear, err);
    }
    for (size_t i = 0; i < count && !status; i++)
        status = add_finding(store, run, (int64_t)i, &findings[i], err);
    return kw__db_end(store, status, err);
}

kw_status kw__store_get_findings(struct kw__store *store, int64_t run, struct kw__arena *arena,
                                 struct kw__finding **out, size_t *count, kw_error *err)
{
    sqlite3_stmt *row;
    size_t room = 0;
    bool more;
    struct kw__finding *findings = NULL;
    kw_status status;
    *count = 0;
    while (!(status = kw__db_next_of(store, KW__SQL_GET_FINDINGS, run, &row, &more, err)) && more) {
        findings = kw__arena_grow(arena, findings, *count, &room, sizeof *findings);
        if (!findings) break;
        findings[(*count)++] = (struct kw__finding){.code = kw__db_text(row, 1, arena),
                                                    .window = kw__db_text(row, 2, arena),
                                                    .message = kw__db_text(row, 3, arena),
                                                    .advice = kw__db_text(row, 4, arena),
                                                    .excludes = sqlite3_column_int(row, 5) != 0};
    }
    if (!store->last_run) kw__db_end_rows(store);
    if (!status && arena->failed) status = kw__fail_memory(err);
    *out = findings;
    return status;
}

/* ---- Sweeps ------------------------------------------------------------------------------------------ */

kw_status kw__store_add_sweep(struct kw__store *store, const char *uuid, const char *name, const char *plan,
                              kw_error *err)
{
    sqlite3_stmt *add;
    kw_status status = kw__db_begin(store, err);
    if (status) return status;
    status = kw__db_use(store, KW__SQL_ADD_SWEEP, &add, err);
    if (!status) {
        kw__db_bind_text(add, 1, uuid);
        kw__db_bind_text(add, 2, name);
        kw__db_bind_text(add, 3, plan);
        status = kw__db_run(store, add, err);
    }
    if (!status && sqlite3_changes(store->db) == 0)
        status = kw__fail(err, KW_ERROR_USAGE, "there is a sweep \"%s\" in %s already; give another name",
                          name, store->path);
    return kw__db_end(store, status, err);
}

kw_status kw__store_get_sweep(struct kw__store *store, const char *name, struct kw__arena *arena,
                              const char **uuid, const char **plan, kw_error *err)
{
    sqlite3_stmt *row;
    bool more;
    kw_status status = kw__db_use(store, KW__SQL_GET_SWEEP, &row, err);
    if (status) return status;
    kw__db_bind_text(row, 1, name);
    status = kw__db_next(store, row, &more, err);
    if (status) return status;
    if (!more) return kw__fail(err, KW_ERROR_NOT_FOUND, "there is no sweep \"%s\" in %s", name, store->path);
    *uuid = kw__db_text(row, 0, arena);
    *plan = kw__db_text(row, 1, arena);
    (void)sqlite3_reset(row);
    return *uuid && *plan ? KW_OK : kw__fail_memory(err);
}
