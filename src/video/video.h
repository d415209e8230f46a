/* Writing clips and arrays.
 *
 * A clip takes frames as they are decoded, uint8 RGB in rows (x fastest, then R, G, B innermost):
 *
 *     kw__video_check(path, &settings, &err);          // before the run: can it be written at all?
 *     kw__video_open(path, &settings, &video, &err);
 *     kw__video_write(video, rgb, frames, &err);        // any number of times
 *     kw__video_finish(video, &err);                    // the file appears; or kw__video_discard(video)
 *
 * The ending of the path is the format:
 *     .mp4   H.264 by FFmpeg's libraries, opened at run time; the comment goes into its metadata
 *     .y4m   YUV4MPEG2, uncompressed, needs nothing; it has no place for a comment
 *
 * Both hold the same pictures: Y'CbCr 4:2:0, 8 bits, limited range, chroma sited in the middle of its
 * four pixels, by the matrix that players assume when nothing says it: BT.709 from 1280 pixels of width
 * or 577 of height on, BT.601 below. So the same frames give the same bytes, with the same libraries
 * on any machine, and nothing is left half-written (base/pending.h). */
#ifndef KW_VIDEO_VIDEO_H
#define KW_VIDEO_VIDEO_H

#include "base/pending.h"
#include "kinowatt.h"

struct kw__video_settings {
    int64_t width, height; /* pixels, even */
    double fps;
    const char *comment; /* settings and seed, one line of JSON; NULL: none */
};

struct kw__video;

kw_status kw__video_check(const char *path, const struct kw__video_settings *settings, kw_error *err);
/* Of the file, once it has been checked: exact for .y4m, the least it can be for .mp4. */
double kw__video_least_bytes(const char *path, const struct kw__video_settings *settings, int64_t frames);
kw_status kw__video_open(const char *path, const struct kw__video_settings *settings, struct kw__video **out,
                         kw_error *err);
kw_status kw__video_write(struct kw__video *video, const uint8_t *rgb, int64_t frames, kw_error *err);
/* Ends the use of `video`, also when it fails. */
kw_status kw__video_finish(struct kw__video *video, kw_error *err);
void kw__video_discard(struct kw__video *video);

/* Whether .mp4 can be written on this machine (KW_ERROR_UNSUPPORTED says what is missing). */
kw_status kw__mp4_ready(kw_error *err);

/* A NumPy array of float32 in C order, for latents. */
double kw__npy_bytes(int ndim, const int64_t *dim);
kw_status kw__npy_write(const char *path, int ndim, const int64_t *dim, const float *data, kw_error *err);

#endif
