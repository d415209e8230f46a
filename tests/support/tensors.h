/* The lists in tests/data/tensors: what a checkpoint holds. Failures end the test. */
#ifndef TESTS_SUPPORT_TENSORS_H
#define TESTS_SUPPORT_TENSORS_H

#include <stddef.h>

#include "graph/graph.h"

/* A file of so many tensors, which are those of a component. Its lines are "name shape"; "[0-29]" in a name
 * stands for each of these numbers. */
struct tensor_list {
    const char *component, *path;
    size_t count;
};

/* The program declares every tensor of the lists once, with its shape, and no others. */
void tensors_expect(const struct kw__program *program, const struct tensor_list *lists, size_t num_lists);

#endif
