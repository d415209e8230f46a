/* What `kinowatt import` reads: any bytes either fail with a message, or give runs that are kept, the same
 * when they are exported and imported again; a second import adds nothing. */
#define _GNU_SOURCE /* memfd_create */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/import.h"
#include "store/run_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kw__store *store;
static kw_catalog *catalog;
static char folder[64];

static void clean(void)
{
    char path[96];
    static const char *const ends[] = {"", "-wal", "-shm"};
    kw__store_close(store);
    kw_catalog_close(catalog);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/runs.db%s", folder, ends[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void open_all(void)
{
    char path[96];
    kw_error err;
    /* in memory, where a commit waits for no disk */
    snprintf(folder, sizeof folder, "%s/kinowatt-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/runs.db", folder);
    if (kw__store_open(path, KW__STORE_WRITE, &store, &err) || kw_catalog_open("data", &catalog, &err))
        abort();
    if (atexit(clean)) abort();
}

static void ignore(void *user, const kw_error *why)
{
    (void)user;
    if (!why->message[0] || why->message[strcspn(why->message, "\n")]) abort();
}

/* Through JSON and back, twice: the text must be the same. */
static kw_status check_run(void *user, struct kw__run *run, kw_error *err)
{
    struct kw__finding *findings;
    size_t count;
    struct kw__run *back;
    struct kw__out texts[2];
    (void)user;
    kw__out_init(&texts[0]);
    kw__out_init(&texts[1]);
    if (kw__store_get_findings(store, run->id, &run->arena, &findings, &count, err)) abort();
    kw__run_put_json(&texts[0], run, 0, findings, count);
    json_t *object = json_loads(texts[0].data, JSON_REJECT_DUPLICATES, NULL);
    if (!object || kw__run_from_json(object, &back, &findings, &count, err)) abort();
    kw__run_put_json(&texts[1], back, 0, findings, count);
    if (strcmp(texts[0].data, texts[1].data) != 0) abort();
    kw__run_free(back);
    json_decref(object);
    kw__out_free(&texts[0]);
    kw__out_free(&texts[1]);
    return kw__store_delete(store, run->id, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!store) open_all();
    char path[64];
    kw_error err = {KW_OK, ""};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size)) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const struct kw__import import = {.catalog = catalog, .store = store, .bad = ignore};
    struct kw__import_counts first, again;
    if (kw__import_file(&import, path, &first, &err) && !err.message[0]) abort();
    (void)kw__import_file(&import, path, &again, &err);
    if (again.added || again.known != first.added + first.known || again.bad != first.bad) abort();
    if (kw__store_each(store, NULL, check_run, NULL, &err)) abort();
    close(fd);
    return 0;
}
