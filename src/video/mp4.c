/* H.264 in mp4 through FFmpeg's libraries, which are opened when a clip is written: predicting needs no
 * FFmpeg. Their structs are used as the headers at build time describe them, so the libraries must have
 * the headers' major versions; the file names say those.
 *
 * The output goes through our own descriptor (kw__pending), so FFmpeg never sees the path, and the
 * error of a full disk is kept. The same frames give the same bytes: the bit-exact flags leave out dates
 * and versions, and the number of threads, which x264's result depends on, is fixed. */
#include "video/format.h"

#include "base/error.h"
#include "base/library.h"

/* Of the boxes: how well the pictures can be packed is known afterwards. */
static double least_bytes(int width, int height, const int rate[2], int64_t frames)
{
    (void)width;
    (void)height;
    (void)rate;
    return 1024 + 8 * (double)frames;
}

#ifndef KW_HAVE_LIBAV

kw_status kw__mp4_ready(kw_error *err)
{
    return kw__fail(err, KW_ERROR_UNSUPPORTED,
                    "this build writes no .mp4: FFmpeg's headers were not there; write to a .y4m instead");
}

static kw_status begin(struct kw__video *video, const char *comment, kw_error *err)
{
    (void)video;
    (void)comment;
    return kw__mp4_ready(err);
}

static kw_status frame(struct kw__video *video, kw_error *err)
{
    (void)video;
    return kw__mp4_ready(err);
}

static void release(struct kw__video *video)
{
    (void)video;
}

const struct kw__video_format kw__mp4_format = {".mp4", true,  least_bytes, kw__mp4_ready,
                                                begin,  frame, frame,       release};

#else

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/dict.h>
#include <libavutil/frame.h>

enum { THREADS = 4, IO_BUFFER = 1 << 16, SILENT = 100 };

/* ---- The libraries ----------------------------------------------------------------------------- */

#define FUNCTIONS(X)                                                                                         \
    X(util, avutil_version)                                                                                  \
    X(util, av_malloc)                                                                                       \
    X(util, av_freep)                                                                                        \
    X(util, av_frame_alloc)                                                                                  \
    X(util, av_frame_free)                                                                                   \
    X(util, av_dict_set)                                                                                     \
    X(util, av_dict_free)                                                                                    \
    X(util, av_strerror)                                                                                     \
    X(codec, avcodec_version)                                                                                \
    X(codec, avcodec_find_encoder_by_name)                                                                   \
    X(codec, avcodec_find_encoder)                                                                           \
    X(codec, avcodec_alloc_context3)                                                                         \
    X(codec, avcodec_free_context)                                                                           \
    X(codec, avcodec_open2)                                                                                  \
    X(codec, avcodec_send_frame)                                                                             \
    X(codec, avcodec_receive_packet)                                                                         \
    X(codec, avcodec_parameters_from_context)                                                                \
    X(codec, av_packet_alloc)                                                                                \
    X(codec, av_packet_free)                                                                                 \
    X(codec, av_packet_rescale_ts)                                                                           \
    X(format, avformat_version)                                                                              \
    X(format, avformat_alloc_output_context2)                                                                \
    X(format, avformat_new_stream)                                                                           \
    X(format, avformat_write_header)                                                                         \
    X(format, av_interleaved_write_frame)                                                                    \
    X(format, av_write_trailer)                                                                              \
    X(format, avformat_free_context)                                                                         \
    X(format, avio_alloc_context)                                                                            \
    X(format, avio_context_free)

struct libav {
    void *util, *codec, *format; /* dlopen's */
#define X(library, name) __typeof__(&name) name;
    FUNCTIONS(X)
#undef X
};

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define SONAME(library, major) "lib" library ".so." TEXT(major)

/* Once loaded they stay (RTLD_NODELETE): x264 and others keep state of the process. */
static void *open_library(const char *name, kw_error *err)
{
    char why[KW__LIBRARY_WHY];
    void *library = kw__library_open(name, RTLD_NODELETE, why);
    if (!library)
        (void)kw__fail(err, KW_ERROR_UNSUPPORTED,
                       "writing .mp4 needs FFmpeg's %s, which %s; install it, or write to a .y4m", name, why);
    return library;
}

static void unload(struct libav *av)
{
    if (av->format) dlclose(av->format);
    if (av->codec) dlclose(av->codec);
    if (av->util) dlclose(av->util);
    *av = (struct libav){0};
}

