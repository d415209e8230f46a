/* Names that no two things ever share. */
#ifndef KW_BASE_UUID_H
#define KW_BASE_UUID_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes from the system's generator; false when it gives none. */
bool kw__random_bytes(void *out, size_t count);

/* RFC 4122, version 4: 36 characters and a NUL. */
bool kw__uuid(char out[37]);

#endif
