/* Opening, waiting, statements and errors. Nothing here opens the database's file by other means than
 * SQLite: closing such a descriptor would drop the locks this process has on it. */
#include "store/db.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/pending.h"
#include "base/time.h"
#include "report/out.h"

enum { RETRY_MS = 10 };

/* ---- Errors ------------------------------------------------------------------------------------------ */

/* The process that holds a lock on the file, by the kernel's list of locks; 0: not found. */
static long lock_holder(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) return 0;
    FILE *locks = fopen("/proc/locks", "r");
    if (!locks) return 0;
    long holder = 0;
    char line[256];
    while (!holder && fgets(line, sizeof line, locks)) {
        char access[16];
        long pid;
        unsigned high, low;
        uint64_t inode;
        if (sscanf(line, "%*s POSIX %*s %15s %ld %x:%x:%" SCNu64, access, &pid, &high, &low, &inode) == 5 &&
            strcmp(access, "WRITE") == 0 && inode == info.st_ino && high == major(info.st_dev) &&
            low == minor(info.st_dev) && pid != (long)getpid())
            holder = pid;
    }
    fclose(locks);
    return holder;
}

static kw_status fail_busy(const struct kw__store *store, kw_error *err)
{
    char shared[4096], name[64] = "", proc[64];
    (void)snprintf(shared, sizeof shared, "%s-shm", store->path);
    long holder = lock_holder(shared);
    if (!holder) holder = lock_holder(store->path);
    if (!holder)
        return kw__fail(err, KW_ERROR_IO,
                        "%s was in use by another process for %g s; try again when that is done", store->path,
                        store->wait_s);
    (void)snprintf(proc, sizeof proc, "/proc/%ld/comm", holder);
    FILE *comm = fopen(proc, "r");
    if (comm) {
        if (fgets(name, sizeof name, comm)) name[strcspn(name, "\n")] = '\0';
        fclose(comm);
    }
    return kw__fail(err, KW_ERROR_IO,
                    "%s was in use by process %ld%s%s%s for %g s; try again when that is done", store->path,
                    holder, *name ? " (" : "", name, *name ? ")" : "", store->wait_s);
}

/* The errno of what failed. SQLite's own record of it may be of a later call; its files remember theirs. */
static int errno_of(const struct kw__store *store, int rc)
{
    int error = 0;
    sqlite3_file *log = NULL;
    if (rc == SQLITE_IOERR_WRITE) {
        (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
        if (log && log->pMethods) (void)log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &error);
        if (!error) (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_LAST_ERRNO, &error);
    }
    if (!error) error = sqlite3_system_errno(store->db);
    return error ? error : EIO;
}

kw_status kw__db_fail(const struct kw__store *store, int rc, kw_error *err)
{
    const char *path = store->path;
    switch (rc & 0xFF) {
    case SQLITE_NOMEM: return kw__fail_memory(err);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return fail_busy(store, err);
    case SQLITE_NOTADB: return kw__fail(err, KW_ERROR_FORMAT, "%s is no database; name another file", path);
    case SQLITE_CORRUPT:
        return kw__fail(
            err, KW_ERROR_FORMAT,
            "%s is damaged (%s); 'sqlite3 FILE .recover' may save what is readable into a new file", path,
            sqlite3_errmsg(store->db));
    case SQLITE_FULL: return kw__fail_write(err, path, ENOSPC);
    case SQLITE_READONLY:
        if (rc != SQLITE_READONLY_RECOVERY && rc != SQLITE_READONLY_CANTINIT)
            return kw__fail_write(err, path, EACCES);
        return kw__fail(err, KW_ERROR_IO,
                        "cannot read %s: its last writer was killed and mending that needs to "
                        "write; open it once where it can be written",
                        path);
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
    case SQLITE_PERM:
        if (store->mode == KW__STORE_WRITE) return kw__fail_write(err, path, errno_of(store, rc));
        return kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", path, strerror(errno_of(store, rc)));
    case SQLITE_CONSTRAINT:
        return kw__fail(err, KW_ERROR_USAGE, "the run contradicts itself: %s", sqlite3_errmsg(store->db));
    default:
        return kw__fail(err, KW_ERROR_IO, "%s: %s (SQLite's error %d)", path, sqlite3_errmsg(store->db), rc);
    }
}

