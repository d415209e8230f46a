/* Names that no two things ever share. */
#ifndef KW_BASE_UUID_H
#define KW_BASE_UUID_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes from the system's generator; false when it gives none. */
bool kw__random_bytes(void *out, size_t count);

/* RFC 4122, version 4: 36 characters and a NUL. */
bool kw__uuid(char out[37]);

/* Of the same content always the same: FNV-1a of 128 bits over texts, each with its end, as an uuid of
 * version 8, that of no algorithm's. Begin with kw__hash_begin. */
typedef unsigned __int128 kw__hash;
extern const kw__hash kw__hash_begin;
kw__hash kw__hash_text(kw__hash hash, const char *text);
void kw__hash_uuid(kw__hash hash, char out[37]);

#endif
