/* The safetensors reader: any bytes either fail with a message or make a file whose every tensor can be
 * read. The input is copied to memory of its exact size, so that a read past its end is seen. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct kw__safetensors *file, const struct kw__stored_tensor *t)
{
    static const enum kw__dtype wanted[] = {KW__F32, KW__BF16};
    for (int i = 0; i < 2; i++) {
        void *out = malloc(2 * (size_t)(t->end - t->begin) + 1); /* a 2-byte element becomes 4 at most */
        if (out) (void)kw__safetensors_read(file, t, wanted[i], out, NULL);
        free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + (size == 0));
    if (!copy) return 0;
    if (size) memcpy(copy, data, size);
    struct kw__safetensors *file = NULL;
    kw_error err = {KW_OK, ""};
    kw_status status = kw__safetensors_parse("fuzz", copy, size, &file, &err);
    if (status && (!err.message[0] || err.code != status || file)) abort();
    for (size_t i = 0; !status && i < kw__safetensors_count(file); i++) {
        const struct kw__stored_tensor *t = kw__safetensors_at(file, i);
        if (kw__safetensors_find(file, t->name) != t) abort();
        read_all(file, t);
    }
    kw__safetensors_close(file);
    free(copy);
    return 0;
}
