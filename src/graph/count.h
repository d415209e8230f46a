/* Counting: what each operator of a program costs in FLOPs, bytes and launches, and the memory that a
 * program needs at its peak. Nothing here knows seconds or watts. */
#ifndef KW_GRAPH_COUNT_H
#define KW_GRAPH_COUNT_H

#include "graph/graph.h"
#include "graph/stack.h"

/* FLOPs of an operator as PyTorch's FlopCounterMode counts them: matrix products, convolutions and the
 * two products of attention, a multiply-add being 2. 0 for all others. */
double kw__op_flop(const struct kw__graph *g, const struct kw__op *op);

/* The unit that computes an operator, as calibrations name it, from what matters most to what matters
 * least. A calibration's key may stop at any '/'; it then holds for all that begin so.
 *     gemm/bf16/n1536             bucket of the smaller side of the weight: 64, 128, 256, 512, 1536
 *     attention/bf16/hd128        head dimension
 *     conv/tf32/c192/k27          bucket of the smaller number of channels (16, 32, 64, 96, 128, 192, 384);
 *                             taps
 *                                 of the kernel that are multiplied, of which padding in time has none
 *     norm/bf16/layernorm         all others: class, dtype of the result, operator */
enum { KW__KEY_BYTES = 48 };
#define KW__FILL_KEY "copy/u8/fill" /* memory set to a value before a phase */

/* One operator's work on a stack. */
struct kw__work {
    char key[KW__KEY_BYTES]; /* "" for what runs no kernel, and for lists of kernels */
    double size;         /* what the speed of one key depends on: rows of a gemm, keys, pixels; else bytes */
    double flop;         /* executed; more than 0 for gemm, attention and conv */
    double main_bytes;   /* operands and results of the main kernel of a gemm, attention or conv */
    double memory_bytes; /* moved by kernels that are bound by memory */
    double host_bytes;   /* written by transfers and on the host */
    double to_device_bytes, to_host_bytes; /* weights that are copied (graph/placement.h) */
    double launches;
    /* of `memory_bytes` and `launches`, those of kernels that walk (graph/stack.h), how many blocks of
     * threads one launch has, and how many elements of a group each goes through; 0 elements where a block
     * has a row */
    double walk_bytes, walk_launches, walk_blocks, walk_elements;
};
void kw__op_work(const struct kw__graph *g, const struct kw__op *op, const struct kw__stack *stack,
                 struct kw__work *out);

/* Sums over a phase, a stage or a program. */
struct kw__sums {
    double flop, linear, attention, conv;
};
/* Adds `times` the FLOPs of an operator, or of each of a graph that `component` (NULL: any) owns. */
void kw__sums_add(const struct kw__graph *g, const struct kw__op *op, double times, struct kw__sums *sums);
void kw__graph_flop(const struct kw__graph *g, const char *component, double times, struct kw__sums *sums);

/* Bytes on the device at the worst moment: weights (kw__placement_bytes), the stack's resident extra, and the
 * states and live values of a phase, freed after their last use. -1: no memory to tell. */
double kw__peak_bytes(struct kw__program *program, const struct kw__stack *stack);

#endif
