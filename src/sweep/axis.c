/* Axes: lists and ranges of values; plan.h is the manual. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "sweep/plan.h"

enum { MOST_VALUES = 10000, LONGEST_VALUE = 4096 };

const struct kw__axis_info kw__axes[KW__NUM_AXES] = {
    {"size", "size", 0, KW__AXIS_SIZE, "LIST", "frame sizes: 832x480,1280x720"},
    {"width", "width", 'W', KW__AXIS_COUNT, "LIST", "frame widths"},
    {"height", "height", 'H', KW__AXIS_COUNT, "LIST", "frame heights"},
    {"num_frames", "num-frames", 'f', KW__AXIS_COUNT, "LIST", "frames of the clip: 17:81:16"},
    {"steps", "num-inference-steps", 's', KW__AXIS_COUNT, "LIST", "denoising steps: 4,20,50; also --steps"},
    {"guidance_scale", "guidance-scale", 'g', KW__AXIS_AMOUNT, "LIST", "1 or less runs one pass a step"},
    {"fps", "fps", 0, KW__AXIS_ABOVE, "LIST", "frames per second of video"},
    {"flow_shift", "flow-shift", 0, KW__AXIS_ABOVE, "LIST", "the scheduler's shift"},
    {"batch_size", "batch-size", 0, KW__AXIS_COUNT, "LIST", "clips made at once"},
    {"prompt_tokens", "prompt-tokens", 0, KW__AXIS_COUNT, "LIST", "tokens of the prompt"},
    {"negative_tokens", "negative-tokens", 0, KW__AXIS_COUNT, "LIST", "tokens of the negative prompt"},
    {"seed", "seed", 0, KW__AXIS_SEED, "LIST", "of the noise; 0 unless given"},
};

/* A list on its way into an axis. */
struct list {
    struct kw__arena *arena;
    const char *option;
    enum kw__axis_kind kind;
    struct kw__axis *axis;
    size_t room;
};

static const char *wanted(enum kw__axis_kind kind)
{
    switch (kind) {
    case KW__AXIS_COUNT: return "whole numbers of at least 1, like 17,33 or 17:81:16 (from, to and step)";
    case KW__AXIS_ABOVE: return "numbers greater than 0, like 3,5 or 3:9:0.5 (from, to and step)";
    case KW__AXIS_AMOUNT: return "numbers of at least 0, like 1,5 or 1:7:2 (from, to and step)";
    case KW__AXIS_SEED: return "whole numbers from 0 to 2^64 - 1, like 0,1,2 or 0:9:1";
    case KW__AXIS_SIZE: return "sizes like 832x480,1280x720 (width and height)";
    case KW__AXIS_TEXT: break;
    }
    return "values between commas, none of them empty";
}

static kw_status not_valid(const struct list *list, const char *text, kw_error *err)
{
    return kw__fail(err, KW_ERROR_USAGE, "--%s: '%.80s' is not valid; give %s", list->option, text,
                    wanted(list->kind));
}

static kw_status append(struct list *list, const char *text, kw_error *err)
{
    struct kw__axis *axis = list->axis;
    for (size_t i = 0; i < axis->count; i++)
        if (strcmp(axis->values[i], text) == 0)
            return kw__fail(err, KW_ERROR_USAGE, "--%s has the value %.80s twice; give each once",
                            list->option, text);
    if (axis->count == MOST_VALUES)
        return kw__fail(err, KW_ERROR_USAGE, "--%s has more than %d values; give fewer", list->option,
                        MOST_VALUES);
    const char **values = kw__arena_grow(list->arena, axis->values, axis->count, &list->room, sizeof *values);
    if (values) axis->values = values;
    const char *copy = values ? kw__arena_strdup(list->arena, text) : NULL;
    if (!copy) return kw__fail_memory(err);
    axis->values[axis->count++] = copy;
    return KW_OK;
}

/* ---- Numbers --------------------------------------------------------------------------------------- */

static bool is_whole(enum kw__axis_kind kind)
{
    return kind == KW__AXIS_COUNT || kind == KW__AXIS_SEED;
}

static bool read_whole(enum kw__axis_kind kind, const char *text, uint64_t *out)
{
    if (!*text || strspn(text, "0123456789") != strlen(text)) return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    *out = value;
    return !errno && (kind == KW__AXIS_SEED || (value >= 1 && value <= INT64_MAX));
}

static bool read_number(enum kw__axis_kind kind, const char *text, double *out)
{
    if (!kw__number_parse(text, out) || !isfinite(*out)) return false;
    return kind == KW__AXIS_TEXT || *out > 0 || (kind == KW__AXIS_AMOUNT && *out == 0);
}

