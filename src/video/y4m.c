/* YUV4MPEG2 (mjpegtools' yuv4mpeg(5)): a line of text, then a line and the planes for each frame.
 * C420jpeg is 4:2:0 with the chroma in the middle; readers that know XCOLORRANGE take the range from it,
 * the others assume the limited one. */
#include <stdio.h>

#include "video/format.h"

static kw_status ready(kw_error *err)
{
    (void)err;
    return KW_OK;
}

static int make_header(int width, int height, const int rate[2], char out[128])
{
    return snprintf(out, 128, "YUV4MPEG2 W%d H%d F%d:%d Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n", width,
                    height, rate[0], rate[1]);
}

static double least_bytes(int width, int height, const int rate[2], int64_t frames)
{
    char header[128];
    return make_header(width, height, rate, header) + (double)frames * (6 + 1.5 * width * height);
}

static kw_status begin(struct kw__video *video, const char *comment, kw_error *err)
{
    (void)comment;
    char header[128];
    int n = make_header(video->width, video->height, video->rate, header);
    return kw__pending_write(&video->file, header, (size_t)n, err);
}

static kw_status frame(struct kw__video *video, kw_error *err)
{
    size_t luma = (size_t)video->width * (size_t)video->height;
    kw_status status = kw__pending_write(&video->file, "FRAME\n", 6, err);
    for (int i = 0; !status && i < 3; i++)
        status = kw__pending_write(&video->file, video->plane[i], i ? luma / 4 : luma, err);
    return status;
}

static kw_status end(struct kw__video *video, kw_error *err)
{
    (void)video;
    (void)err;
    return KW_OK;
}

static void release(struct kw__video *video)
{
    (void)video;
}

const struct kw__video_format kw__y4m_format = {".y4m", false, least_bytes, ready,
                                                begin,  frame, end,         release};
