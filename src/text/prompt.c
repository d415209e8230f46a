/* Cleaning a prompt as diffusers' WanPipeline does (prompt_clean: html.unescape twice, white space,
 * strip), and from a prompt to padded ids; tokenizer.h is the manual. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "report/out.h"
#include "text/tokenizer.h"

enum { REPLACEMENT = 0xFFFD, LAST_CHARACTER = 0x10FFFF };

/* ---- Characters ------------------------------------------------------------------------------- */

static size_t put_utf8(char *out, uint32_t code)
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

/* What Python's \s matches in a str. */
static bool is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
           code == 0x202F || code == 0x205F || code == 0x3000;
}

static kw_status check_utf8(const char *what, const char *text, size_t length, kw_error *err)
{
    for (size_t i = 0; i < length;) {
        uint32_t code;
        size_t used = kw__utf8_decode(text + i, length - i, &code);
        if (code == REPLACEMENT && used == 1)
            return kw__fail(
                err, KW_ERROR_USAGE,
                "%s is not valid UTF-8: byte 0x%02X at position %zu; convert it with iconv, or set "
                "the terminal to UTF-8",
                what, (unsigned char)text[i], i);
        i += used;
    }
    return KW_OK;
}

/* ---- Character references --------------------------------------------------------------------- */

static const struct entity {
    const char *name, *text;
} entities[] = {
#define X(name, text) {name, text},
#include "text/entities.def"
#undef X
};

enum { LONGEST_NAME = 33, LONGEST_MATCH = 32 };

struct name {
    const char *at;
    size_t length;
};

static int compare_name(const void *key, const void *element)
{
    const struct name *name = key;
    const struct entity *entity = element;
    int order = strncmp(name->at, entity->name, name->length);
    return order ? order : -(entity->name[name->length] != '\0');
}

static const struct entity *find_entity(const char *at, size_t length)
{
    const struct name name = {at, length};
    return bsearch(&name, entities, sizeof entities / sizeof entities[0], sizeof entities[0], compare_name);
}

/* "&name;" and, since some names go without the semicolon, the longest of those that `at` begins with.
 * Python's pattern is [^\t\n\f <&#;]{1,32};? . Returns the bytes read after the ampersand, 0 when it
 * is no reference. */
static size_t named(const char *at, char *out, size_t *written)
{
    size_t length = 0;
    for (int characters = 0; at[length] && !strchr("\t\n\f <&#;", at[length]); characters++) {
        if (characters == LONGEST_MATCH) break;
        uint32_t code;
        length += kw__utf8_decode(at + length, strnlen(at + length, 4), &code);
    }
    if (length && at[length] == ';') length++;
    const struct entity *entity = length <= LONGEST_NAME && length ? find_entity(at, length) : NULL;
    /* names without a semicolon have two letters or more */
    for (size_t n = length < LONGEST_NAME ? length : LONGEST_NAME; !entity && n-- > 2;)
        if ((entity = find_entity(at, n))) length = n;
    if (!entity) return 0;
    *written = strlen(entity->text);
    memcpy(out, entity->text, *written);
    return length;
}

