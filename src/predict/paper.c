#include "predict/paper.h"

#include <math.h>

/* 2 k C_in C_out t h w: a convolution of kernel volume k */
static double conv(double k, double in, double out, double t, double h, double w)
{
    return 2.0 * k * in * out * t * h * w;
}

static double halved(double x, int times)
{
    for (int i = 0; i < times; i++) x = ceil(x / 2.0);
    return x;
}

static double decoder(double width, double height, double frames)
{
    const double c = 384;
    double t = halved(frames, 2), h = halved(height, 3), w = halved(width, 3), cells = h * w;
    double f = conv(27, 16, c, t, h, w) + 10 * conv(27, c, c, t, h, w);
    f += t * (8 * c * c * cells + 4 * cells * cells * c);
    f += conv(3, c, 768, 2 * t, h, w);
    f += conv(9, c, 192, 2 * t, 2 * h, 2 * w) + conv(27, 192, c, 2 * t, 2 * h, 2 * w);
    f += conv(1, 192, c, 2 * t, 2 * h, 2 * w) + 3 * conv(27, c, c, 2 * t, 2 * h, 2 * w);
    f += conv(3, c, 768, 4 * t, 2 * h, 2 * w);
    f += conv(9, c, 192, 4 * t, 4 * h, 4 * w) + 6 * conv(27, 192, 192, 4 * t, 4 * h, 4 * w);
    f += conv(9, 192, 96, 4 * t, 8 * h, 8 * w) + conv(27, 96, 3, 4 * t, 8 * h, 8 * w);
    return f;
}

struct kw__paper_flop kw__paper_flops(double width, double height, double frames, double steps)
{
    /* width d, layers, MLP factor, text tokens, guidance passes, time and text embedding widths */
    const double d = 2048, layers = 32, factor = 4, m = 512, passes = 2, d_tau = 256, d_text = 1024;
    double l = (1 + frames / 4) * (height / 16) * (width / 16); /* real-valued, as published */
    double forwards = steps * layers * passes;
    return (struct kw__paper_flop){
        .text = 2 * 24 * (8 * m * d_text * d_text + 4 * m * m * d_text + 16 * m * d_text * d_text),
        .time = steps * layers * (2 * d_tau * d + 14 * d * d),
        .self_attention = forwards * (8 * l * d * d + 4 * l * l * d),
        .cross_attention = forwards * (4 * l * d * d + 4 * m * d * d + 4 * l * m * d),
        .mlp = forwards * 4 * factor * l * d * d,
        .decoder = decoder(width, height, frames),
    };
}

double kw__paper_total(const struct kw__paper_flop *f)
{
    return f->text + f->time + f->self_attention + f->cross_attention + f->mlp + f->decoder;
}
