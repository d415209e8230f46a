#include "sweep/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

/* FNV-1a: where the sweep's byte is. */
static off_t byte_of(const char *uuid)
{
    uint64_t value = 0xCBF29CE484222325u;
    for (; *uuid; uuid++) value = (value ^ (unsigned char)*uuid) * 0x100000001B3u;
    return (off_t)(value >> 24); /* 40 bits: within the range of every file system */
}

kw_status kw__sweep_lock(const char *store, const char *uuid, const char *name, int *out, kw_error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s.sweeps", store) >= (int)sizeof path)
        return kw__fail(err, KW_ERROR_USAGE, "the store's path is too long; give a shorter one");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return kw__fail(err, KW_ERROR_IO, "cannot open %s: %s", path, strerror(errno));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte_of(uuid), .l_len = 1},
                 other = lock;
    if (fcntl(fd, F_SETLK, &lock) == 0) {
        *out = fd;
        return KW_OK;
    }
    int problem = errno;
    kw_status status;
    if (problem != EACCES && problem != EAGAIN)
        status = kw__fail(err, KW_ERROR_IO, "cannot lock %s: %s", path, strerror(problem));
    else if (fcntl(fd, F_GETLK, &other) == 0 && other.l_type != F_UNLCK)
        status =
            kw__fail(err, KW_ERROR_IO, "process %ld is running the sweep %s; wait for it, or stop it first",
                     (long)other.l_pid, name);
    else
        status = kw__fail(err, KW_ERROR_IO, "another process is running the sweep %s; wait for it", name);
    close(fd);
    return status;
}

void kw__sweep_release(int lock)
{
    if (lock >= 0) close(lock);
}
