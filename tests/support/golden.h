/* The cases of tools/reference/make_golden.py: what diffusers and transformers gave on the tiny models in
 * tests/golden, and the programs that must give the same. Failures end the test. */
#ifndef TESTS_SUPPORT_GOLDEN_H
#define TESTS_SUPPORT_GOLDEN_H

#include "graph/graph.h"

enum { GOLDEN_SEED = 1, GOLDEN_CHANNELS = 4 };

/* The whole file tests/golden/<name>, which must have `count` numbers; the caller frees them. */
double *golden_read(const char *name, size_t count);

/* The noise stream `name` of the seed. */
void golden_noise(const char *name, size_t count, float *out);

struct golden_size {
    int64_t frames, height, width; /* of the latents */
    int64_t batch, text_tokens, steps;
    double guidance, guidance_2; /* of the second transformer where there is one; 0: as the first's */
    int64_t prompt_tokens[2];
    const char *rewrite; /* its name, "all", "all twice", "all backwards", or NULL */
    bool resolved;       /* of a request that the pipeline takes, and resolves but for text_tokens */
    bool tiled;          /* decoded in tiles */
    size_t every;        /* a file of frames has each `every`-th number; 0: all */
};

struct golden_case {
    kw_catalog *catalog;
    kw_model *model;
    struct kw__program *program;
    const char *how; /* the rewrite */
};

/* Lowers tests/golden/<model> in f32. Sizes may be smaller than the pipeline allows: VAE and transformer
 * do not mind. */
struct golden_case golden_lower(const char *model, struct golden_size size);
void golden_release(struct golden_case *c);

/* NULL when there is none. */
struct kw__phase *golden_phase(const struct golden_case *c, const char *stage, const char *phase);

/* Elements of an input of a phase of text_encode, 0: there is none. */
size_t golden_input(const struct golden_case *c, const char *phase, const char *name);

/* Token i is (first + stride * i) mod vocabulary, 0 from `length` on as far as the graph reads. Returns
 * their number. */
size_t golden_tokens(const struct golden_case *c, const char *phase, int length, int first, int stride,
                     int vocabulary, double ids[256]);

#endif
