/* One list of cases for each operator of ops.def: small ones, of odd shapes, whose result the float64
 * interpreter gives; and sizes of WAN2.1-1.3B at 256x256x17, for speed. test_ops.c holds a backend to
 * the first, bench/ops.c (make ops) shows both. */
#ifndef TESTS_SUPPORT_OP_CASES_H
#define TESTS_SUPPORT_OP_CASES_H

#include "engine/backend.h"

/* kind: x input, s state, w weight, of the dtype that is tested; f input in f32, g weight in f32;
 *       i ids, l lengths (i32); F folded from w[O,C,1,3,3]; - absent */
struct op_operand {
    char kind;
    int64_t dim[KW__MAX_DIMS]; /* up to the first 0 */
};

struct op_case {
    const char *name; /* of the operator and what is special about the case */
    enum kw__opcode code;
    bool large; /* for speed; the interpreter would take minutes */
    char out;   /* y: the tested dtype; f: f32 */
    struct kw__attr attr;
    struct op_operand in[KW__MAX_INPUTS];
};

extern const struct op_case op_cases[];
extern const size_t num_op_cases;

/* A program of one stage, "run", with the operator alone; the caller frees it. */
struct kw__program *op_program(const struct op_case *c, enum kw__dtype dtype);

/* Runs the case in the interpreter: of the elements of its first output their sum, and the sum of their
 * products with sin(0.37 i + 1). False: `reason` says why. */
bool op_meaning(const struct op_case *c, double digest[2], size_t *count, char reason[256]);

/* Runs the case on the backend: the relative error of its worst output against the interpreter, or
 * -1 with the reason why it cannot run in `reason`, which is "" when it is no error. */
double op_error(const struct op_case *c, const struct kw__backend *backend, enum kw__dtype dtype,
                char reason[256]);

/* What one run costs: the first decile of `seconds` worth of runs, as others use the cores too, and
 * FLOPs and bytes of the operands. */
struct op_speed {
    double seconds, flop, bytes;
};
bool op_time(const struct op_case *c, const struct kw__backend *backend, enum kw__dtype dtype, double seconds,
             struct op_speed *out, char reason[256]);

#endif
