/* See decode.h. The libraries are opened here as in src/video/mp4.c: by the major versions of the headers. */
#include "support/decode.h"

#include <stddef.h>

#ifndef KW_HAVE_LIBAV

bool decode_ready(void)
{
    return false;
}

int decode(const char *path, void (*see)(void *user, int index, uint8_t *const plane[3], const int line[3]),
           void *user)
{
    (void)path;
    (void)see;
    (void)user;
    return -1;
}

#else

#include <dlfcn.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <string.h>

#define FUNCTIONS(X)                                                                                         \
    X(util, av_frame_alloc)                                                                                  \
    X(util, av_frame_free)                                                                                   \
    X(codec, av_packet_alloc)                                                                                \
    X(codec, av_packet_free)                                                                                 \
    X(codec, av_packet_unref)                                                                                \
    X(codec, avcodec_alloc_context3)                                                                         \
    X(codec, avcodec_find_decoder)                                                                           \
    X(codec, avcodec_free_context)                                                                           \
    X(codec, avcodec_open2)                                                                                  \
    X(codec, avcodec_parameters_to_context)                                                                  \
    X(codec, avcodec_receive_frame)                                                                          \
    X(codec, avcodec_send_packet)                                                                            \
    X(format, av_read_frame)                                                                                 \
    X(format, avformat_close_input)                                                                          \
    X(format, avformat_open_input)

struct libav {
#define X(library, name) __typeof__(&name) name;
    FUNCTIONS(X)
#undef X
};

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static bool load(struct libav *av)
{
    void *util = dlopen("libavutil.so." TEXT(LIBAVUTIL_VERSION_MAJOR), RTLD_NOW | RTLD_NODELETE);
    void *codec = dlopen("libavcodec.so." TEXT(LIBAVCODEC_VERSION_MAJOR), RTLD_NOW | RTLD_NODELETE);
    void *format = dlopen("libavformat.so." TEXT(LIBAVFORMAT_VERSION_MAJOR), RTLD_NOW | RTLD_NODELETE);
    bool all = util && codec && format;
#define X(library, name)                                                                                     \
    {                                                                                                        \
        void *address = all ? dlsym(library, #name) : NULL;                                                  \
        all = all && address;                                                                                \
        memcpy(&av->name, &address, sizeof address);                                                         \
    }
    FUNCTIONS(X)
#undef X
    if (util) dlclose(util);
    if (codec) dlclose(codec);
    if (format) dlclose(format);
    return all;
}

bool decode_ready(void)
{
    struct libav av;
    return load(&av);
}

struct decoder {
    struct libav av;
    AVFormatContext *file;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
};

static bool start(struct decoder *d, const char *path)
{
    if (!load(&d->av) || d->av.avformat_open_input(&d->file, path, NULL, NULL) < 0) return false;
    if (d->file->nb_streams != 1) return false;
    const AVCodecParameters *stream = d->file->streams[0]->codecpar;
    const AVCodec *codec = d->av.avcodec_find_decoder(stream->codec_id);
    d->codec = codec ? d->av.avcodec_alloc_context3(codec) : NULL;
    d->packet = d->av.av_packet_alloc();
    d->frame = d->av.av_frame_alloc();
    if (!d->codec || !d->packet || !d->frame) return false;
    if (d->av.avcodec_parameters_to_context(d->codec, stream) < 0) return false;
    d->codec->thread_count = 1;
    return d->av.avcodec_open2(d->codec, codec, NULL) >= 0;
}

static void stop(struct decoder *d)
{
    if (d->frame) d->av.av_frame_free(&d->frame);
    if (d->packet) d->av.av_packet_free(&d->packet);
    if (d->codec) d->av.avcodec_free_context(&d->codec);
    if (d->file) d->av.avformat_close_input(&d->file);
}

int decode(const char *path, void (*see)(void *user, int index, uint8_t *const plane[3], const int line[3]),
           void *user)
{
    struct decoder d = {0};
    int count = 0;
    bool good = start(&d, path);
    for (bool more = true; good && more;) {
        more = d.av.av_read_frame(d.file, d.packet) >= 0;
        good = d.av.avcodec_send_packet(d.codec, more ? d.packet : NULL) >= 0; /* NULL: give what is left */
        if (more) d.av.av_packet_unref(d.packet);
        while (good && d.av.avcodec_receive_frame(d.codec, d.frame) >= 0) {
            good = d.frame->format == AV_PIX_FMT_YUV420P;
            if (good) see(user, count++, d.frame->data, d.frame->linesize);
        }
    }
    stop(&d);
    return good ? count : -1;
}

#endif
