/* What the store's files share: the open database, its statements, and what SQLite's errors mean. */
#ifndef KW_STORE_DB_H
#define KW_STORE_DB_H

#include <sqlite3.h>

#include "store/fields.h"
#include "store/store.h"

/* "KWRU": the file says whose it is. */
enum { KW__STORE_APPLICATION_ID = 0x4B575255 };

/* What a new database, its log and the log's index take at most, each, until the first run is kept. Without
 * that room none is begun, which would stay behind empty. */
enum { KW__STORE_NEW_BYTES = 192 << 10 };

/* migrations[v] makes version v + 1 of version v; an empty file has version 0. */
extern const char *const kw__store_migrations[];
extern const int kw__store_version; /* their number */

/* The prepared statements, by what they do. */
enum kw__sql {
    KW__SQL_BEGIN_READ,
    KW__SQL_BEGIN_WRITE,
    KW__SQL_COMMIT,
    KW__SQL_ROLLBACK,
    KW__SQL_SAVE,
    KW__SQL_RELEASE,
    KW__SQL_UNDO,
    KW__SQL_FIND_RUN,
    KW__SQL_FIND_REASON,
    KW__SQL_GET_REASON,
    KW__SQL_ADD_REASON,
    KW__SQL_ADD_RUN,
    KW__SQL_ADD_WINDOW,
    KW__SQL_ADD_READING,
    KW__SQL_ADD_CHANNEL,
    KW__SQL_ADD_DETAIL,
    KW__SQL_ADD_SETTING,
    KW__SQL_GET_RUN,
    KW__SQL_GET_WINDOWS,
    KW__SQL_GET_READINGS,
    KW__SQL_GET_CHANNELS,
    KW__SQL_GET_DETAILS,
    KW__SQL_GET_SETTINGS,
    KW__SQL_DELETE_RUN,
    KW__SQL_CLEAR_FINDINGS,
    KW__SQL_ADD_FINDING,
    KW__SQL_GET_FINDINGS,
    KW__SQL_ADD_SWEEP,
    KW__SQL_GET_SWEEP,
    KW__NUM_SQL
};

/* Where a statement stands that gives rows of runs. */
struct kw__rows {
    sqlite3_stmt *statement;
    enum { KW__ROWS_NONE, KW__ROWS_AT, KW__ROWS_TAKEN, KW__ROWS_OVER } state;
    int64_t run; /* AT: of the row that is next */
};

struct kw__store {
    sqlite3 *db;
    char *path;
    enum kw__store_mode mode;
    double wait_s;    /* for other writers */
    bool transaction; /* between kw__store_begin and _end */
    sqlite3_stmt *statements[KW__NUM_SQL];
    int64_t last_run; /* of a stretch that is being read; 0: runs are read one by one */
    unsigned parts;   /* of enum kw__run_parts, that are read */
    struct kw__rows rows[KW__NUM_SQL];
};

/* The error of SQLite's last failure; returns its status. */
kw_status kw__db_fail(const struct kw__store *store, int rc, kw_error *err);

/* Opens the file; nothing is asked of its content yet. */
kw_status kw__db_open(struct kw__store *store, kw_error *err);

/* The write-ahead log, each commit on the disk before it is told. */
kw_status kw__db_use_log(struct kw__store *store, kw_error *err);

/* How long a writer waits for others: 30 s unless told otherwise. */
void kw__store_set_wait(struct kw__store *store, double seconds);

/* A statement, prepared when it is first used, with nothing bound. */
kw_status kw__db_use(struct kw__store *store, enum kw__sql which, sqlite3_stmt **out, kw_error *err);
/* Runs one without parameters or rows. */
kw_status kw__db_do(struct kw__store *store, enum kw__sql which, kw_error *err);
/* Steps a statement that gives no rows to its end and resets it. */
kw_status kw__db_run(struct kw__store *store, sqlite3_stmt *statement, kw_error *err);
/* The next row; *more is false behind the last one, and the statement is reset then, as after a failure. */
kw_status kw__db_next(struct kw__store *store, sqlite3_stmt *statement, bool *more, kw_error *err);

/* The next row of a run, its first column the run's number; *more is false behind the last one. Up to
 * store->last_run the statement goes on from run to run, which are read in ascending order: to begin it anew
 * takes as long as a few rows. */
kw_status kw__db_next_of(struct kw__store *store, enum kw__sql which, int64_t run, sqlite3_stmt **out,
                         bool *more, kw_error *err);
/* Resets the statements of these rows. */
void kw__db_end_rows(struct kw__store *store);

/* A transaction, or within one of the caller's a part of it. _end commits when `status` is KW_OK, undoes
 * otherwise, and returns the first failure. */
kw_status kw__db_begin(struct kw__store *store, kw_error *err);
kw_status kw__db_end(struct kw__store *store, kw_status status, kw_error *err);

/* What is read in between is of one moment. */
kw_status kw__db_begin_read(struct kw__store *store, kw_error *err);
void kw__db_end_read(struct kw__store *store);

/* NULL is bound as NULL; the text must live until the statement has run. */
void kw__db_bind_text(sqlite3_stmt *statement, int at, const char *text);
/* NULL where there is none; copied. */
const char *kw__db_text(sqlite3_stmt *statement, int column, struct kw__arena *arena);

#endif
