#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef KW__ARENA_BLOCK_BYTES /* tests make every allocation a block of its own */
#define KW__ARENA_BLOCK_BYTES (1 << 16)
#endif
enum { BLOCK_BYTES = KW__ARENA_BLOCK_BYTES };

struct kw__arena_block {
    struct kw__arena_block *next;
    size_t used, size;
    max_align_t data[];
};

void kw__arena_init(struct kw__arena *arena)
{
    *arena = (struct kw__arena){NULL, false};
}

void kw__arena_free(struct kw__arena *arena)
{
    struct kw__arena_block *block = arena->blocks;
    while (block) {
        struct kw__arena_block *next = block->next;
        free(block);
        block = next;
    }
    kw__arena_init(arena);
}

static struct kw__arena_block *add_block(struct kw__arena *arena, size_t bytes)
{
    size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    struct kw__arena_block *block = malloc(sizeof *block + size);
    if (!block) return NULL;
    *block = (struct kw__arena_block){arena->blocks, 0, size};
    arena->blocks = block;
    return block;
}

void *kw__arena_alloc(struct kw__arena *arena, size_t count, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    if (size && count > (SIZE_MAX / 2) / size) {
        arena->failed = true;
        return NULL;
    }
    size_t bytes = (count * size + align - 1) / align * align;
    struct kw__arena_block *block = arena->blocks;
    if (!block || block->size - block->used < bytes) block = add_block(arena, bytes);
    if (!block) {
        arena->failed = true;
        return NULL;
    }
    void *memory = (char *)block->data + block->used;
    block->used += bytes;
    return memset(memory, 0, bytes);
}

char *kw__arena_strdup(struct kw__arena *arena, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = kw__arena_alloc(arena, bytes, 1);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

char *kw__arena_printf(struct kw__arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : kw__arena_alloc(arena, (size_t)length + 1, 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void *kw__arena_grow(struct kw__arena *arena, void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) return array;
    size_t wanted = *capacity ? 2 * *capacity : 16;
    void *bigger = kw__arena_alloc(arena, wanted, size);
    if (!bigger) return NULL;
    if (count) memcpy(bigger, array, count * size);
    *capacity = wanted;
    return bigger;
}
