#include "text/bpe.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "report/out.h"

/* A piece by its text; a merge by its two pieces. Open addressing, free where the text is NULL or first is
 * negative. */
struct piece {
    const char *text;
    int32_t id;
};
struct merge {
    int32_t first, second, result;
    uint32_t rank;
};

struct kw__bpe {
    struct kw__arena arena;
    struct piece *pieces;
    struct merge *merges;
    size_t piece_slots, merge_slots, size;
    int32_t begin, end;
    int32_t byte[2][256]; /* of a byte within a word, at its end; -1: there is none */
    locale_t locale;      /* 0: this system has no UTF-8 */
};

/* ---- Tables ------------------------------------------------------------------------------------ */

static size_t slots_for(size_t count)
{
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    return slots;
}

static size_t hash_text(const char *text)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

static struct piece *piece_slot(const struct kw__bpe *b, const char *text)
{
    size_t i = hash_text(text) & (b->piece_slots - 1);
    while (b->pieces[i].text && strcmp(b->pieces[i].text, text) != 0) i = (i + 1) & (b->piece_slots - 1);
    return &b->pieces[i];
}

static int32_t find_piece(const struct kw__bpe *b, const char *text)
{
    const struct piece *p = piece_slot(b, text);
    return p->text ? p->id : -1;
}

static struct merge *merge_slot(const struct kw__bpe *b, int32_t first, int32_t second)
{
    size_t i = ((uint32_t)first * 2654435761u ^ (uint32_t)second * 40503u) & (b->merge_slots - 1);
    while (b->merges[i].first >= 0 && (b->merges[i].first != first || b->merges[i].second != second))
        i = (i + 1) & (b->merge_slots - 1);
    return &b->merges[i];
}

/* ---- Reading ------------------------------------------------------------------------------------- */

static kw_status read_pieces(struct kw__bpe *b, const char *path, kw_error *err)
{
    json_t *root;
    kw_status status = kw__json_load(path, &root, err);
    if (status) return status;
    b->size = json_object_size(root);
    b->piece_slots = slots_for(b->size);
    b->pieces = kw__arena_alloc(&b->arena, b->piece_slots, sizeof *b->pieces);
    const char *text;
    json_t *id;
    json_object_foreach(root, text, id)
    {
        if (!b->pieces || status) break;
        json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || (size_t)value >= b->size) {
            status = kw__fail(err, KW_ERROR_FORMAT, "%s: \"%.40s\" must be a number from 0 to %zu", path,
                              text, b->size - 1);
            continue;
        }
        const char *copy = kw__arena_strdup(&b->arena, text);
        if (copy) *piece_slot(b, copy) = (struct piece){copy, (int32_t)value};
    }
    json_decref(root);
    if (!status && b->arena.failed) status = kw__fail_memory(err);
    if (status) return status;
    b->begin = find_piece(b, "<|startoftext|>");
    b->end = find_piece(b, "<|endoftext|>");
    if (b->begin >= 0 && b->end >= 0) return KW_OK;
    return kw__fail(err, KW_ERROR_FORMAT,
                    "%s has no <|startoftext|> or no <|endoftext|>; it is no CLIP vocabulary", path);
}

/* Bytes stand in the files as characters that can be printed: as themselves where they can, else as the
 * characters from U+0100 on, in turn. */
static void name_bytes(struct kw__bpe *b)
{
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printed = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
        unsigned code = printed ? byte : next++;
        char text[8], end[12];
        if (code < 0x80)
            snprintf(text, sizeof text, "%c", (char)code);
        else
            snprintf(text, sizeof text, "%c%c", (char)(0xC0 | code >> 6), (char)(0x80 | (code & 0x3F)));
        snprintf(end, sizeof end, "%s</w>", text);
        b->byte[0][byte] = find_piece(b, text);
        b->byte[1][byte] = find_piece(b, end);
    }
}

