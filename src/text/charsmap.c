/* Checks the character map inside a spiece.model, which sentencepiece follows without looking: a
 * damaged one would lead it out of its memory.
 *
 * The model is a protocol buffer (sentencepiece_model.proto): field 3 is normalizer_spec, whose field 2
 * is precompiled_charsmap: the size of a trie in bytes (32 bits, little-endian), the trie, and the
 * texts it leads to, each with a NUL behind it. The trie is a double array of Darts-clone: from unit i
 * on, the character c leads to unit i ^ offset ^ c, in the same block of 256, if that has c for its label; a
 * unit with a leaf has its value, the place of a text, at i ^ offset. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "text/unigram.h"

struct bytes {
    const unsigned char *at;
    size_t left;
};

/* A base-128 number; false when it does not end. */
static bool read_number(struct bytes *in, uint64_t *out)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && in->left; shift += 7) {
        unsigned char byte = *in->at++;
        in->left--;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* The next field; `content` is empty unless it has a length. False at a damaged one. */
static bool read_field(struct bytes *in, uint64_t *field, struct bytes *content)
{
    uint64_t tag, length = 0;
    if (!read_number(in, &tag) || tag > UINT32_MAX) return false; /* the library would cut it off */
    *field = tag >> 3;
    *content = (struct bytes){in->at, 0};
    switch (tag & 7) {
    case 0: return read_number(in, &length);
    case 1: length = 8; break;
    case 5: length = 4; break;
    case 2:
        if (!read_number(in, &length) || length > in->left) return false;
        *content = (struct bytes){in->at, (size_t)length};
        break;
    default: return false;
    }
    if (length > in->left) return false;
    in->at += length;
    in->left -= (size_t)length;
    return true;
}

static uint32_t unit_at(const unsigned char *trie, uint32_t i)
{
    uint32_t unit;
    memcpy(&unit, trie + 4 * (size_t)i, sizeof unit);
    return unit;
}

static uint32_t children_of(uint32_t i, uint32_t unit)
{
    return i ^ (unit >> 10) << ((unit & 1u << 9) >> 6);
}

static bool has_leaf(uint32_t unit)
{
    return unit >> 8 & 1;
}

/* Whether no text goes through more leaves than the library has room for; it counts on without looking. A
 * unit is taken up again when a way with more leaves reaches it, so a damaged trie may have circles. */
static enum kw__unigram_result leaves_fit(const unsigned char *trie, uint32_t count)
{
    enum { ROOM = 32, WAITS = 0x80 }; /* kMaxTrieResultsSize in sentencepiece's normalizer.h */
    uint32_t *waiting = malloc(count * sizeof *waiting), left = 0;
    uint8_t *most = calloc(count, 1); /* 1 + leaves on the way to a unit; 0: not reached */
    enum kw__unigram_result result = waiting && most ? KW__UNIGRAM_OK : KW__UNIGRAM_NO_MEMORY;
    if (!result) {
        waiting[left++] = 0;
        most[0] = 1 | WAITS;
    }
    while (!result && left) {
        uint32_t i = waiting[--left];
        uint32_t children = children_of(i, unit_at(trie, i));
        most[i] &= (uint8_t)~WAITS;
        for (uint32_t c = 0; c < 256; c++) {
            uint32_t child = children ^ c, unit = unit_at(trie, child);
            uint8_t leaves = (uint8_t)(most[i] + has_leaf(unit));
            if ((unit & 0x800000FFu) != c || leaves <= (most[child] & (uint8_t)~WAITS)) continue;
            if (leaves > 1 + ROOM) result = KW__UNIGRAM_NO_MODEL;
            if (!(most[child] & WAITS)) waiting[left++] = child;
            most[child] = leaves | WAITS;
        }
    }
    free(waiting);
    free(most);
    return result;
}

static enum kw__unigram_result check_map(struct bytes map)
{
    uint32_t size;
    if (!map.left) return KW__UNIGRAM_OK; /* none */
    if (map.left < sizeof size) return KW__UNIGRAM_NO_MODEL;
    memcpy(&size, map.at, sizeof size);
    const unsigned char *trie = map.at + sizeof size;
    if (size % 1024 || size == 0 || size >= map.left - sizeof size) return KW__UNIGRAM_NO_MODEL;
    size_t texts = map.left - sizeof size - size;
    if (trie[size + texts - 1] != '\0') return KW__UNIGRAM_NO_MODEL;
    uint32_t count = size / 4;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t unit = unit_at(trie, i);
        if (i && unit >> 31)
            continue; /* a value, at which no character arrives; the root's label is not read */
        uint32_t children = children_of(i, unit);
        if (children >= count) return KW__UNIGRAM_NO_MODEL;
        if (has_leaf(unit) && (unit_at(trie, children) & 0x7FFFFFFFu) >= texts) return KW__UNIGRAM_NO_MODEL;
    }
    return leaves_fit(trie, count);
}

enum kw__unigram_result kw__unigram_check(const void *bytes, size_t size)
{
    enum { NORMALIZER = 3, CHARACTER_MAP = 2 };
    struct bytes model = {bytes, size};
    enum kw__unigram_result result = KW__UNIGRAM_OK;
    while (!result && model.left) {
        uint64_t field;
        struct bytes spec, map;
        if (!read_field(&model, &field, &spec)) return KW__UNIGRAM_NO_MODEL;
        while (!result && field == NORMALIZER && spec.left) {
            uint64_t inner;
            if (!read_field(&spec, &inner, &map)) return KW__UNIGRAM_NO_MODEL;
            if (inner == CHARACTER_MAP) result = check_map(map);
        }
    }
    return result;
}