/* What Windows-1252 has at 0x80 to 0x9F; 0: the code itself. */
static const uint16_t windows_1252[32] = {0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                          0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
                                          0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                          0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

/* The character of a number, or LAST_CHARACTER + 1 for none at all. */
static uint32_t numbered(uint32_t code)
{
    if (code == 0 || (code >= 0xD800 && code <= 0xDFFF) || code > LAST_CHARACTER) return REPLACEMENT;
    if (code == 0x0D) return code;
    if (code >= 0x80 && code <= 0x9F) return windows_1252[code - 0x80] ? windows_1252[code - 0x80] : code;
    bool control = code < 0x09 || code == 0x0B || (code >= 0x0E && code < 0x20) || code == 0x7F;
    bool no_character = (code >= 0xFDD0 && code <= 0xFDEF) || (code & 0xFFFE) == 0xFFFE;
    return control || no_character ? LAST_CHARACTER + 1 : code;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return 99;
}

/* "&#65;" and "&#x41;", with the semicolon or without. `at` is at the '#'. */
static size_t number(const char *at, char *out, size_t *written)
{
    bool hex = at[1] == 'x' || at[1] == 'X';
    size_t first = hex ? 2 : 1, length = first;
    int base = hex ? 16 : 10;
    uint32_t code = 0;
    for (; digit_value(at[length]) < base; length++)
        if (code <= LAST_CHARACTER) code = code * (uint32_t)base + (uint32_t)digit_value(at[length]);
    if (length == first) return 0;
    code = numbered(code);
    *written = code > LAST_CHARACTER ? 0 : put_utf8(out, code);
    return length + (at[length] == ';');
}

/* Replaces all references once. `out` has twice the room of `text`, which always suffices. */
static void unescape(const char *text, char *out)
{
    while (*text) {
        size_t written = 0, used = 0;
        if (text[0] == '&')
            used = text[1] == '#' ? number(text + 1, out, &written) : named(text + 1, out, &written);
        if (used) {
            text += 1 + used;
            out += written;
        } else {
            *out++ = *text++;
        }
    }
    *out = '\0';
}

/* ' or " for the curved ones, as ftfy has them; 0: no such. */
static char straight_quote(uint32_t code)
{
    if (code == 0x02BC || (code >= 0x2018 && code <= 0x201B)) return '\'';
    return code >= 0x201C && code <= 0x201F ? '"' : '\0';
}

/* Runs of white space become one space, quotes straight. In place. */
static void tidy(char *text)
{
    size_t length = strlen(text), out = 0;
    bool pending = false;
    for (size_t i = 0; i < length;) {
        uint32_t code;
        size_t used = kw__utf8_decode(text + i, length - i, &code);
        if (is_space(code)) {
            pending = out > 0;
        } else {
            if (pending) text[out++] = ' ';
            pending = false;
            char quote = straight_quote(code);
            if (quote) {
                text[out++] = quote;
            } else {
                memmove(text + out, text + i, used);
                out += used;
            }
        }
        i += used;
    }
    text[out] = '\0';
}

kw_status kw__prompt_clean(const char *what, const char *prompt, char **out, kw_error *err)
{
    size_t length = strlen(prompt);
    kw_status status = check_utf8(what, prompt, length, err);
    if (status) return status;
    char *once = malloc(2 * length + 1), *twice = NULL;
    if (once) {
        unescape(prompt, once);
        twice = malloc(2 * strlen(once) + 1);
    }
    if (!twice) {
        free(once);
        return kw__fail_memory(err);
    }
    unescape(once, twice);
    free(once);
    tidy(twice);
    *out = twice;
    return KW_OK;
}

/* ---- To ids ----------------------------------------------------------------------------------- */

kw_status kw__prompt_encode(const struct kw__tokenizer *tokenizer, const char *what, const char *prompt,
                            bool clean, size_t width, int32_t *ids, size_t *count, size_t *whole,
                            char *warning, size_t n, kw_error *err)
{
    char *cleaned = NULL;
    kw_status status =
        clean ? kw__prompt_clean(what, prompt, &cleaned, err) : check_utf8(what, prompt, strlen(prompt), err);
    if (status) return status;
    status = kw__tokenizer_encode(tokenizer, clean ? cleaned : prompt, width, ids, count, whole, err);
    free(cleaned);
    if (status) return status;
    for (size_t i = *count; i < width; i++) ids[i] = kw__tokenizer_pad(tokenizer);
    if (n) warning[0] = '\0';
    if (*whole > width)
        (void)snprintf(warning, n,
                       "%s has %zu tokens and the model reads %zu: the last %zu are left out; shorten it to "
                       "say what matters first",
                       what, *whole, width, *whole - width);
    return KW_OK;
}