/* ---- Statements -------------------------------------------------------------------------------------- */

static const char *const fixed_sql[KW__NUM_SQL] = {
    [KW__SQL_BEGIN_READ] = "BEGIN",
    [KW__SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [KW__SQL_COMMIT] = "COMMIT",
    [KW__SQL_ROLLBACK] = "ROLLBACK",
    [KW__SQL_SAVE] = "SAVEPOINT part",
    [KW__SQL_RELEASE] = "RELEASE part",
    [KW__SQL_UNDO] = "ROLLBACK TO part",
    [KW__SQL_FIND_RUN] = "SELECT id FROM runs WHERE uuid = ?1 OR (sweep = ?2 AND point = ?3 AND repeat = ?4)",
    [KW__SQL_FIND_REASON] = "SELECT id FROM reasons WHERE text = ?",
    [KW__SQL_GET_REASON] = "SELECT text FROM reasons WHERE id = ?",
    [KW__SQL_ADD_REASON] = "INSERT INTO reasons (text) VALUES (?)",
    [KW__SQL_ADD_SETTING] = "INSERT INTO settings (run, name, value) VALUES (?, ?, ?)",
    [KW__SQL_GET_SETTINGS] = "SELECT run, name, value FROM settings WHERE run BETWEEN ?1 AND ?2"
                             " ORDER BY run, name",
    [KW__SQL_DELETE_RUN] = "DELETE FROM runs WHERE id = ?",
    [KW__SQL_CLEAR_FINDINGS] = "DELETE FROM findings WHERE run = ?",
    [KW__SQL_ADD_FINDING] = "INSERT INTO findings (run, position, code, window, message, advice, excludes)"
                            " VALUES (?, ?, ?, ?, ?, ?, ?)",
    [KW__SQL_GET_FINDINGS] = "SELECT run, code, window, message, advice, excludes FROM findings"
                             " WHERE run BETWEEN ?1 AND ?2 ORDER BY run, position",
    [KW__SQL_ADD_SWEEP] = "INSERT INTO sweeps (uuid, name, plan) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    [KW__SQL_GET_SWEEP] = "SELECT uuid, plan FROM sweeps WHERE uuid = ?1 OR name = ?1",
};

static void put_columns(struct kw__out *sql, const struct kw__fields *fields)
{
    for (size_t i = 0; i < fields->count; i++)
        kw__out_printf(sql, "%s%s", i ? ", " : "", fields->fields[i].name);
}

static void put_insert(struct kw__out *sql, const char *table, const char *keys,
                       const struct kw__fields *fields, int parameters)
{
    kw__out_printf(sql, "INSERT INTO %s (%s", table, keys);
    put_columns(sql, fields);
    kw__out_puts(sql, ") VALUES (?");
    for (int i = 1; i < parameters; i++) kw__out_puts(sql, ", ?");
    kw__out_puts(sql, ")");
}

/* ?1 to ?2: the runs, ?3: the last of their windows. */
static void put_select(struct kw__out *sql, const char *table, const char *run,
                       const struct kw__fields *fields, const char *rest)
{
    kw__out_printf(sql, "SELECT %s, ", run);
    put_columns(sql, fields);
    kw__out_printf(sql, " FROM %s WHERE %s BETWEEN ?1 AND ?2 %s", table, run, rest);
}

static void put_readings(struct kw__out *sql, bool insert)
{
    static const char *const parts[] = {"", "_low", "_high", "_status"};
    kw__out_puts(sql, insert ? "INSERT INTO readings (run, window, device" : "SELECT run, window, device");
    for (int q = 0; q < KW__NUM_QUANTITIES; q++) {
        const char *name = kw__quantities[q].name;
        for (int p = 0; p < 4; p++) kw__out_printf(sql, ", %s%s", name, parts[p]);
        kw__out_printf(sql, ", %s_reason", name);
    }
    if (!insert) {
        kw__out_puts(sql, " FROM readings WHERE run BETWEEN ?1 AND ?2 AND window <= ?3 ORDER BY run");
        return;
    }
    kw__out_puts(sql, ") VALUES (?, ?, ?");
    for (int i = 0; i < 5 * KW__NUM_QUANTITIES; i++) kw__out_puts(sql, ", ?");
    kw__out_puts(sql, ")");
}

static void put_sql(struct kw__out *sql, enum kw__sql which)
{
    switch (which) {
    case KW__SQL_ADD_RUN: put_insert(sql, "runs", "", &kw__run_fields, (int)kw__run_fields.count); break;
    case KW__SQL_ADD_WINDOW:
        put_insert(sql, "windows", "run, position, ", &kw__window_fields, 2 + (int)kw__window_fields.count);
        break;
    case KW__SQL_ADD_CHANNEL:
        put_insert(sql, "channels", "run, position, ", &kw__channel_fields,
                   2 + (int)kw__channel_fields.count);
        break;
    case KW__SQL_ADD_DETAIL:
        put_insert(sql, "details", "run, ", &kw__detail_fields, 1 + (int)kw__detail_fields.count);
        break;
    case KW__SQL_GET_RUN: put_select(sql, "runs", "id", &kw__run_fields, "ORDER BY id"); break;
    case KW__SQL_GET_WINDOWS:
        put_select(sql, "windows", "run", &kw__window_fields, "AND position <= ?3 ORDER BY run, position");
        break;
    case KW__SQL_GET_CHANNELS:
        put_select(sql, "channels", "run", &kw__channel_fields, "ORDER BY run, position");
        break;
    case KW__SQL_GET_DETAILS:
        put_select(sql, "details", "run", &kw__detail_fields,
                   "AND window <= ?3 ORDER BY run, window, channel");
        break;
    case KW__SQL_ADD_READING: put_readings(sql, true); break;
    case KW__SQL_GET_READINGS: put_readings(sql, false); break;
    default: break; /* a fixed one */
    }
}

kw_status kw__db_use(struct kw__store *store, enum kw__sql which, sqlite3_stmt **out, kw_error *err)
{
    sqlite3_stmt **statement = &store->statements[which];
    if (!*statement) {
        struct kw__out sql;
        kw__out_init(&sql);
        if (!fixed_sql[which]) put_sql(&sql, which);
        const char *text = fixed_sql[which] ? fixed_sql[which] : sql.data;
        int rc = sql.failed
                     ? SQLITE_NOMEM
                     : sqlite3_prepare_v3(store->db, text, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
        kw__out_free(&sql);
        if (rc) return kw__db_fail(store, rc, err);
    }
    *out = *statement;
    return KW_OK;
}

kw_status kw__db_run(struct kw__store *store, sqlite3_stmt *statement, kw_error *err)
{
    int rc = sqlite3_step(statement);
    kw_status status = rc == SQLITE_DONE || rc == SQLITE_ROW ? KW_OK : kw__db_fail(store, rc, err);
    (void)sqlite3_reset(statement);
    return status;
}

kw_status kw__db_do(struct kw__store *store, enum kw__sql which, kw_error *err)
{
    sqlite3_stmt *statement = NULL;
    kw_status status = kw__db_use(store, which, &statement, err);
    return status ? status : kw__db_run(store, statement, err);
}

kw_status kw__db_next(struct kw__store *store, sqlite3_stmt *statement, bool *more, kw_error *err)
{
    int rc = sqlite3_step(statement);
    *more = rc == SQLITE_ROW;
    if (*more) return KW_OK;
    kw_status status = rc == SQLITE_DONE ? KW_OK : kw__db_fail(store, rc, err);
    (void)sqlite3_reset(statement);
    return status;
}

void kw__db_bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    (void)sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

const char *kw__db_text(sqlite3_stmt *statement, int column, struct kw__arena *arena)
{
    if (sqlite3_column_type(statement, column) == SQLITE_NULL) return NULL;
    const char *text = (const char *)sqlite3_column_text(statement, column);
    if (!text) arena->failed = true;
    return text ? kw__arena_strdup(arena, text) : NULL;
}

/* ---- Rows of runs ------------------------------------------------------------------------------------ */

static kw_status begin_rows(struct kw__store *store, enum kw__sql which, int64_t run, kw_error *err)
{
    struct kw__rows *rows = &store->rows[which];
    kw_status status = kw__db_use(store, which, &rows->statement, err);
    if (status) return status;
    (void)sqlite3_bind_int64(rows->statement, 1, run);
    (void)sqlite3_bind_int64(rows->statement, 2, store->last_run ? store->last_run : run);
    if (sqlite3_bind_parameter_count(rows->statement) > 2)
        (void)sqlite3_bind_int64(rows->statement, 3, store->parts & KW__PART_NESTED ? INT64_MAX : 0);
    rows->state = KW__ROWS_TAKEN;
    return KW_OK;
}

kw_status kw__db_next_of(struct kw__store *store, enum kw__sql which, int64_t run, sqlite3_stmt **out,
                         bool *more, kw_error *err)
{
    struct kw__rows *rows = &store->rows[which];
    kw_status status = rows->state == KW__ROWS_NONE ? begin_rows(store, which, run, err) : KW_OK;
    /* rows of a run before this one are of none that is there */
    while (!status && (rows->state == KW__ROWS_TAKEN || (rows->state == KW__ROWS_AT && rows->run < run))) {
        bool at;
        status = kw__db_next(store, rows->statement, &at, err);
        rows->state = at ? KW__ROWS_AT : KW__ROWS_OVER;
        if (at) rows->run = sqlite3_column_int64(rows->statement, 0);
    }
    *more = !status && rows->state == KW__ROWS_AT && rows->run == run;
    if (*more) rows->state = KW__ROWS_TAKEN;
    *out = rows->statement;
    return status;
}

void kw__db_end_rows(struct kw__store *store)
{
    for (int i = 0; i < KW__NUM_SQL; i++) {
        struct kw__rows *rows = &store->rows[i];
        if (rows->state != KW__ROWS_NONE) (void)sqlite3_reset(rows->statement);
        rows->state = KW__ROWS_NONE;
    }
}

/* ---- Transactions ------------------------------------------------------------------------------------ */

/* What ends a transaction is prepared before it begins: it must not fail for want of memory. */
static kw_status begin(struct kw__store *store, enum kw__sql which, const enum kw__sql *ends, int count,
                       kw_error *err)
{
    sqlite3_stmt *ignored;
    kw_status status = KW_OK;
    for (int i = 0; i < count && !status; i++) status = kw__db_use(store, ends[i], &ignored, err);
    return status ? status : kw__db_do(store, which, err);
}

kw_status kw__db_begin(struct kw__store *store, kw_error *err)
{
    static const enum kw__sql ends[] = {KW__SQL_COMMIT, KW__SQL_ROLLBACK, KW__SQL_RELEASE, KW__SQL_UNDO};
    /* a full disk makes SQLite undo the whole transaction by itself */
    if (store->transaction && sqlite3_get_autocommit(store->db))
        return kw__fail(err, KW_ERROR_IO, "%s: the transaction was undone by an earlier error", store->path);
    return begin(store, store->transaction ? KW__SQL_SAVE : KW__SQL_BEGIN_WRITE, ends, 4, err);
}

kw_status kw__db_end(struct kw__store *store, kw_status status, kw_error *err)
{
    if (!status) status = kw__db_do(store, store->transaction ? KW__SQL_RELEASE : KW__SQL_COMMIT, err);
    if (!status || sqlite3_get_autocommit(store->db)) return status;
    (void)kw__db_do(store, store->transaction ? KW__SQL_UNDO : KW__SQL_ROLLBACK, NULL);
    if (store->transaction) (void)kw__db_do(store, KW__SQL_RELEASE, NULL);
    return status;
}

kw_status kw__db_begin_read(struct kw__store *store, kw_error *err)
{
    static const enum kw__sql ends[] = {KW__SQL_ROLLBACK};
    return begin(store, KW__SQL_BEGIN_READ, ends, 1, err);
}

void kw__db_end_read(struct kw__store *store)
{
    (void)kw__db_do(store, KW__SQL_ROLLBACK, NULL); /* nothing was written */
}

/* ---- Opening ----------------------------------------------------------------------------------------- */

static kw_status check_file(const struct kw__store *store, kw_error *err)
{
    struct stat info;
    const char *path = store->path;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode) && store->mode == KW__STORE_WRITE) return kw__fail_write(err, path, EISDIR);
        if (!S_ISREG(info.st_mode)) return kw__fail(err, KW_ERROR_FORMAT, "%s is no regular file", path);
        return KW_OK;
    }
    int error = errno;
    if (store->mode == KW__STORE_READ)
        return error == ENOENT
                   ? kw__fail(err, KW_ERROR_NOT_FOUND, "no runs are kept yet: there is no %s", path)
                   : kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", path, strerror(error));
    if (error != ENOENT) return kw__fail_write(err, path, error);
    kw_status status = kw__folder_parents(store->path, err);
    const char *const paths[] = {path, path, path}; /* beside each other */
    const double bytes[] = {KW__STORE_NEW_BYTES, KW__STORE_NEW_BYTES, KW__STORE_NEW_BYTES};
    return status ? status : kw__pending_room(3, paths, bytes, err);
}

