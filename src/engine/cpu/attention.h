/* Attention by blocks of queries against blocks of keys with a running softmax (Milakov & Gimelshein,
 * arXiv 1805.02867; Dao et al., arXiv 2205.14135): no more than bq x bk scores exist at once in a
 * thread. What a kernel does is two functions: pack a block of a head's keys and values, and one block
 * of a head's queries against all of them. */
#ifndef KW_ENGINE_CPU_ATTENTION_H
#define KW_ENGINE_CPU_ATTENTION_H

#include "engine/cpu/cpu.h"

struct kw__cpu_attention;

struct kw__cpu_attention_kernel {
    int64_t bq, bk; /* rows of a block of queries, of keys */
    /* Bytes: of a packed block of keys, of values; of a thread's own memory. Multiples of 64. */
    size_t (*key_bytes)(int64_t e);
    size_t (*value_bytes)(int64_t e);
    size_t (*thread_bytes)(int64_t e);
    void (*pack)(const struct kw__cpu_attention *a, int64_t b, int64_t h, int64_t block, void *keys,
                 void *values);
    void (*attend)(const struct kw__cpu_attention *a, int64_t b, int64_t h, int64_t block, const void *keys,
                   const void *values, void *own);
};

struct kw__cpu_operand {
    enum kw__dtype type;
    const void *data;
    int64_t width, start; /* of a row; where head 0 begins in it */
};

struct kw__cpu_attention {
    const struct kw__cpu_attention_kernel *kernel;
    const struct kw__cpu_step *step;
    int64_t batch, heads, lq, lk, e;
    float scale, last_bias; /* ln(multiplicity) */
    struct kw__cpu_operand q, k, v;
    int64_t query_blocks, key_blocks, group; /* heads that are packed at once */
    size_t key_bytes, value_bytes, thread_bytes;
    /* of the group that is under way */
    int64_t first;
    char *packed, *own;
};

/* Keys that count for video b. */
int64_t kw__cpu_attention_keys(const struct kw__cpu_attention *a, int64_t b);

/* In f32, from f32 or bf16 operands; on every CPU. */
extern const struct kw__cpu_attention_kernel kw__cpu_attention_f32;

#if defined(__x86_64__)
/* From bf16 operands to bf16, on CPUs with AVX512_BF16; with AMX beside it. */
extern const struct kw__cpu_attention_kernel kw__cpu_attention_bf16, kw__cpu_attention_amx;
#endif

#endif
