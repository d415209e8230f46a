/* Checkpoints: .safetensors files.
 *
 * The format (huggingface/safetensors): 8 bytes with the header's length, little-endian; the header, a
 * JSON object of
 *     "tensor name": {"dtype": "BF16", "shape": [n, k], "data_offsets": [begin, end]}
 * and perhaps "__metadata__"; then the data, where offsets count from. A large component is cut into
 * several files, and BASE.safetensors.index.json names the file of each tensor ("weight_map").
 *
 * A file is checked whole when it is opened, so that reading cannot leave it: the header is at most
 * 100 MB (the format's own limit) and inside the file, the tensors lie inside the data, neither overlap
 * nor leave a gap, and hold as many bytes as dtype and shape say. What else a file holds than a model
 * needs is no error.
 *
 * Elements are read with pread, a tensor or a piece at a time, not through a mapping: a backend casts or
 * packs all of them into memory of its own, so a mapping would save no copy, and a mapped file that another
 * program shortens ends the process with SIGBUS. Here that is KW_ERROR_FORMAT. */
#ifndef KW_ENGINE_SAFETENSORS_H
#define KW_ENGINE_SAFETENSORS_H

#include "graph/graph.h"

struct kw__stored_tensor {
    const char *name, *dtype; /* "F32", as the file has it */
    int ndim;
    const int64_t *dim;
    uint64_t begin, end; /* bytes, from the start of the data */
};

/* ---- One file ---- */

struct kw__safetensors;
kw_status kw__safetensors_open(const char *path, struct kw__safetensors **out, kw_error *err);
/* The same from memory, which must outlive it; `path` is for messages. */
kw_status kw__safetensors_parse(const char *path, const void *bytes, size_t size,
                                struct kw__safetensors **out, kw_error *err);
void kw__safetensors_close(struct kw__safetensors *file);

const char *kw__safetensors_path(const struct kw__safetensors *file);
size_t kw__safetensors_count(const struct kw__safetensors *file);
/* By index, in the order of names; by name, NULL when it is not there. */
const struct kw__stored_tensor *kw__safetensors_at(const struct kw__safetensors *file, size_t index);
const struct kw__stored_tensor *kw__safetensors_find(const struct kw__safetensors *file, const char *name);

/* All elements as KW__F32 or KW__BF16 (to nearest, ties to even) into `out`. F32, F16 and BF16 are read;
 * another dtype is KW_ERROR_FORMAT. */
kw_status kw__safetensors_read(const struct kw__safetensors *file, const struct kw__stored_tensor *tensor,
                               enum kw__dtype wanted, void *out, kw_error *err);

/* ---- A component: one file, or an index and its files ---- */

struct kw__checkpoint;
/* FOLDER/BASE.safetensors.index.json with all its files, or FOLDER/BASE.safetensors. */
kw_status kw__checkpoint_open(const char *folder, const char *base, struct kw__checkpoint **out,
                              kw_error *err);
void kw__checkpoint_close(struct kw__checkpoint *checkpoint);

/* The tensor and the file that has it, checked for a dtype that can be read and for its shape. */
kw_status kw__checkpoint_find(const struct kw__checkpoint *checkpoint, const struct kw__tensor *wanted,
                              const struct kw__safetensors **file, const struct kw__stored_tensor **tensor,
                              kw_error *err);

#endif
