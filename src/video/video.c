/* Clips: choosing the format, checking, and RGB to Y'CbCr; video.h is the manual. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "video/format.h"

static const struct kw__video_format *const formats[] = {&kw__mp4_format, &kw__y4m_format};
enum { NUM_FORMATS = sizeof formats / sizeof formats[0], LARGEST_SIDE = 16384 };

static const struct kw__video_format *find_format(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = strlen(slash ? slash + 1 : path);
    for (int i = 0; i < NUM_FORMATS; i++) {
        size_t ending = strlen(formats[i]->ending);
        if (length > ending && strcmp(path + strlen(path) - ending, formats[i]->ending) == 0)
            return formats[i];
    }
    /* a device or a pipe has no ending, and .y4m can be written to it */
    return strncmp(path, "/dev/", 5) == 0 ? &kw__y4m_format : NULL;
}

/* 16 is 16/1, 23.976 is 24000/1001, 12.5 is 12500/1000. */
static void rate_of(double fps, int rate[2])
{
    double film = round(fps * 1.001);
    rate[0] = (int)round(fps);
    rate[1] = 1;
    if (fabs(fps - rate[0]) < 1e-6) return;
    bool is_film = fabs(fps - film / 1.001) < 1e-3;
    rate[0] = is_film ? (int)film * 1000 : (int)fmax(1, round(fps * 1000));
    rate[1] = is_film ? 1001 : 1000;
}

static kw_status check_settings(const char *path, const struct kw__video_settings *s,
                                const struct kw__video_format **format, kw_error *err)
{
    if (s->width < 2 || s->height < 2 || s->width > LARGEST_SIDE || s->height > LARGEST_SIDE ||
        s->width % 2 || s->height % 2)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "a video of %" PRId64 "x%" PRId64
                        " pixels cannot be written: sides must be even, up to %d",
                        s->width, s->height, LARGEST_SIDE);
    if (!(s->fps >= 0.001 && s->fps <= 10000))
        return kw__fail(err, KW_ERROR_USAGE, "fps %g is out of range; give 0.001 to 10000", s->fps);
    *format = find_format(path);
    if (!*format)
        return kw__fail(err, KW_ERROR_USAGE, "%s: the ending of the name is the format; give .mp4 or .y4m",
                        path);
    struct stat info;
    if ((*format)->seeks && stat(path, &info) == 0 && S_ISFIFO(info.st_mode))
        return kw__fail(err, KW_ERROR_USAGE, "%s: a pipe takes no %s; write .y4m to it, or to a file", path,
                        (*format)->ending);
    return (*format)->ready(err);
}

kw_status kw__video_check(const char *path, const struct kw__video_settings *settings, kw_error *err)
{
    const struct kw__video_format *format;
    kw_status status = check_settings(path, settings, &format, err);
    return status ? status : kw__pending_check(path, err);
}

double kw__video_least_bytes(const char *path, const struct kw__video_settings *settings, int64_t frames)
{
    int rate[2];
    rate_of(settings->fps, rate);
    return find_format(path)->least_bytes((int)settings->width, (int)settings->height, rate, frames);
}

static void release(struct kw__video *video)
{
    video->format->release(video);
    free(video->plane[0]);
    free(video);
}

kw_status kw__video_open(const char *path, const struct kw__video_settings *settings, struct kw__video **out,
                         kw_error *err)
{
    const struct kw__video_format *format;
    kw_status status = check_settings(path, settings, &format, err);
    if (status) return status;
    struct kw__video *video = calloc(1, sizeof *video);
    size_t luma = (size_t)settings->width * (size_t)settings->height;
    uint8_t *planes = malloc(luma + luma / 2);
    if (!video || !planes) {
        free(video);
        free(planes);
        return kw__fail_memory(err);
    }
    video->format = format;
    video->width = (int)settings->width;
    video->height = (int)settings->height;
    video->bt709 = settings->width >= 1280 || settings->height > 576;
    video->plane[0] = planes;
    video->plane[1] = planes + luma;
    video->plane[2] = video->plane[1] + luma / 4;
    rate_of(settings->fps, video->rate);
    status = kw__pending_open(path, &video->file, err);
    if (!status) {
        status = format->begin(video, settings->comment, err);
        if (status) kw__pending_discard(&video->file);
    }
    if (status)
        release(video);
    else
        *out = video;
    return status;
}

