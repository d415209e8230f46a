/* The store: runs are kept whole or not at all, whatever happens to the process, the disk or the file. */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/db.h"
#include "support/stores.h"

/* ---- Several processes, and the end of one --------------------------------------------------------------
 */

/* Adds runs, telling each one's id through the pipe once it is kept. Returns the number of failures. */
static int add_many(int pipe_fd, int runs)
{
    kw_error err = {0};
    struct kw__store *store;
    int failures = 0;
    if (kw__store_open(path, KW__STORE_WRITE, &store, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (int i = 0; i < runs; i++) {
        struct kw__run *run = make_run();
        if (kw__store_add(store, run, &err)) {
            fprintf(stderr, "%s\n", err.message);
            failures++;
        } else if (write(pipe_fd, &run->id, sizeof run->id) != sizeof run->id)
            failures++;
        kw__run_free(run);
    }
    kw__store_close(store);
    return failures;
}

static void writers_lose_nothing(void **state)
{
    (void)state;
    enum { WRITERS = 4, RUNS = 50 };
    /* each begins without a file */
    pid_t writers[WRITERS];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = fork();
        if (writers[i] == 0) {
            close(fds[0]);
            _exit(add_many(fds[1], RUNS));
        }
    }
    close(fds[1]);
    int64_t id, told = 0;
    while (read(fds[0], &id, sizeof id) == sizeof id) told++;
    close(fds[0]);
    for (int i = 0; i < WRITERS; i++) {
        int status;
        waitpid(writers[i], &status, 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(told, WRITERS * RUNS);
    assert_int_equal(ask("SELECT count(*) FROM runs"), WRITERS * RUNS);
    assert_int_equal(ask("SELECT count(*) FROM windows"), 4 * WRITERS * RUNS);
    assert_int_equal(ask("SELECT count(*) FROM settings"), 3 * WRITERS * RUNS);
}

/* Every run that is there has all its rows. */
static void all_are_whole(void)
{
    assert_int_equal(
        ask("SELECT count(*) FROM runs r WHERE (SELECT count(*) FROM windows WHERE run = r.id) <> 4"
            " OR (SELECT count(*) FROM readings WHERE run = r.id) <> 12"
            " OR (SELECT count(*) FROM details WHERE run = r.id) <> 3"
            " OR (SELECT count(*) FROM settings WHERE run = r.id) <> 3"),
        0);
    assert_int_equal(ask("SELECT count(*) FROM windows WHERE run NOT IN (SELECT id FROM runs)"), 0);
    assert_true(ask("SELECT integrity_check = 'ok' FROM pragma_integrity_check") == 1);
}

static void a_killed_writer_leaves_whole_runs(void **state)
{
    (void)state;
    uint32_t random = 20261124;
    for (int round = 0; round < 20; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        if (child == 0) {
            close(fds[0]);
            _exit(add_many(fds[1], 100000));
        }
        close(fds[1]);
        random = random * 1664525u + 1013904223u;
        nanosleep(&(struct timespec){0, 1000000 + (long)(random % 60000000u)}, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        int64_t id, last = 0, told = 0;
        char sql[96];
        while (read(fds[0], &id, sizeof id) == sizeof id) {
            last = id;
            told++;
        }
        close(fds[0]);
        struct kw__store *store = open_store(KW__STORE_WRITE);
        kw__store_close(store);
        all_are_whole();
        if (!told) continue;
        /* what was told is kept */
        snprintf(sql, sizeof sql, "SELECT count(*) FROM runs WHERE id <= %" PRId64 " AND id > %" PRId64, last,
                 last - told);
        assert_int_equal(ask(sql), told);
    }
    assert_true(ask("SELECT count(*) FROM runs") > 0);
}

static void a_full_disk_is_one_clear_line(void **state)
{
    (void)state;
    int fds[2];
    kw__store_close(open_store(KW__STORE_WRITE));
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {2000000, 2000000};
        kw_error err = {0};
        struct kw__store *store;
        setrlimit(RLIMIT_FSIZE, &limit);
        if (kw__store_open(path, KW__STORE_WRITE, &store, &err)) _exit(1);
        for (;;) {
            struct kw__run *run = make_run();
            kw_status status = kw__store_add(store, run, &err);
            if (status && run->id != 0) _exit(2);
            if (!status && write(fds[1], &run->id, sizeof run->id) != sizeof run->id) _exit(3);
            kw__run_free(run);
            if (!status) continue;
            kw__store_close(store);
            if (status != KW_ERROR_IO) _exit(4);
            if (!strstr(err.message, "cannot write") || !strstr(err.message, "raise the limit")) _exit(5);
            /* known before a run, not after it */
            limit.rlim_cur = 4096;
            setrlimit(RLIMIT_FSIZE, &limit);
            _exit(kw__store_open(path, KW__STORE_WRITE, &store, &err) == KW_ERROR_IO ? 0 : 6);
        }
    }
    close(fds[1]);
    int64_t id, told = 0;
    int status;
    while (read(fds[0], &id, sizeof id) == sizeof id) told++;
    close(fds[0]);
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_true(told > 10);
    struct kw__store *store = open_store(KW__STORE_WRITE);
    kw__store_close(store);
    assert_int_equal(ask("SELECT count(*) FROM runs"), told);
    all_are_whole();
}

static double bytes_of(const char *ending)
{
    char file[1024];
    struct stat info;
    snprintf(file, sizeof file, "%s%s", path, ending);
    return stat(file, &info) == 0 ? (double)info.st_size : 0;
}

/* Where a new database has no room none is begun: an empty one would stay. The room is what it takes. */
static void a_full_disk_gets_no_database(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {50000, 50000};
        kw_error err = {0};
        struct kw__store *store;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        if (kw__store_open(path, KW__STORE_WRITE, &store, &err) != KW_ERROR_IO) _exit(1);
        _exit(strstr(err.message, "192.00 KiB") && strstr(err.message, "48.83 KiB") ? 0 : 2);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(access(path, F_OK), -1);
    struct kw__store *store = open_store(KW__STORE_WRITE);
    struct kw__run *run = make_run();
    assert_int_equal(kw__store_add(store, run, NULL), KW_OK);
    double log = bytes_of("-wal"), index = bytes_of("-shm");
    kw__run_free(run);
    kw__store_close(store);
    assert_true(log > 0 && log <= KW__STORE_NEW_BYTES && index > 0 && index <= KW__STORE_NEW_BYTES);
    assert_true(bytes_of("") <= KW__STORE_NEW_BYTES);
}

static void says_who_is_in_the_way(void **state)
{
    (void)state;
    kw__store_close(open_store(KW__STORE_WRITE));
    int ready[2];
    char byte, wanted[32];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *db;
        if (sqlite3_open(path, &db) || sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL)) _exit(1);
        if (write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    kw_error err = {0};
    sqlite3 *reader;
    assert_int_equal(sqlite3_open(path, &reader), SQLITE_OK);
    struct kw__store store = {.path = path, .mode = KW__STORE_WRITE};
    assert_int_equal(kw__db_open(&store, &err), KW_OK);
    kw__store_set_wait(&store, 0.2);
    struct kw__run *run = make_run();
    assert_int_equal(kw__store_add(&store, run, &err), KW_ERROR_IO);
    snprintf(wanted, sizeof wanted, "in use by process %ld", (long)child);
    if (access("/proc/locks", R_OK) == 0 && !strstr(err.message, wanted)) fail_msg("%s", err.message);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(kw__store_add(&store, run, &err), KW_OK);
    kw__run_free(run);
    for (int i = 0; i < KW__NUM_SQL; i++) sqlite3_finalize(store.statements[i]);
    sqlite3_close(store.db);
    sqlite3_close(reader);
    close(ready[0]);
    close(ready[1]);
}

/* ---- Files that are not ours, not whole or not writable --------------------------------------------------
 */

static char *slurp(size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *bytes = malloc(1 << 22);
    *size = fread(bytes, 1, 1 << 22, file);
    fclose(file);
    return bytes;
}

static void expect_refused(enum kw__store_mode mode, kw_status wanted, const char *words)
{
    kw_error err = {0};
    struct kw__store *store = NULL;
    kw_status status = kw__store_open(path, mode, &store, &err);
    if (status != wanted || !strstr(err.message, words) || strchr(err.message, '\n'))
        fail_msg("%d instead of %d: %s", status, wanted, err.message);
    assert_null(store);
}

/* Refused in both modes, and left as it is. */
static void expect_untouched(kw_status wanted, const char *words)
{
    size_t before_size, after_size;
    char *before = slurp(&before_size);
    expect_refused(KW__STORE_READ, wanted, words);
    expect_refused(KW__STORE_WRITE, wanted, words);
    char *after = slurp(&after_size);
    assert_int_equal(before_size, after_size);
    assert_memory_equal(before, after, before_size);
    free(before);
    free(after);
}

static void foreign_files_are_left_alone(void **state)
{
    (void)state;
    folder_write(folder, "runs.db", "id,model\n1,wan\n and some more text to be no empty file at all\n");
    expect_untouched(KW_ERROR_FORMAT, "is no database");
    unlink(path);
    execute("CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('x')");
    expect_untouched(KW_ERROR_FORMAT, "another program's database");
}

static void a_newer_version_is_left_alone(void **state)
{
    (void)state;
    kw__store_close(open_store(KW__STORE_WRITE));
    execute("PRAGMA user_version = 99");
    expect_untouched(KW_ERROR_UNSUPPORTED, "newer kinowatt");
}

static kw_status look(void *user, struct kw__run *run, kw_error *err)
{
    (void)user;
    (void)err;
    assert_int_equal(run->num_windows, 4);
    return KW_OK;
}

static void a_damaged_file_is_one_clear_line(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__store *store = open_store(KW__STORE_WRITE);
    for (int i = 0; i < 50; i++) {
        struct kw__run *run = make_run();
        assert_int_equal(kw__store_add(store, run, &err), KW_OK);
        kw__run_free(run);
    }
    kw__store_close(store);
    /* pages of text in the middle, then a truncated file */
    FILE *file = fopen(path, "r+b");
    char junk[4096];
    memset(junk, 'x', sizeof junk);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    for (long at = 4 * 4096; at < size - 4096; at += 2 * 4096) {
        fseek(file, at, SEEK_SET);
        fwrite(junk, 1, sizeof junk, file);
    }
    fclose(file);
    for (int round = 0; round < 2; round++) {
        kw_status status = kw__store_open(path, KW__STORE_READ, &store, &err);
        if (!status) {
            status = kw__store_each(store, NULL, look, NULL, &err);
            kw__store_close(store);
        }
        assert_int_equal(status, KW_ERROR_FORMAT);
        assert_non_null(strstr(err.message, "damaged"));
        assert_int_equal(truncate(path, size / 2 / 4096 * 4096 + 100), 0);
    }
}

static void a_missing_file_is_made_or_said(void **state)
{
    (void)state;
    expect_refused(KW__STORE_READ, KW_ERROR_NOT_FOUND, "no runs are kept yet");
    folder_write(folder, "runs.db", "");
    expect_refused(KW__STORE_READ, KW_ERROR_NOT_FOUND, "is empty");
    unlink(path);
    snprintf(path, sizeof path, "%s/a/b?#%%/runs.db", folder);
    kw__store_close(open_store(KW__STORE_WRITE));
    kw__store_close(open_store(KW__STORE_READ));
    snprintf(path, sizeof path, "%s", folder);
    expect_refused(KW__STORE_WRITE, KW_ERROR_IO, "name a file in that folder");
    expect_refused(KW__STORE_READ, KW_ERROR_FORMAT, "no regular file");
    snprintf(path, sizeof path, "/dev/null");
    expect_refused(KW__STORE_WRITE, KW_ERROR_FORMAT, "no regular file");
    snprintf(path, sizeof path, "%s/a/b?#%%/runs.db/c", folder);
    expect_refused(KW__STORE_WRITE, KW_ERROR_IO, "cannot write");
}

/* As a user who may read but not write: root may everything. */
static void what_cant_be_written_can_be_read(void **state)
{
    (void)state;
    kw_error err = {0};
    struct kw__store *store = open_store(KW__STORE_WRITE);
    struct kw__run *run = make_run();
    assert_int_equal(kw__store_add(store, run, &err), KW_OK);
    kw__run_free(run);
    kw__store_close(store);
    for (int round = 0; round < 2; round++) {
        /* first the file, then also the folder */
        chmod(path, 0444);
        chmod(folder, round ? 0555 : 0777);
        pid_t child = fork();
        if (child == 0) {
            if (getuid() == 0 && setuid(65534)) _exit(1);
            if (kw__store_open(path, KW__STORE_WRITE, &store, &err) != KW_ERROR_IO) _exit(2);
            if (!strstr(err.message, "cannot write") || !strstr(err.message, "Permission denied")) _exit(3);
            if (kw__store_open(path, KW__STORE_READ, &store, &err)) _exit(4);
            if (kw__store_get(store, 1, &run, &err)) _exit(5);
            if (kw__store_delete(store, 1, &err) != KW_ERROR_IO) _exit(6);
            kw__run_free(run);
            kw__store_close(store);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        if (status)
            fail_msg("round %d: %s %d", round, WIFSIGNALED(status) ? "signal" : "exit",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    chmod(folder, 0777);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(writers_lose_nothing),           IN_FOLDER(a_killed_writer_leaves_whole_runs),
        IN_FOLDER(a_full_disk_is_one_clear_line),  IN_FOLDER(a_full_disk_gets_no_database),
        IN_FOLDER(says_who_is_in_the_way),         IN_FOLDER(foreign_files_are_left_alone),
        IN_FOLDER(a_newer_version_is_left_alone),  IN_FOLDER(a_damaged_file_is_one_clear_line),
        IN_FOLDER(a_missing_file_is_made_or_said), IN_FOLDER(what_cant_be_written_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
