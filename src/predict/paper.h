/* The closed form of arXiv 2509.19222, appendix A, with its own constants: an approximation kept as it
 * was published, to be compared with. It is defined for WAN2.1-T2V-1.3B on the H100 SXM alone. */
#ifndef KW_PREDICT_PAPER_H
#define KW_PREDICT_PAPER_H

/* FLOPs by the paper's components. Frames enter as they were asked for. */
struct kw__paper_flop {
    double text, time, self_attention, cross_attention, mlp, decoder;
};
struct kw__paper_flop kw__paper_flops(double width, double height, double frames, double steps);
double kw__paper_total(const struct kw__paper_flop *flop);

/* mu, FLOP/s and W of the paper: latency = FLOPs / (mu x peak), energy = power x latency. */
#define KW__PAPER_MU 0.456
#define KW__PAPER_FLOP_PER_S 989e12
#define KW__PAPER_POWER_W 700.0

#endif
