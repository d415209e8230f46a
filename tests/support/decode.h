/* What a player sees in an mp4: its pictures, decoded by FFmpeg's libraries. */
#ifndef TESTS_SUPPORT_DECODE_H
#define TESTS_SUPPORT_DECODE_H

#include <stdbool.h>
#include <stdint.h>

/* Whether the tests were built with FFmpeg's headers and its libraries are there. */
bool decode_ready(void);

/* Decodes the file and gives each picture, in the order in which they are shown, to `see`: planes Y, Cb, Cr
 * of 8 bits at half size in 4:2:0, with the bytes of their lines. Returns how many there were, -1: it cannot
 * be decoded, or is of another format. */
int decode(const char *path, void (*see)(void *user, int index, uint8_t *const plane[3], const int line[3]),
           void *user);

#endif
