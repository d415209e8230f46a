/* Locks of open files are Linux's own. */
#define _GNU_SOURCE
#include "sweep/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

/* FNV-1a: where the sweep's bytes are. */
static struct flock bytes_of(const char *uuid, int which)
{
    uint64_t value = 0xCBF29CE484222325u;
    for (; *uuid; uuid++) value = (value ^ (unsigned char)*uuid) * 0x100000001B3u;
    off_t at = (off_t)(value >> 24) * 2 + which; /* 41 bits: within the range of every file system */
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
}

static kw_status lock_process(int fd, const char *uuid, const char *path, const char *name, kw_error *err)
{
    struct flock lock = bytes_of(uuid, 0), other = lock;
    if (fcntl(fd, F_SETLK, &lock) == 0) return KW_OK;
    if (errno != EACCES && errno != EAGAIN)
        return kw__fail(err, KW_ERROR_IO, "cannot lock %s: %s", path, strerror(errno));
    if (fcntl(fd, F_GETLK, &other) == 0 && other.l_type != F_UNLCK)
        return kw__fail(err, KW_ERROR_IO,
                        "process %ld is running the sweep %s; wait for it, or stop it first",
                        (long)other.l_pid, name);
    return kw__fail(err, KW_ERROR_IO, "another process is running the sweep %s; wait for it", name);
}

kw_status kw__sweep_lock(const char *store, const char *uuid, const char *name, struct kw__sweep_lock *out,
                         kw_error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s.sweeps", store) >= (int)sizeof path)
        return kw__fail(err, KW_ERROR_USAGE, "the store's path is too long; give a shorter one");
    *out = (struct kw__sweep_lock)KW__SWEEP_LOCK_NONE;
    out->process = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (out->process >= 0) out->programs = open(path, O_RDWR);
    kw_status status = out->programs < 0
                           ? kw__fail(err, KW_ERROR_IO, "cannot open %s: %s", path, strerror(errno))
                           : lock_process(out->process, uuid, path, name, err);
    if (status) kw__sweep_release(out);
    return status;
}

/* Where the system has no such locks there is nothing to wait for. */
bool kw__sweep_lock_programs(const struct kw__sweep_lock *lock, const char *uuid)
{
    struct flock bytes = bytes_of(uuid, 1);
    return fcntl(lock->programs, F_OFD_SETLK, &bytes) == 0 || (errno != EACCES && errno != EAGAIN);
}

void kw__sweep_release(struct kw__sweep_lock *lock)
{
    if (lock->programs >= 0) close(lock->programs);
    if (lock->process >= 0) close(lock->process);
    *lock = (struct kw__sweep_lock)KW__SWEEP_LOCK_NONE;
}
