#include "base/uuid.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

bool kw__random_bytes(void *out, size_t count)
{
    ssize_t got;
    do got = getrandom(out, count, 0);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)count;
}

bool kw__uuid(char out[37])
{
    unsigned char b[16];
    if (!kw__random_bytes(b, sizeof b)) return false;
    b[6] = (unsigned char)(0x40 | (b[6] & 0x0F));
    b[8] = (unsigned char)(0x80 | (b[8] & 0x3F));
    (void)snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
                   b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
                   b[15]);
    return true;
}

const kw__hash kw__hash_begin =
    ((kw__hash)0x6c62272e07bb0142u << 64) + 0x62b821756295c58du; /* FNV's offset */

kw__hash kw__hash_text(kw__hash hash, const char *text)
{
    const kw__hash prime = ((kw__hash)1 << 88) + 0x13b;
    do hash = (hash ^ (unsigned char)*text) * prime;
    while (*text++); /* the end too: "ab", "c" is not "a", "bc" */
    return hash;
}

void kw__hash_uuid(kw__hash hash, char out[37])
{
    uint64_t high = (uint64_t)(hash >> 64), low = (uint64_t)hash;
    high = (high & ~(uint64_t)0xF000) | 0x8000;             /* version 8 */
    low = (low & ~((uint64_t)3 << 62)) | (uint64_t)2 << 62; /* the variant */
    (void)snprintf(out, 37, "%08x-%04x-%04x-%04x-%012" PRIx64, (unsigned)(high >> 32),
                   (unsigned)(high >> 16 & 0xFFFF), (unsigned)(high & 0xFFFF), (unsigned)(low >> 48),
                   low & 0xFFFFFFFFFFFF);
}
