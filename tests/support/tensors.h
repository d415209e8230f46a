/* The lists in tests/data/tensors: what a checkpoint holds. Failures end the test. */
#ifndef TESTS_SUPPORT_TENSORS_H
#define TESTS_SUPPORT_TENSORS_H

#include <stddef.h>

#include "graph/graph.h"

/* Every tensor of the file is declared once in the component, with its shape; each is marked in `seen`, of
 * the program's num_tensors. Returns how many there are. Lines are "name shape"; "[0-29]" in a name stands
 * for each of these numbers. */
size_t tensors_expect(const struct kw__program *program, const char *component, const char *path, bool *seen);

/* Every tensor of the program is marked. */
void tensors_expect_no_others(const struct kw__program *program, const bool *seen);

#endif