/* ---- Colour ------------------------------------------------------------------------------------ */

/* Rows Y, Cb, Cr over R, G, B, times 2^16: BT.601 and BT.709 give kr and kb, and
 *     Y = 16 + 219/255 (kr R + kg G + kb B)    Cb = 128 + 224/255 (B - Y') / (2 - 2 kb), Cr alike
 * with the weight of G such that each row's sum is exact: white is 235 and grey has chroma 128. */
struct matrix {
    int32_t row[3][3];
};

static struct matrix matrix_of(bool bt709)
{
    const double kr = bt709 ? 0.2126 : 0.299, kb = bt709 ? 0.0722 : 0.114, one = 65536;
    const double luma = 219.0 / 255 * one, chroma = 112.0 / 255 * one;
    struct matrix m;
    m.row[0][0] = (int32_t)lround(kr * luma);
    m.row[0][2] = (int32_t)lround(kb * luma);
    m.row[0][1] = (int32_t)lround(luma) - m.row[0][0] - m.row[0][2];
    m.row[1][0] = (int32_t)lround(-kr / (1 - kb) * chroma);
    m.row[1][2] = (int32_t)lround(chroma);
    m.row[1][1] = -m.row[1][0] - m.row[1][2];
    m.row[2][0] = (int32_t)lround(chroma);
    m.row[2][2] = (int32_t)lround(-kb / (1 - kr) * chroma);
    m.row[2][1] = -m.row[2][0] - m.row[2][2];
    return m;
}

/* `bits`: 16 for one pixel, 18 for the sum of four. */
static uint8_t component(const int32_t row[3], const int32_t rgb[3], int32_t offset, int bits)
{
    int64_t sum = (int64_t)row[0] * rgb[0] + (int64_t)row[1] * rgb[1] + (int64_t)row[2] * rgb[2];
    return (uint8_t)((sum + ((int64_t)offset << bits) + (INT64_C(1) << (bits - 1))) >> bits);
}

/* The four pixels from (x, y) on. */
static void convert_square(struct kw__video *video, const struct matrix *m, const uint8_t *rgb, int x, int y)
{
    int32_t sum[3] = {0, 0, 0};
    for (int i = 0; i < 4; i++) {
        size_t at = (size_t)(y + i / 2) * (size_t)video->width + (size_t)(x + i % 2);
        const int32_t pixel[3] = {rgb[3 * at], rgb[3 * at + 1], rgb[3 * at + 2]};
        for (int k = 0; k < 3; k++) sum[k] += pixel[k];
        video->plane[0][at] = component(m->row[0], pixel, 16, 16);
    }
    size_t at = (size_t)(y / 2) * (size_t)(video->width / 2) + (size_t)(x / 2);
    video->plane[1][at] = component(m->row[1], sum, 128, 18);
    video->plane[2][at] = component(m->row[2], sum, 128, 18);
}

/* ---- Writing ----------------------------------------------------------------------------------- */

kw_status kw__video_write(struct kw__video *video, const uint8_t *rgb, int64_t frames, kw_error *err)
{
    const struct matrix m = matrix_of(video->bt709);
    size_t frame_bytes = (size_t)video->width * (size_t)video->height * 3;
    kw_status status = KW_OK;
    for (int64_t f = 0; !status && f < frames; f++, rgb += frame_bytes) {
        for (int y = 0; y < video->height; y += 2)
            for (int x = 0; x < video->width; x += 2) convert_square(video, &m, rgb, x, y);
        status = video->format->frame(video, err);
        video->frames++;
    }
    return status;
}

kw_status kw__video_finish(struct kw__video *video, kw_error *err)
{
    kw_status status = video->format->end(video, err);
    if (!status)
        status = kw__pending_commit(&video->file, err);
    else
        kw__pending_discard(&video->file);
    release(video);
    return status;
}

void kw__video_discard(struct kw__video *video)
{
    if (!video) return;
    kw__pending_discard(&video->file);
    release(video);
}
