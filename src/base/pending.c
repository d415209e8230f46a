#define _XOPEN_SOURCE 700 /* realpath */
#include "base/pending.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

/* Names tried for the temporary file: another process or thread may hold the first ones. */
enum { TEMP_TRIES = 100, TEMP_ROOM = 40 };

static const char *advice(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return "free some space or write to another disk";
    case EACCES:
    case EPERM:
    case EROFS: return "choose a folder you may write to";
    case ENOENT: return "create the folder first";
    case ENOTDIR: return "a part of the path is a file; choose another folder";
    case EISDIR: return "name a file in that folder";
    case EPIPE: return "the reader closed the pipe; the output is incomplete";
    case ENAMETOOLONG: return "choose a shorter name";
    case ENOMEM: return "free some memory and try again";
    default: return "check the disk and try again";
    }
}

kw_status kw__fail_write(kw_error *err, const char *path, int error)
{
    return kw__fail(err, error == ENOMEM ? KW_ERROR_MEMORY : KW_ERROR_IO, "cannot write %s: %s; %s", path,
                    strerror(error), advice(error));
}

int kw__write_all(int fd, const void *bytes, size_t n)
{
    for (const char *at = bytes; n > 0;) {
        ssize_t done = write(fd, at, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return errno;
        if (done == 0) return ENOSPC; /* not an error to POSIX, but it would loop for ever here */
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

/* ---- Opening ---------------------------------------------------------------------------------- */

/* By O_EXCL and not mkstemp: the result has the permissions the umask gives any new file. */
static int open_temp(struct kw__pending *file)
{
    size_t room = strlen(file->final) + TEMP_ROOM;
    const char *slash = strrchr(file->final, '/');
    int folder = slash ? (int)(slash - file->final) + 1 : 0;
    file->temp = malloc(room);
    if (!file->temp) return ENOMEM;
    for (int i = 0; i < TEMP_TRIES; i++) {
        (void)snprintf(file->temp, room, "%.*s.kinowatt-%ld-%d.tmp", folder, file->final, (long)getpid(), i);
        file->fd = open(file->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->fd >= 0) return 0;
        if (errno != EEXIST) break;
    }
    return errno;
}

/* Returns 0 or the errno. */
static int open_file(struct kw__pending *file)
{
    struct stat old;
    bool exists = stat(file->path, &old) == 0;
    if (!exists && errno != ENOENT) return errno;
    if (exists && S_ISDIR(old.st_mode)) return EISDIR;
    if (exists && !S_ISREG(old.st_mode)) {
        file->fd = open(file->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return file->fd < 0 ? errno : 0;
    }
    /* through a symbolic link the file is replaced, not the link */
    errno = ENOMEM;
    file->final = exists ? realpath(file->path, NULL) : strdup(file->path);
    if (!file->final) return errno;
    int error = open_temp(file);
    if (error) return error;
    return exists && fchmod(file->fd, old.st_mode & 0777) != 0 ? errno : 0;
}

static void release(struct kw__pending *file)
{
    free(file->path);
    free(file->final);
    free(file->temp);
    *file = (struct kw__pending){.fd = -1};
}

void kw__pending_discard(struct kw__pending *file)
{
    if (file->fd >= 0) {
        (void)close(file->fd);
        if (file->temp) (void)unlink(file->temp);
    }
    release(file);
}

kw_status kw__pending_open(const char *path, struct kw__pending *out, kw_error *err)
{
    *out = (struct kw__pending){.fd = -1, .path = strdup(path)};
    int error = out->path ? open_file(out) : ENOMEM;
    if (!error) return KW_OK;
    kw__pending_discard(out);
    return kw__fail_write(err, path, error);
}

kw_status kw__pending_check(const char *path, kw_error *err)
{
    struct kw__pending file;
    kw_status status = kw__pending_open(path, &file, err);
    if (!status) kw__pending_discard(&file);
    return status;
}

/* ---- Writing ----------------------------------------------------------------------------------- */

kw_status kw__pending_write(struct kw__pending *file, const void *bytes, size_t n, kw_error *err)
{
    int error = kw__write_all(file->fd, bytes, n);
    return error ? kw__fail_write(err, file->path, error) : KW_OK;
}

kw_status kw__pending_commit(struct kw__pending *file, kw_error *err)
{
    int error = file->temp && fsync(file->fd) != 0 ? errno : 0;
    /* closing reports the last failures of network file systems */
    if (close(file->fd) != 0 && !error) error = errno;
    if (file->temp && !error && rename(file->temp, file->final) != 0) error = errno;
    if (file->temp && error) (void)unlink(file->temp);
    kw_status status = error ? kw__fail_write(err, file->path, error) : KW_OK;
    release(file);
    return status;
}
