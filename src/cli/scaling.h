/* The figure of kinowatt scaling, and the parts that its stack and the table of shares have. */
#ifndef KW__CLI_SCALING_H
#define KW__CLI_SCALING_H

#include "predict/scaling.h"
#include "report/out.h"

/* From the bottom of the stack: self-attention, MLP, cross-attention, VAE decoder, CPU offload, all the rest.
 */
enum { KW__SCALING_PARTS = 6 };
const char *kw__scaling_part_name(int part);
/* Seconds of each part. */
void kw__scaling_parts(const kw_prediction *prediction, double parts[KW__SCALING_PARTS]);
/* Whether a point spends time in a part; others are not shown. */
bool kw__scaling_has_part(const struct kw__scaling *scaling, int part);

/* Six panels: latency by component in seconds and in shares, latency, GPU energy, mean power, local
 * exponents. */
/* Its columns go into the scaling's arena. */
void kw__scaling_figure(struct kw__out *out, struct kw__scaling *scaling);

#endif