static kw_status add_merge(struct kw__bpe *b, const char *path, size_t line, char *text, uint32_t rank,
                           kw_error *err)
{
    char *second = strchr(text, ' ');
    char joined[512];
    int length =
        second ? snprintf(joined, sizeof joined, "%.*s%s", (int)(second - text), text, second + 1) : 0;
    if (second) *second++ = '\0';
    int32_t a = second ? find_piece(b, text) : -1, c = second ? find_piece(b, second) : -1;
    int32_t result = length > 0 && length < (int)sizeof joined ? find_piece(b, joined) : -1;
    if (a < 0 || c < 0 || result < 0)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s, line %zu: not two pieces of vocab.json that make a third; the two files do not "
                        "belong together",
                        path, line);
    struct merge *m = merge_slot(b, a, c);
    if (m->first < 0) *m = (struct merge){a, c, result, rank};
    return KW_OK;
}

static kw_status read_merges(struct kw__bpe *b, const char *path, kw_error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return kw__fail(err, errno == ENOENT ? KW_ERROR_FORMAT : KW_ERROR_IO, /* vocab.json is there */
                        "cannot read %s: %s", path, strerror(errno));
    b->merge_slots = slots_for(b->size); /* each makes a piece */
    b->merges = kw__arena_alloc(&b->arena, b->merge_slots, sizeof *b->merges);
    kw_status status = b->merges ? KW_OK : kw__fail_memory(err);
    for (size_t i = 0; !status && i < b->merge_slots; i++) b->merges[i].first = -1;
    char text[1024];
    uint32_t rank = 0;
    for (size_t line = 1; !status && fgets(text, sizeof text, file); line++) {
        text[strcspn(text, "\r\n")] = '\0';
        if (!*text || (line == 1 && strncmp(text, "#version", 8) == 0)) continue;
        if (rank >= b->size)
            status = kw__fail(err, KW_ERROR_FORMAT, "%s has more merges than vocab.json has pieces", path);
        else
            status = add_merge(b, path, line, text, rank++, err);
    }
    if (!status && ferror(file)) status = kw__fail(err, KW_ERROR_IO, "cannot read %s to its end", path);
    fclose(file);
    return status;
}

kw_status kw__bpe_open(const char *folder, struct kw__bpe **out, kw_error *err)
{
    struct kw__bpe *b = calloc(1, sizeof *b);
    if (!b) return kw__fail_memory(err);
    kw__arena_init(&b->arena);
    b->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    const char *vocab = kw__arena_printf(&b->arena, "%s/vocab.json", folder);
    const char *merges = kw__arena_printf(&b->arena, "%s/merges.txt", folder);
    kw_status status = vocab && merges ? read_pieces(b, vocab, err) : kw__fail_memory(err);
    if (!status) status = read_merges(b, merges, err);
    if (status) {
        kw__bpe_close(b);
        return status;
    }
    name_bytes(b);
    *out = b;
    return KW_OK;
}

void kw__bpe_close(struct kw__bpe *b)
{
    if (!b) return;
    if (b->locale) freelocale(b->locale);
    kw__arena_free(&b->arena);
    free(b);
}

int64_t kw__bpe_size(const struct kw__bpe *b)
{
    return (int64_t)b->size;
}

int32_t kw__bpe_begin(const struct kw__bpe *b)
{
    return b->begin;
}

int32_t kw__bpe_end(const struct kw__bpe *b)
{
    return b->end;
}

/* ---- Words ------------------------------------------------------------------------------------------ */

enum kind { SPACE, LETTER, NUMBER, OTHER };

