/* The reference interpreter: runs an operator graph in float64 with plain loops, one function for
 * each operator of graph/ops.def, written from the sentences there and from nothing of the engine.
 *
 * Tests use it for two proofs: that a lowered graph computes what diffusers computes (test_parity.c,
 * against tests/golden), and that a rewrite does not change the result. The dtypes of values are
 * ignored: nothing is rounded but by float64, so two graphs that mean the same agree to about 1e-12.
 * Sizes must be tiny; nothing here is fast.
 *
 *     struct interp *it = interp_new(program, interp_random_weights, &seed);
 *     interp_set(it, "latents", latents, count);            // inputs, by name
 *     if (!interp_run(it, "denoise")) fail(interp_error(it));
 *     struct interp_array x = interp_get(it, "latents");    // a state, or a value of the last graph
 *     interp_free(it);
 *
 * How a program is read where graph.h leaves it open:
 *   - A state lives under its name from the first phase that has it to the end of the interpreter,
 *     so from stage to stage too. It starts at its `initial` unless interp_set gave it a value. All
 *     states of a graph change together after an iteration.
 *   - interp_set of "phase/name" is for that phase alone and goes before "name" there.
 *   - An input with the name of a column of the iteration table takes that column's value, in all
 *     its elements, at each iteration. Others keep what interp_set gave them.
 *   - The result of a graph that has no state is one of its values: interp_get finds every value of
 *     the last iteration that ran, as long as no state has its name.
 * Shapes that contradict ops.def, an operator before its inputs and a missing input are errors. */
#ifndef TESTS_SUPPORT_INTERP_H
#define TESTS_SUPPORT_INTERP_H

#include "graph/graph.h"

struct interp;

/* Fills `out` with the tensor's elements in the checkpoint's order; false: there is no such tensor. */
typedef bool interp_weights(void *user, const struct kw__tensor *tensor, double *out);

/* An interp_weights: the random weights of engine/random.h; `user` points to the uint64_t seed. */
bool interp_random_weights(void *user, const struct kw__tensor *tensor, double *out);

/* A failed allocation ends the test program. */
struct interp *interp_new(const struct kw__program *program, interp_weights *weights, void *user);
void interp_free(struct interp *it);

/* Gives an input its elements (copied), or a state the value it goes on from. */
void interp_set(struct interp *it, const char *name, const double *data, size_t count);
/* The same from one number. */
void interp_set_scalar(struct interp *it, const char *name, double value);

/* Called after each iteration, states already changed. */
typedef void interp_observer(void *user, struct interp *it, const struct kw__phase *phase, int64_t iteration);
void interp_observe(struct interp *it, interp_observer *observer, void *user);

/* Runs all phases of a stage. False: interp_error says why. */
bool interp_run(struct interp *it, const char *stage);
const char *interp_error(const struct interp *it);

struct interp_array {
    int ndim;
    int64_t dim[KW__MAX_DIMS];
    size_t count;
    const double *data; /* NULL when there is no such state or value; valid until the next run */
};
struct interp_array interp_get(const struct interp *it, const char *name);

/* ||a - b|| / ||b||, NaN when an element is. */
double interp_relative_error(const double *a, const double *b, size_t count);

#endif
