/* A file that appears whole or not at all.
 *
 * What is written goes to a file without a name on the path's disk, which is synced and gets the name at
 * the end. At every moment the path is what it was or the complete new file, and a crash or SIGKILL leaves
 * nothing else behind. Where the file system has no such files (NFS), or for the instant in which an old
 * file is replaced, it is a hidden one beside the path, ".kinowatt-PID-N.tmp", which SIGKILL leaves. A
 * symbolic link is followed, also to where no file is yet; an existing file keeps its permissions. A path
 * that names a device, pipe or terminal is written directly, since replacing /dev/null by a file is nobody's
 * wish.
 *
 * Messages read "cannot write PATH: why; what to do". */
#ifndef KW_BASE_PENDING_H
#define KW_BASE_PENDING_H

#include <stdbool.h>
#include <stddef.h>

#include "kinowatt.h"

struct kw__pending {
    int fd;             /* open for writing, at any place of the file */
    char *path, *final; /* what the caller named, and the file that it leads to */
    char *temp;         /* room for the temporary file's name; NULL: written directly */
    bool unnamed;       /* it has none */
    size_t begun;       /* bytes since the disk was last set to work */
};

/* On failure there is nothing to discard. */
kw_status kw__pending_open(const char *path, struct kw__pending *out, kw_error *err);
/* Appends at the file's offset. After a failure the caller discards. */
kw_status kw__pending_write(struct kw__pending *file, const void *bytes, size_t n, kw_error *err);
/* Both end the use of `file`; the first puts it in its place, or on failure leaves none. */
kw_status kw__pending_commit(struct kw__pending *file, kw_error *err);
void kw__pending_discard(struct kw__pending *file);

/* Whether a file could be written there now: a run asks before it starts, not after hours. */
kw_status kw__pending_check(const char *path, kw_error *err);
/* Whether two paths lead to one file, there or not: through links, and however the folder is spelled. */
bool kw__pending_same(const char *a, const char *b);
/* Whether files of so many bytes fit on their disks and under the limit of a file's size: KW_ERROR_IO with
 * both figures. What they replace stays until they are whole, so it makes no room. */
kw_status kw__pending_room(int count, const char *const *paths, const double *bytes, kw_error *err);

/* The message and status of a failed write. */
kw_status kw__fail_write(kw_error *err, const char *path, int error);
/* Writes all bytes, however many calls it takes. Returns 0 or the errno. */
int kw__write_all(int fd, const void *bytes, size_t n);

#endif
