/* The kernel library of the cpu backend, and what it has for this CPU: for reports and for what is kept of a
 * run, since both decide what a run takes. */
#ifndef KW_ENGINE_CPU_LIBRARY_H
#define KW_ENGINE_CPU_LIBRARY_H

struct kw__cpu_library {
    char version[32]; /* oneDNN's, of the library that is loaded */
    /* How bf16 is computed: "amx" (tiles), "avx512_bf16"; NULL: there are no bf16 kernels, all is in f32. */
    const char *bf16;
};
struct kw__cpu_library kw__cpu_library(void);

#endif