static kw_status append_whole(struct list *list, uint64_t value, kw_error *err)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return append(list, text, err);
}

static kw_status append_number(struct list *list, double value, kw_error *err)
{
    char text[32];
    kw__number_format(text, sizeof text, "%.12g", value);
    return append(list, text, err);
}

/* ---- Items ------------------------------------------------------------------------------------------ */

/* "a:b:c" into its parts, which must be three and short. */
static bool split_range(char *text, char *parts[3])
{
    for (int i = 0; i < 3; i++) {
        char *colon = strchr(text, ':');
        if ((i < 2) != (colon != NULL)) return false;
        parts[i] = text;
        if (!colon) return true;
        *colon = '\0';
        text = colon + 1;
    }
    return false;
}

static kw_status bad_range(const struct list *list, const char *item, kw_error *err)
{
    return kw__fail(err, KW_ERROR_USAGE,
                    "--%s: the range %.80s ends before it begins, or does not move; give "
                    "from, to and step",
                    list->option, item);
}

static kw_status add_whole_range(struct list *list, char *const parts[3], const char *item, kw_error *err)
{
    uint64_t from, to, step;
    if (!read_whole(list->kind, parts[0], &from) || !read_whole(list->kind, parts[1], &to) ||
        !read_whole(KW__AXIS_SEED, parts[2], &step))
        return not_valid(list, item, err);
    if (from > to || step == 0) return bad_range(list, item, err);
    kw_status status = KW_OK;
    for (uint64_t value = from; !status; value += step) {
        status = append_whole(list, value, err);
        if (to - value < step) break;
    }
    return status;
}

static kw_status add_number_range(struct list *list, char *const parts[3], const char *item, kw_error *err)
{
    double from, to, step;
    if (!read_number(list->kind, parts[0], &from) || !read_number(list->kind, parts[1], &to) ||
        !read_number(KW__AXIS_TEXT, parts[2], &step)) {
        return list->kind == KW__AXIS_TEXT ? append(list, item, err) : not_valid(list, item, err);
    }
    if (from > to || !(step > 0)) return bad_range(list, item, err);
    double count = floor((to - from) / step * (1 + 1e-12) + 1e-9); /* steps after the first value */
    kw_status status = KW_OK;
    for (double i = 0; !status && i <= count; i++) status = append_number(list, from + i * step, err);
    return status;
}

static kw_status add_size(struct list *list, const char *item, kw_error *err)
{
    uint64_t width, height;
    char left[32], text[64];
    const char *x = strchr(item, 'x');
    if (!x || x - item >= (ptrdiff_t)sizeof left) return not_valid(list, item, err);
    snprintf(left, sizeof left, "%.*s", (int)(x - item), item);
    if (!read_whole(KW__AXIS_COUNT, left, &width) || !read_whole(KW__AXIS_COUNT, x + 1, &height))
        return not_valid(list, item, err);
    snprintf(text, sizeof text, "%" PRIu64 "x%" PRIu64, width, height);
    return append(list, text, err);
}

static kw_status add_item(struct list *list, const char *item, kw_error *err)
{
    char text[LONGEST_VALUE], *parts[3];
    uint64_t whole;
    double number;
    if (!*item) return not_valid(list, item, err);
    if (list->kind == KW__AXIS_SIZE) return add_size(list, item, err);
    snprintf(text, sizeof text, "%s", item);
    if (split_range(text, parts))
        return is_whole(list->kind) ? add_whole_range(list, parts, item, err)
                                    : add_number_range(list, parts, item, err);
    if (list->kind == KW__AXIS_TEXT) return append(list, item, err);
    if (is_whole(list->kind))
        return read_whole(list->kind, item, &whole) ? append_whole(list, whole, err)
                                                    : not_valid(list, item, err);
    return read_number(list->kind, item, &number) ? append_number(list, number, err)
                                                  : not_valid(list, item, err);
}

kw_status kw__axis_parse(struct kw__arena *arena, const char *option, enum kw__axis_kind kind,
                         const char *text, struct kw__axis *out, kw_error *err)
{
    struct list list = {arena, option, kind, out, 0};
    kw_status status = KW_OK;
    for (const char *at = text; !status; at++) {
        size_t length = strcspn(at, ",");
        char item[LONGEST_VALUE];
        if (length >= sizeof item)
            return kw__fail(err, KW_ERROR_USAGE,
                            "--%s has a value longer than %d characters; give shorter ones", option,
                            LONGEST_VALUE - 1);
        memcpy(item, at, length);
        item[length] = '\0';
        status = add_item(&list, item, err);
        at += length;
        if (!*at) break;
    }
    return status;
}
