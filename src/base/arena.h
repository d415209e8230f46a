/* Arena: everything of one parsed model or one graph is allocated from it and freed at once.
 *
 * An arena allocates zeroed memory, never moves it, and remembers whether an allocation failed, so
 * that a builder can go on harmlessly and check once at its end. */
#ifndef KW_BASE_ARENA_H
#define KW_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct kw__arena_block;

struct kw__arena {
    struct kw__arena_block *blocks;
    bool failed; /* an allocation has failed since kw__arena_init */
};

void kw__arena_init(struct kw__arena *arena);
void kw__arena_free(struct kw__arena *arena);

/* Zeroed memory aligned for any type, or NULL (and `failed` is set). count * size may overflow: then
 * it is NULL too. */
void *kw__arena_alloc(struct kw__arena *arena, size_t count, size_t size);

char *kw__arena_strdup(struct kw__arena *arena, const char *text);
char *kw__arena_printf(struct kw__arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Makes room for one more element in an array of `*capacity` elements that holds `count`: doubles it
 * into new arena memory. Returns the array to use, which has the new capacity and must replace the old one
 * at once, or NULL: then the old one stands. */
void *kw__arena_grow(struct kw__arena *arena, void *array, size_t count, size_t *capacity, size_t size);

#endif
