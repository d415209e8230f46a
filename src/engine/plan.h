/* Memory planning: where every value of a graph lies while the graph runs, known before anything is
 * allocated.
 *
 * A *storage* is a piece of memory that one or several values use, one after the other or as views of
 * each other. It is either a part of the workspace, alive from the operator that first writes it to the
 * last that reads it, or the memory of a state, which outlives the graph. Two storages of the workspace
 * that are alive at the same operator never overlap; offsets are multiples of KW__ALIGNMENT.
 *
 * A value gets a storage in this order of preference: that of the value it is a view of; that of the
 * state it becomes (the state is then updated in place); that of an input that dies at its operator
 * and may be overwritten; one of its own. Inputs live through the whole phase. */
#ifndef KW_ENGINE_PLAN_H
#define KW_ENGINE_PLAN_H

#include "graph/graph.h"

enum { KW__ALIGNMENT = 64 };

/* What a backend says about a graph; arrays by value or by operator, in the backend's memory. */
struct kw__memory_rules {
    const size_t *bytes;       /* of a value; 0: it needs none here (weights) */
    const size_t *lead;        /* bytes that the storage must have in front of the value's elements */
    const int *view_of;        /* the value is the same bytes as this one; 0: it is no view */
    const unsigned *overwrite; /* of an output: bit i is set when input i's elements may be overwritten */
    const size_t *scratch;     /* of an operator: bytes it needs while it runs */
};

struct kw__storage {
    int state; /* the state whose memory this is, 0: the workspace */
    size_t bytes, lead, offset;
    int first, last; /* operators; -1: before the first, num_ops: after the last */
};

/* After an iteration `value` is copied to `state`, in this order. */
struct kw__state_copy {
    int state, value;
};

struct kw__memory {
    size_t workspace_bytes;
    size_t num_storages;
    struct kw__storage *storages;
    int *storage; /* of a value, -1: none */
    int *scratch; /* of an operator, -1: none */
    size_t num_copies;
    struct kw__state_copy *copies;
};

/* Allocates from `arena`, the plan's. KW_ERROR_UNSUPPORTED when states exchange their values in a
 * circle. */
kw_status kw__memory_plan(const struct kw__graph *g, const struct kw__memory_rules *rules,
                          struct kw__arena *arena, struct kw__memory *out, kw_error *err);

/* Replays the operators on the planned places and looks at each read whether its bytes are still those
 * that were written for it. KW_ERROR_FORMAT names the first operator that would read something else. */
kw_status kw__memory_check(const struct kw__graph *g, const struct kw__memory_rules *rules,
                           const struct kw__memory *memory, kw_error *err);

/* Offsets for things that are alive over [first, last] and may share memory otherwise, each at the lowest
 * place that is free all its life, in the order that needs least. Sets `offset` of those that are no
 * state's, returns the bytes of all. */
size_t kw__place_storages(struct kw__storage *storages, size_t count, struct kw__arena *arena);

#endif