static kw_status load_functions(struct libav *av, kw_error *err)
{
    /* POSIX says a function's address fits in a void *; C does not, hence the copy */
#define X(library, name)                                                                                     \
    {                                                                                                        \
        void *address = dlsym(av->library, #name);                                                           \
        if (!address)                                                                                        \
            return kw__fail(err, KW_ERROR_UNSUPPORTED, "FFmpeg's library has no %s; write to a .y4m",        \
                            #name);                                                                          \
        memcpy(&av->name, &address, sizeof address);                                                         \
    }
    FUNCTIONS(X)
#undef X
    if (av->avformat_version() >> 16 != LIBAVFORMAT_VERSION_MAJOR ||
        av->avcodec_version() >> 16 != LIBAVCODEC_VERSION_MAJOR ||
        av->avutil_version() >> 16 != LIBAVUTIL_VERSION_MAJOR)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "FFmpeg's libraries are not of the version this was built for; write to a .y4m");
    return KW_OK;
}

static kw_status load(struct libav *av, kw_error *err)
{
    *av = (struct libav){0};
    kw_status status = KW_ERROR_UNSUPPORTED;
    if ((av->util = open_library(SONAME("avutil", LIBAVUTIL_VERSION_MAJOR), err)) &&
        (av->codec = open_library(SONAME("avcodec", LIBAVCODEC_VERSION_MAJOR), err)) &&
        (av->format = open_library(SONAME("avformat", LIBAVFORMAT_VERSION_MAJOR), err)))
        status = load_functions(av, err);
    if (status) unload(av);
    return status;
}

/* x264 where FFmpeg has it, else whichever H.264 encoder it has; NULL: none. */
static const AVCodec *find_encoder(const struct libav *av)
{
    const AVCodec *x264 = av->avcodec_find_encoder_by_name("libx264");
    return x264 ? x264 : av->avcodec_find_encoder(AV_CODEC_ID_H264);
}

static kw_status no_encoder(kw_error *err)
{
    return kw__fail(err, KW_ERROR_UNSUPPORTED, "FFmpeg has no H.264 encoder here; write to a .y4m instead");
}

kw_status kw__mp4_ready(kw_error *err)
{
    struct libav av;
    kw_status status = load(&av, err);
    if (status) return status;
    if (!find_encoder(&av)) status = no_encoder(err);
    unload(&av);
    return status;
}

/* ---- The encoder -------------------------------------------------------------------------------- */

struct encoder {
    struct libav av;
    AVFormatContext *muxer;
    AVIOContext *io;
    AVStream *stream;
    AVCodecContext *codec;
    AVFrame *frame;
    AVPacket *packet;
    int write_error; /* the first errno of writing */
};

static int write_packet(void *opaque, uint8_t *bytes, int size)
{
    struct kw__video *video = opaque;
    struct encoder *e = video->encoder;
    int error = kw__write_all(video->file.fd, bytes, (size_t)size);
    if (error && !e->write_error) e->write_error = error;
    return error ? AVERROR(error) : size;
}

static int64_t seek(void *opaque, int64_t offset, int whence)
{
    const struct kw__video *video = opaque;
    if (whence & AVSEEK_SIZE) return AVERROR(ENOSYS);
    off_t at = lseek(video->file.fd, (off_t)offset, whence & ~AVSEEK_FORCE);
    return at < 0 ? AVERROR(errno) : at;
}

/* A failed write is the cause of whatever FFmpeg says. */
static kw_status fail_libav(struct kw__video *video, const char *what, int code, kw_error *err)
{
    struct encoder *e = video->encoder;
    if (e->write_error) return kw__fail_write(err, video->file.path, e->write_error);
    if (code == AVERROR(ENOMEM)) return kw__fail_memory(err);
    char why[AV_ERROR_MAX_STRING_SIZE] = "?";
    (void)e->av.av_strerror(code, why, sizeof why);
    return kw__fail(err, KW_ERROR_IO, "cannot write %s: FFmpeg could not %s: %s", video->file.path, what,
                    why);
}

static kw_status open_codec(struct kw__video *video, kw_error *err)
{
    struct encoder *e = video->encoder;
    const AVCodec *codec = find_encoder(&e->av);
    if (!codec) return no_encoder(err);
    AVCodecContext *c = e->codec = e->av.avcodec_alloc_context3(codec);
    if (!c) return kw__fail_memory(err);
    c->log_level_offset = SILENT; /* a library does not print */
    c->width = video->width;
    c->height = video->height;
    c->pix_fmt = AV_PIX_FMT_YUV420P;
    c->time_base = (AVRational){video->rate[1], video->rate[0]};
    c->framerate = (AVRational){video->rate[0], video->rate[1]};
    c->color_range = AVCOL_RANGE_MPEG;
    c->colorspace = video->bt709 ? AVCOL_SPC_BT709 : AVCOL_SPC_SMPTE170M;
    c->color_primaries = AVCOL_PRI_BT709;
    c->color_trc = AVCOL_TRC_BT709;
    c->chroma_sample_location = AVCHROMA_LOC_CENTER;
    c->thread_count = THREADS;
    c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;
    bool x264 = strcmp(codec->name, "libx264") == 0;
    if (!x264) c->bit_rate = (int64_t)video->width * video->height * video->rate[0] / video->rate[1] / 4;
    AVDictionary *options = NULL;
    if (x264) {
        (void)e->av.av_dict_set(&options, "preset", "medium", 0);
        (void)e->av.av_dict_set(&options, "crf", "18", 0);
        /* x264 r3095's macroblock tree reads memory it never wrote where the CPU has AVX-512: the
         * bytes then differ from run to run. Without it they are the same, some per cent larger. */
        (void)e->av.av_dict_set(&options, "x264-params", "mbtree=0", 0);
    }
    int code = e->av.avcodec_open2(c, codec, &options);
    e->av.av_dict_free(&options);
    return code < 0 ? fail_libav(video, "start its encoder", code, err) : KW_OK;
}

static kw_status open_muxer(struct kw__video *video, const char *comment, kw_error *err)
{
    struct encoder *e = video->encoder;
    int code = e->av.avformat_alloc_output_context2(&e->muxer, NULL, "mp4", NULL);
    if (code < 0) return fail_libav(video, "start an mp4", code, err);
    unsigned char *buffer = e->av.av_malloc(IO_BUFFER);
    if (buffer) e->io = e->av.avio_alloc_context(buffer, IO_BUFFER, 1, video, NULL, write_packet, seek);
    if (!e->io) {
        e->av.av_freep(&buffer);
        return kw__fail_memory(err);
    }
    e->muxer->pb = e->io;
    e->muxer->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    e->stream = e->av.avformat_new_stream(e->muxer, NULL);
    if (!e->stream) return kw__fail_memory(err);
    e->stream->time_base = e->codec->time_base;
    e->stream->avg_frame_rate = e->codec->framerate;
    code = e->av.avcodec_parameters_from_context(e->stream->codecpar, e->codec);
    if (code >= 0 && comment) code = e->av.av_dict_set(&e->muxer->metadata, "comment", comment, 0);
    if (code >= 0) code = e->av.avformat_write_header(e->muxer, NULL);
    return code < 0 || e->write_error ? fail_libav(video, "begin the file", code, err) : KW_OK;
}

static kw_status begin(struct kw__video *video, const char *comment, kw_error *err)
{
    struct encoder *e = video->encoder = calloc(1, sizeof *e);
    if (!e) return kw__fail_memory(err);
    kw_status status = load(&e->av, err);
    if (!status) status = open_codec(video, err);
    if (!status) status = open_muxer(video, comment, err);
    if (status) return status;
    e->frame = e->av.av_frame_alloc();
    e->packet = e->av.av_packet_alloc();
    if (!e->frame || !e->packet) return kw__fail_memory(err);
    AVFrame *f = e->frame;
    f->format = AV_PIX_FMT_YUV420P;
    f->width = video->width;
    f->height = video->height;
    f->color_range = AVCOL_RANGE_MPEG;
    for (int i = 0; i < 3; i++) {
        f->data[i] = video->plane[i]; /* not reference-counted: the encoder copies */
        f->linesize[i] = i ? video->width / 2 : video->width;
    }
    return KW_OK;
}

/* Sends a frame, NULL for the end, and writes what packets are ready. */
static kw_status encode(struct kw__video *video, const AVFrame *frame, kw_error *err)
{
    struct encoder *e = video->encoder;
    int code = e->av.avcodec_send_frame(e->codec, frame);
    while (code >= 0) {
        code = e->av.avcodec_receive_packet(e->codec, e->packet);
        if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return KW_OK;
        if (code < 0) break;
        e->packet->stream_index = 0;
        e->packet->duration = 1;
        e->av.av_packet_rescale_ts(e->packet, e->codec->time_base, e->stream->time_base);
        code = e->av.av_interleaved_write_frame(e->muxer, e->packet);
        if (e->write_error) break;
    }
    return fail_libav(video, "encode a frame", code, err);
}

static kw_status frame(struct kw__video *video, kw_error *err)
{
    struct encoder *e = video->encoder;
    e->frame->pts = video->frames;
    return encode(video, e->frame, err);
}

static kw_status end(struct kw__video *video, kw_error *err)
{
    struct encoder *e = video->encoder;
    kw_status status = encode(video, NULL, err);
    if (status) return status;
    int code = e->av.av_write_trailer(e->muxer);
    return code < 0 || e->write_error ? fail_libav(video, "end the file", code, err) : KW_OK;
}

static void release(struct kw__video *video)
{
    struct encoder *e = video->encoder;
    if (!e) return;
    if (e->packet) e->av.av_packet_free(&e->packet);
    if (e->frame) {
        for (int i = 0; i < 3; i++) e->frame->data[i] = NULL; /* ours */
        e->av.av_frame_free(&e->frame);
    }
    if (e->codec) e->av.avcodec_free_context(&e->codec);
    if (e->muxer) e->av.avformat_free_context(e->muxer);
    if (e->io) {
        e->av.av_freep(&e->io->buffer);
        e->av.avio_context_free(&e->io);
    }
    unload(&e->av);
    free(e);
    video->encoder = NULL;
}

const struct kw__video_format kw__mp4_format = {".mp4", true,  least_bytes, kw__mp4_ready,
                                                begin,  frame, end,         release};

#endif
