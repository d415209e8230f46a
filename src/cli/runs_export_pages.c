/*
 * The runs of an export, a page at a time, in order. Reading them from the database and making their text
 * keeps a processor busy that a disk could outrun, so several threads do it, each with its own connection to
 * the store; the main thread says which runs, and writes the pages in their order. One page alone, or where
 * no thread can be had, is read by the main thread.
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/runs_export.h"

/* Four outrun a disk; a page waits for each thread while it works on another. */
enum { MOST_THREADS = 4, PAGES = 2 * MOST_THREADS };

struct page {
    int64_t ids[KW__STORE_PAGE];
    int count;
    bool done;
    struct kw__export part; /* its text, its number of runs and what is left out of it */
    kw_status status;
    kw_error err;
};

struct crew {
    struct kw__export *whole;
    struct page *pages; /* page i is pages[i % PAGES] */
    size_t given, taken, written;
    bool over;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t threads[MOST_THREADS];
    int num_threads; /* -1: none was asked for yet */
};

static void read_page(struct page *page, struct kw__store *store)
{
    page->part.store = store;
    page->status = kw__store_read(store, page->ids, page->count, page->part.parts, kw__export_run,
                                  &page->part, &page->err);
}

static void *work(void *user)
{
    struct crew *crew = user;
    struct kw__store *store = NULL;
    pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (crew->taken == crew->given && !crew->over) pthread_cond_wait(&crew->changed, &crew->lock);
        if (crew->over) break;
        struct page *page = &crew->pages[crew->taken++ % PAGES];
        pthread_mutex_unlock(&crew->lock);
        if (!store)
            page->status =
                kw__store_open(kw__store_name(crew->whole->store), KW__STORE_READ, &store, &page->err);
        if (!page->status) read_page(page, store);
        pthread_mutex_lock(&crew->lock);
        page->done = true;
        pthread_cond_broadcast(&crew->changed);
    }
    pthread_mutex_unlock(&crew->lock);
    kw__store_close(store);
    return NULL;
}

static void start(struct crew *crew)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    crew->num_threads = 0;
    while (cores > 1 && crew->num_threads < MOST_THREADS && crew->num_threads < cores &&
           pthread_create(&crew->threads[crew->num_threads], NULL, work, crew) == 0)
        crew->num_threads++;
}

/* The oldest page, once it is done. */
static kw_status write_oldest(struct crew *crew, kw_error *err)
{
    struct kw__export *e = crew->whole;
    struct page *page = &crew->pages[crew->written % PAGES];
    struct kw__export *part = &page->part;
    pthread_mutex_lock(&crew->lock);
    while (!page->done) pthread_cond_wait(&crew->changed, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
    crew->written++;
    if (page->status) {
        *err = page->err;
        return page->status;
    }
    for (size_t i = 0; i < part->left_out.count; i++)
        for (int k = 0; k < part->left_out.list[i].count; k++)
            kw__leave_out(&e->left_out, &e->arena, part->left_out.list[i].why);
    kw__arena_free(&part->arena);
    if (part->runs && e->runs) kw__out_puts(&e->out, e->between);
    e->runs += part->runs;
    kw_status status = kw__export_flush(e, &e->out, err);
    if (!status) status = kw__export_flush(e, &part->out, err);
    return e->arena.failed && !status ? kw__fail_memory(err) : status;
}

/* The text's memory is used again. */
static void prepare(struct crew *crew, struct page *page, const int64_t *ids, int count)
{
    const struct kw__export *e = crew->whole;
    struct kw__out out = page->part.out;
    memcpy(page->ids, ids, (size_t)count * sizeof *ids);
    page->count = count;
    page->done = false;
    page->status = KW_OK;
    page->part = (struct kw__export){.settings = e->settings,
                                     .plain_only = e->plain_only,
                                     .parts = e->parts,
                                     .between = e->between,
                                     .put = e->put,
                                     .out = out};
    page->part.out.len = 0;
}

static kw_status give(void *user, const int64_t *ids, int count, kw_error *err)
{
    struct crew *crew = user;
    kw_status status = crew->given - crew->written == PAGES ? write_oldest(crew, err) : KW_OK;
    if (status) return status;
    if (crew->num_threads < 0 && count == KW__STORE_PAGE) start(crew);
    struct page *page = &crew->pages[crew->given % PAGES];
    prepare(crew, page, ids, count);
    if (crew->num_threads > 0) {
        pthread_mutex_lock(&crew->lock);
        crew->given++;
        pthread_cond_broadcast(&crew->changed);
        pthread_mutex_unlock(&crew->lock);
        return KW_OK;
    }
    crew->given++;
    read_page(page, crew->whole->store);
    page->done = true;
    return write_oldest(crew, err);
}

static void stop(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->over = true;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
    for (int i = 0; i < crew->num_threads; i++) pthread_join(crew->threads[i], NULL);
    for (size_t i = 0; i < PAGES; i++) {
        kw__out_free(&crew->pages[i].part.out);
        kw__arena_free(&crew->pages[i].part.arena);
    }
}

kw_status kw__export_pages(struct kw__export *export, kw_error *err)
{
    struct crew crew = {.whole = export, .num_threads = -1};
    struct kw__arena arena;
    kw__arena_init(&arena);
    crew.pages = kw__arena_alloc(&arena, PAGES, sizeof *crew.pages);
    if (!crew.pages) return kw__fail_memory(err);
    (void)pthread_mutex_init(&crew.lock, NULL); /* on Linux they can't fail without attributes */
    (void)pthread_cond_init(&crew.changed, NULL);
    kw_status status = kw__store_each_page(export->store, &export->settings->filter, give, &crew, err);
    while (!status && crew.written < crew.given) status = write_oldest(&crew, err);
    stop(&crew);
    pthread_cond_destroy(&crew.changed);
    pthread_mutex_destroy(&crew.lock);
    kw__arena_free(&arena);
    return status;
}