/* A file in a folder that can't be written has no place for the log's index, which SQLite reports in two
 * ways; when no log is there either, it is read as what does not change. `why` is SQLite's error. */
static int open_still(struct kw__store *store, int why)
{
    struct stat info;
    struct kw__out uri;
    kw__out_init(&uri);
    kw__out_printf(&uri, "%s-wal", store->path);
    if (!uri.failed && stat(uri.data, &info) == 0 && info.st_size > 0) {
        kw__out_free(&uri);
        return why;
    }
    kw__out_free(&uri);
    kw__out_puts(&uri, "file:");
    for (const char *c = store->path; *c; c++)
        kw__out_printf(&uri, strchr("%?#", *c) ? "%%%02X" : "%c", (unsigned char)*c);
    kw__out_puts(&uri, "?immutable=1");
    (void)sqlite3_close(store->db);
    store->db = NULL;
    int rc = uri.failed ? SQLITE_NOMEM
                        : sqlite3_open_v2(uri.data, &store->db,
                                          SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    kw__out_free(&uri);
    return rc;
}

void kw__store_set_wait(struct kw__store *store, double seconds)
{
    store->wait_s = seconds;
    (void)sqlite3_busy_timeout(store->db, (int)(seconds * 1000));
}

/* Another process that makes, recovers or closes the database may be in the way where SQLite does not wait
 * by itself. */
static int exec_waiting(const struct kw__store *store, const char *sql)
{
    double until_s = kw__monotonic_s() + store->wait_s;
    int rc;
    while ((rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL) & 0xFF) == SQLITE_BUSY &&
           kw__monotonic_s() < until_s)
        (void)sqlite3_sleep(RETRY_MS);
    return rc == SQLITE_OK ? SQLITE_OK : sqlite3_extended_errcode(store->db);
}

