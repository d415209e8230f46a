/* Writes checkpoints: what `--weights` reads. Whatever fails here fails the test. */
#ifndef TESTS_SUPPORT_CHECKPOINT_H
#define TESTS_SUPPORT_CHECKPOINT_H

#include "graph/graph.h"
#include "kinowatt.h"

/* All tensors of the program in f32 as FOLDER/text_encoder/model.safetensors and
 * FOLDER/<other>/diffusion_pytorch_model.safetensors, with the random weights of the seed. The first
 * element of the tensor `poisoned` (NULL: none) is NaN. */
void checkpoint_write(const char *folder, const struct kw__program *program, uint64_t seed,
                      const char *poisoned);

/* Makes a temporary folder that holds tests/golden/wan-tiny with a tokenizer of 400 pieces, and the random
 * weights of seed 0 as its checkpoint; remove it with folder_remove. */
void checkpoint_folder(const kw_catalog *catalog, char *folder, const char *poisoned);

#endif
