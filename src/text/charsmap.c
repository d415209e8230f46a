/* Checks the character map inside a spiece.model, which sentencepiece follows without looking: a
 * damaged one would lead it out of its memory.
 *
 * The model is a protocol buffer (sentencepiece_model.proto): field 3 is normalizer_spec, whose field 2
 * is precompiled_charsmap: the size of a trie in bytes (32 bits, little-endian), the trie, and the
 * texts it leads to, each with a NUL behind it. The trie is a double array of Darts-clone: from unit i
 * on, the character c leads to unit i ^ offset ^ c, in the same block of 256; a unit with a leaf has its
 * value, the place of a text, at i ^ offset. */
#include <stdbool.h>
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
    if (!read_number(in, &tag)) return false;
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

static bool map_is_sound(struct bytes map)
{
    uint32_t size;
    if (!map.left) return true; /* none */
    if (map.left < sizeof size) return false;
    memcpy(&size, map.at, sizeof size);
    const unsigned char *trie = map.at + sizeof size;
    if (size % 1024 || size == 0 || size >= map.left - sizeof size) return false;
    size_t texts = map.left - sizeof size - size;
    if (trie[size + texts - 1] != '\0') return false;
    uint32_t count = size / 4;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t unit = unit_at(trie, i);
        if (unit >> 31) continue; /* a value, at which no character arrives */
        uint32_t to = i ^ (unit >> 10) << ((unit & 1u << 9) >> 6);
        if (to >= count) return false;
        bool has_leaf = unit >> 8 & 1;
        if (has_leaf && (unit_at(trie, to) & 0x7FFFFFFFu) >= texts) return false;
    }
    return true;
}

bool kw__unigram_sound(const void *bytes, size_t size)
{
    enum { NORMALIZER = 3, CHARACTER_MAP = 2 };
    struct bytes model = {bytes, size};
    while (model.left) {
        uint64_t field;
        struct bytes spec, map;
        if (!read_field(&model, &field, &spec)) return false;
        while (field == NORMALIZER && spec.left) {
            uint64_t inner;
            if (!read_field(&spec, &inner, &map)) return false;
            if (inner == CHARACTER_MAP && !map_is_sound(map)) return false;
        }
    }
    return true;
}