kw_status kw__db_open(struct kw__store *store, kw_error *err)
{
    kw_status status = check_file(store, err);
    if (status) return status;
    int flags =
        store->mode == KW__STORE_WRITE ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    int rc = sqlite3_open_v2(store->path, &store->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc) return store->db ? kw__db_fail(store, rc, err) : kw__fail_memory(err);
    (void)sqlite3_extended_result_codes(store->db, 1);
    kw__store_set_wait(store, 30);
    if (store->mode == KW__STORE_WRITE && sqlite3_db_readonly(store->db, "main") == 1)
        return kw__fail_write(err, store->path, EACCES);
    /* the first that reads the file */
    rc = exec_waiting(store, "PRAGMA schema_version");
    if (((rc & 0xFF) == SQLITE_CANTOPEN || (rc & 0xFF) == SQLITE_READONLY) && store->mode == KW__STORE_READ) {
        rc = open_still(store, rc);
        if (!rc) rc = exec_waiting(store, "PRAGMA schema_version");
    }
    if (!rc) rc = exec_waiting(store, "PRAGMA foreign_keys = ON");
    return rc ? kw__db_fail(store, rc, err) : KW_OK;
}

kw_status kw__db_use_log(struct kw__store *store, kw_error *err)
{
    int rc = exec_waiting(store, "PRAGMA journal_mode = WAL");
    if (!rc) rc = exec_waiting(store, "PRAGMA synchronous = FULL");
    return rc ? kw__db_fail(store, rc, err) : KW_OK;
}
