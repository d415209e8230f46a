/* A family's graphs against what diffusers gave on a tiny model in tests/golden, in the interpreter in
 * float64 and on the cpu backend in f32, as kw__exec makes a clip: one function for each part of the proof.
 * All inputs are the noise streams and tokens of tools/reference; sizes are what the pipeline takes. A
 * difference beyond what the rounding explains ends the test. */
#ifndef TESTS_SUPPORT_PARITY_H
#define TESTS_SUPPORT_PARITY_H

#include "support/golden.h"

enum parity_on { ON_INTERPRETER, ON_CPU };

struct parity_model {
    const char *folder; /* in tests/golden */
    int64_t text_dim;   /* of the embeddings that the denoiser reads */
    int vocabulary;
    enum kw__opcode output; /* the denoiser's last operator: the last of this code in a step */
};

/* One pass of the denoiser, of the noise "latents", "text" and "pooled" at a timestep, which may be none of a
 * schedule's. `lengths`: valid text rows of each row of the batch; NULL: the graph has no such input. */
void parity_denoiser(enum parity_on on, const struct parity_model *model, const char *golden,
                     struct golden_size size, const double *lengths, double timestep);

/* Text encoding and all stages up to "decode": the latents after each iteration of the phases whose names end
 * with "step", one after the other. Token i of pass p is (3 + p + 7 i) mod vocabulary, of a second text
 * encoder too, whose length is the first's; of a template before the prompt it is i mod vocabulary. */
void parity_denoise(enum parity_on on, const struct parity_model *model, const char *golden,
                    struct golden_size size);

/* One stage of a state "latents_small" and the like, as noise of its name: what it makes of the state `out`.
 */
void parity_stage(enum parity_on on, const struct parity_model *model, const char *golden,
                  struct golden_size size, const char *stage, const char *out);

/* The decoded frames, of which there are `frames`. `ends`: the file has the first and the last. */
void parity_decode(enum parity_on on, const struct parity_model *model, const char *golden,
                   struct golden_size size, int64_t frames, bool ends);

#endif