static enum kind kind_of(const struct kw__bpe *b, uint32_t code)
{
    if (code < 0x80) {
        if (code == ' ' || (code >= '\t' && code <= '\r')) return SPACE;
        if ((code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z')) return LETTER;
        return code >= '0' && code <= '9' ? NUMBER : OTHER;
    }
    if (code == 0x85 || code == 0xA0 || code == 0x2007 || code == 0x202F)
        return SPACE; /* no-break ones too */
    if (!b->locale) return LETTER;
    if (iswspace_l((wint_t)code, b->locale)) return SPACE;
    return iswalpha_l((wint_t)code, b->locale) ? LETTER : OTHER;
}

/* Bytes of an ending that stands on its own, 0 where there is none. */
static size_t ending(const char *text)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (strncmp(text, endings[i], strlen(endings[i])) == 0) return strlen(endings[i]);
    return 0;
}

/* Bytes of the word that `text` begins with, which is no space. */
static size_t word_length(const struct kw__bpe *b, const char *text)
{
    size_t length = ending(text);
    if (length) return length;
    uint32_t code;
    length = kw__utf8_decode(text, strnlen(text, 4), &code);
    enum kind first = kind_of(b, code);
    while (first != NUMBER && text[length]) {
        size_t more = kw__utf8_decode(text + length, strnlen(text + length, 4), &code);
        if (kind_of(b, code) != first) break;
        length += more;
    }
    return length;
}

static size_t put_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char first[] = {0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(first[more] | code >> (6 * more));
    for (size_t i = 1; i <= more; i++) out[i] = (char)(0x80 | (code >> (6 * (more - i)) & 0x3F));
    return more + 1;
}

/* In lower case; it can be longer: 4 bytes for each of the text. */
static void lower(const struct kw__bpe *b, const char *text, char *out)
{
    while (*text) {
        uint32_t code;
        text += kw__utf8_decode(text, strnlen(text, 4), &code);
        if (code < 0x80)
            code = code >= 'A' && code <= 'Z' ? code + 32 : code;
        else if (b->locale)
            code = (uint32_t)towlower_l((wint_t)code, b->locale);
        out += put_utf8(code, out);
    }
    *out = '\0';
}

/* Merges pieces in place; returns how many are left. */
static size_t merge_pieces(const struct kw__bpe *b, int32_t *pieces, size_t count)
{
    for (;;) {
        const struct merge *best = NULL;
        for (size_t i = 0; i + 1 < count; i++) {
            const struct merge *m = merge_slot(b, pieces[i], pieces[i + 1]);
            if (m->first >= 0 && (!best || m->rank < best->rank)) best = m;
        }
        if (!best) return count;
        size_t kept = 0;
        for (size_t i = 0; i < count; i++, kept++) {
            bool both = i + 1 < count && pieces[i] == best->first && pieces[i + 1] == best->second;
            pieces[kept] = both ? best->result : pieces[i];
            i += both;
        }
        count = kept;
    }
}

kw_status kw__bpe_encode(const struct kw__bpe *b, const char *text, int32_t *ids, size_t room, size_t *count,
                         kw_error *err)
{
    size_t length = strlen(text);
    char *lowered = malloc(4 * length + 1);
    int32_t *pieces = malloc((4 * length + 1) * sizeof *pieces);
    *count = 0;
    if (lowered && pieces) lower(b, text, lowered);
    for (const char *at = lowered; lowered && pieces && *at;) {
        uint32_t code;
        size_t bytes = kw__utf8_decode(at, strnlen(at, 4), &code);
        if (kind_of(b, code) != SPACE) {
            bytes = word_length(b, at);
            for (size_t i = 0; i < bytes; i++) {
                int32_t piece = b->byte[i + 1 == bytes][(unsigned char)at[i]];
                pieces[i] = piece < 0 ? b->end : piece; /* what no piece has */
            }
            size_t n = merge_pieces(b, pieces, bytes);
            for (size_t i = 0; i < n; i++, (*count)++)
                if (*count < room) ids[*count] = pieces[i];
        }
        at += bytes;
    }
    bool good = lowered && pieces;
    free(lowered);
    free(pieces);
    return good ? KW_OK : kw__fail_memory(err);
}
