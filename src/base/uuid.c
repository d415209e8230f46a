#include "base/uuid.h"

#include <errno.h>
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
