/* Where the elements of weights come from: a checkpoint or random numbers, one tensor at a time.
 *
 * A backend asks for each tensor of a program once, while it binds, in the order of the graph, and
 * says which dtype it wants; the provider casts while reading. Recipes over tensors (concatenation,
 * folding) and layouts are the backend's: the provider knows plain tensors only. */
#ifndef KW_ENGINE_WEIGHTS_H
#define KW_ENGINE_WEIGHTS_H

#include "graph/graph.h"

struct kw__weights {
    void *self;
    /* Writes all elements of `tensor`, in the checkpoint's order (the last dimension fastest), as
     * `wanted` (KW__F32 or KW__BF16; rounded to nearest, ties to even) into `out`, which holds
     * product(tensor->dim) of them. Fails when the tensor is absent or has another shape. `out` is
     * aligned to 64 bytes. Not called by two threads at once. */
    kw_status (*get)(void *self, const struct kw__tensor *tensor, enum kw__dtype wanted, void *out,
                     kw_error *err);
};

/* Opens what `--weights` names, for the tensors of a program, which must outlive it:
 *
 *     DIR                              a checkpoint in diffusers layout (safetensors.h):
 *                                      DIR/transformer/diffusion_pytorch_model*.safetensors,
 *                                      DIR/text_encoder/model*.safetensors,
 *                                      DIR/vae/diffusion_pytorch_model*.safetensors
 *     random[:SEED][:DISTRIBUTION]     random.h; seed 0 and `normal` unless given. A folder with such a
 *                                      name is reached as ./random
 *
 * DISTRIBUTION is how a weight's elements are spread, with mean and deviation as kw__random_law says:
 *     normal     sums of four integers, nearly normal, as trained weights are: the default
 *     uniform    one integer, the same deviation
 *     constant   each element is the mean, 1 in gains and 0 elsewhere: a lower bound of the power,
 *                since hardware that multiplies zeros draws less
 *
 * Of a checkpoint every tensor of the program is found and checked for dtype and shape here, before
 * anything runs; the message names the file and the tensor. */
kw_status kw__weights_open(const char *spec, const struct kw__program *program, struct kw__weights *out,
                           kw_error *err);
/* For what kw__weights_open gave. */
void kw__weights_close(struct kw__weights *weights);
/* What is stored with results: "checkpoint", or seed and distribution in full, "random:0:normal". */
const char *kw__weights_label(const struct kw__weights *weights);

#endif
