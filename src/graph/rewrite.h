/* Rewrites: named changes of a program that leave its result as it is, but for rounding. A stack is
 * a list of them.
 *
 * Each is idempotent, applies wherever it matches, and is right in any order; what it reaches may
 * depend on the order. Hoisting comes last, as it moves operators where their readers cannot be seen;
 * sharing comes before fusing. The order of the table is a good one. */
#ifndef KW_GRAPH_REWRITE_H
#define KW_GRAPH_REWRITE_H

#include "graph/graph.h"

/* KW_ERROR_FORMAT when the name is unknown (it comes from a stack's file), KW_ERROR_MEMORY: then the
 * program is only fit to be freed. */
kw_status kw__rewrite_apply(struct kw__program *program, const char *name, kw_error *err);

size_t kw__rewrite_count(void);
const char *kw__rewrite_name(size_t index);
const char *kw__rewrite_about(size_t index); /* one line */

/* ---- The rewrites, for the table in rewrite.c ---- */

/* rewrite_text.c: what the padding of the prompt costs. */
void kw__rewrite_real_text_tokens(struct kw__program *program);
void kw__rewrite_one_pad_key(struct kw__program *program);
/* rewrite_share.c: what is computed more often than it changes. */
void kw__rewrite_share_passes(struct kw__program *program);
void kw__rewrite_hoist_prompt(struct kw__program *program);
/* rewrite_fuse.c: operators that one kernel can do. */
void kw__rewrite_fuse_qkv(struct kw__program *program);
void kw__rewrite_fuse_norm_modulate(struct kw__program *program);
void kw__rewrite_fuse_norm_rope(struct kw__program *program);
void kw__rewrite_fuse_gelu(struct kw__program *program);
void kw__rewrite_fuse_gate(struct kw__program *program);
void kw__rewrite_fuse_norm_silu(struct kw__program *program);
void kw__rewrite_fuse_conv_add(struct kw__program *program);
void kw__rewrite_fuse_upsample(struct kw__program *program);
void kw__rewrite_fold_upsample(struct kw__program *program);

#endif
