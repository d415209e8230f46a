/* What a clip's format is: one descriptor, in one file. */
#ifndef KW_VIDEO_FORMAT_H
#define KW_VIDEO_FORMAT_H

#include <stdbool.h>

#include "video/video.h"

struct kw__video {
    const struct kw__video_format *format;
    struct kw__pending file;
    int width, height;
    int rate[2]; /* frames a second as a fraction */
    bool bt709;  /* else BT.601 */
    int64_t frames;
    uint8_t *plane[3]; /* the frame to be written: Y [height, width], Cb and Cr [height/2, width/2] */
    void *encoder;     /* the format's own */
};

struct kw__video_format {
    const char *ending;
    bool seeks; /* it cannot be written to a pipe */
    /* of a whole clip at `rate` frames a second, or what none is smaller than */
    double (*least_bytes)(int width, int height, const int rate[2], int64_t frames);
    /* whether this machine can; `begin` needs not ask again */
    kw_status (*ready)(kw_error *err);
    /* the header; on failure `release` is called as well */
    kw_status (*begin)(struct kw__video *video, const char *comment, kw_error *err);
    kw_status (*frame)(struct kw__video *video, kw_error *err);
    kw_status (*end)(struct kw__video *video, kw_error *err);
    void (*release)(struct kw__video *video); /* frees video->encoder, which may be NULL */
};

extern const struct kw__video_format kw__y4m_format, kw__mp4_format;

#endif
