#define _GNU_SOURCE /* O_TMPFILE, realpath, sync_file_range */
#include "base/pending.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"

/* Names tried for the temporary file: another process or thread may hold the first ones. */
enum { TEMP_TRIES = 100, TEMP_ROOM = 40, MOST_LINKS = 40 };
/* Written before the disk is set to work on it. */
enum { BEGUN_BYTES = 8 << 20 };

static const char *advice(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT: return "free some space or write to another disk";
    case EFBIG: return "raise the limit of a file's size (ulimit -f) or write to another disk";
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

/* ---- Where a path leads ------------------------------------------------------------------------- */

/* Bytes of the folder's part of a path, its last '/' included; 0: the current folder. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static int stat_folder(const char *path, struct stat *info)
{
    size_t length = folder_length(path);
    char *folder = length ? strndup(path, length) : strdup(".");
    int error = !folder ? ENOMEM : stat(folder, info) != 0 ? errno : 0;
    free(folder);
    return error;
}

/* What a symbolic link says, as seen from where we are; NULL: it is none, or there is no memory. */
static char *link_target(const char *path)
{
    char target[PATH_MAX];
    ssize_t length = readlink(path, target, sizeof target);
    if (length <= 0 || length == sizeof target) return NULL;
    size_t folder = target[0] == '/' ? 0 : folder_length(path);
    char *out = malloc(folder + (size_t)length + 1);
    if (!out) return NULL;
    memcpy(out, path, folder);
    memcpy(out + folder, target, (size_t)length);
    out[folder + (size_t)length] = '\0';
    return out;
}

/* The file that a path leads to, through symbolic links also when it is not there yet. Returns 0 or the
 * errno; *final is the caller's. */
static int locate(const char *path, bool *exists, struct stat *old, char **final)
{
    *exists = stat(path, old) == 0;
    *final = NULL;
    if (!*exists && errno != ENOENT) return errno;
    errno = ENOMEM;
    *final = *exists && S_ISREG(old->st_mode) ? realpath(path, NULL) : strdup(path);
    if (!*final) return errno;
    for (int i = 0; !*exists && i < MOST_LINKS; i++) {
        char *target = link_target(*final);
        if (!target) break;
        free(*final);
        *final = target;
    }
    return 0;
}

bool kw__pending_same(const char *a, const char *b)
{
    bool there[2];
    struct stat file[2], folder[2];
    char *final[2] = {NULL, NULL};
    bool known = !locate(a, &there[0], &file[0], &final[0]) && !locate(b, &there[1], &file[1], &final[1]);
    bool same = false;
    if (known && there[0] && there[1])
        same = file[0].st_dev == file[1].st_dev && file[0].st_ino == file[1].st_ino;
    else if (known && !there[0] && !there[1] && !stat_folder(final[0], &folder[0]) &&
             !stat_folder(final[1], &folder[1]))
        same = folder[0].st_dev == folder[1].st_dev && folder[0].st_ino == folder[1].st_ino &&
               strcmp(final[0] + folder_length(final[0]), final[1] + folder_length(final[1])) == 0;
    free(final[0]);
    free(final[1]);
    return same;
}

/* ---- Opening ---------------------------------------------------------------------------------- */

static void name_temp(struct kw__pending *file, int number)
{
    (void)snprintf(file->temp, strlen(file->final) + TEMP_ROOM, "%.*s.kinowatt-%ld-%d.tmp",
                   (int)folder_length(file->final), file->final, (long)getpid(), number);
}

/* The name by which a file without one is given one. */
static void name_descriptor(int fd, char name[32])
{
    (void)snprintf(name, 32, "/proc/self/fd/%d", fd);
}

/* A file without a name, in the folder where it will get one: whatever ends the process removes it. */
static bool open_unnamed(struct kw__pending *file)
{
#ifdef O_TMPFILE
    size_t length = folder_length(file->final);
    char *folder = length ? strndup(file->final, length) : strdup("."), name[32];
    if (folder) file->fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    free(folder);
    if (file->fd < 0) return false;
    name_descriptor(file->fd, name);
    if (access(name, F_OK) == 0) return file->unnamed = true;
    (void)close(file->fd);
    file->fd = -1;
#endif
    return false;
}

/* By O_EXCL and not mkstemp: the result has the permissions the umask gives any new file. */
static int open_temp(struct kw__pending *file)
{
    file->temp = malloc(strlen(file->final) + TEMP_ROOM);
    if (!file->temp) return ENOMEM;
    if (open_unnamed(file)) return 0;
    for (int i = 0; i < TEMP_TRIES; i++) {
        name_temp(file, i);
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
    bool exists;
    int error = locate(file->path, &exists, &old, &file->final);
    if (error) return error;
    if (exists && S_ISDIR(old.st_mode)) return EISDIR;
    if (exists && !S_ISREG(old.st_mode)) {
        file->fd = open(file->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return file->fd < 0 ? errno : 0;
    }
    error = open_temp(file);
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
        if (file->temp && !file->unnamed) (void)unlink(file->temp);
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

/* A pipe is not opened to look: that would wait for its reader, and end it. */
static int check_special(const char *path, bool *special)
{
    struct stat info;
    *special = stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
    if (*special && S_ISSOCK(info.st_mode)) return ENXIO;
    return *special && access(path, W_OK) != 0 ? errno : 0;
}

/* Whether a file may take its name: in a folder of another user with the sticky bit, or one to which may only
 * be added, a file can be made and the one that is there not be replaced. rmdir removes no file, and says
 * what stands against removing it before it says that it is none. A temporary file that has a name is
 * removed, as it would be renamed. Returns 0 or the errno. */
static int check_place(struct kw__pending *file)
{
    struct stat old;
    if (file->temp && !file->unnamed && unlink(file->temp) != 0) return errno;
    if (file->temp && lstat(file->final, &old) == 0 && S_ISREG(old.st_mode) && rmdir(file->final) != 0 &&
        (errno == EPERM || errno == EACCES || errno == EROFS))
        return errno;
    return 0;
}

kw_status kw__pending_check(const char *path, kw_error *err)
{
    struct kw__pending file;
    bool special;
    int error = check_special(path, &special);
    if (error) return kw__fail_write(err, path, error);
    kw_status status = special ? KW_OK : kw__pending_open(path, &file, err);
    if (status || special) return status;
    error = check_place(&file);
    kw__pending_discard(&file);
    return error ? kw__fail_write(err, path, error) : KW_OK;
}

/* ---- Room --------------------------------------------------------------------------------------- */

/* "1.50 GiB" */
static const char *format_size(double bytes, char out[32])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    for (bytes /= 1024; bytes >= 1024 && unit < 3; bytes /= 1024) unit++;
    (void)snprintf(out, 32, "%.2f %s", bytes, units[unit]);
    return out;
}

/* The disk a file would be on and what is free there; false: not a file, or not known. */
static bool disk_of(const char *path, dev_t *disk, double *available)
{
    struct stat old, folder;
    struct statvfs info;
    bool exists;
    char *final;
    bool known = !locate(path, &exists, &old, &final) && (!exists || S_ISREG(old.st_mode)) &&
                 !stat_folder(final, &folder);
    if (known) final[folder_length(final)] = '\0';
    known = known && statvfs(*final ? final : ".", &info) == 0 && info.f_blocks > 0;
    free(final);
    if (!known) return false;
    *disk = folder.st_dev;
    *available = (double)info.f_bavail * (double)info.f_frsize;
    return true;
}

kw_status kw__pending_room(int count, const char *const *paths, const double *bytes, kw_error *err)
{
    char needs[32], has[32];
    struct rlimit limit;
    double most = getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY ? INFINITY
                                                                                     : (double)limit.rlim_cur;
    for (int i = 0; i < count; i++) {
        dev_t disk, other;
        double available, needed = 0, ignored;
        if (!disk_of(paths[i], &disk, &available)) continue;
        if (bytes[i] > most)
            return kw__fail(
                err, KW_ERROR_IO,
                "cannot write %s: it takes %s and a file may have %s; raise the limit (ulimit -f)", paths[i],
                format_size(bytes[i], needs), format_size(most, has));
        for (int k = 0; k < count; k++)
            if (disk_of(paths[k], &other, &ignored) && other == disk) needed += bytes[k];
        if (needed > available)
            return kw__fail(err, KW_ERROR_IO,
                            "cannot write %s: %s are needed on its disk and %s are free; free some space or "
                            "write to another disk",
                            paths[i], format_size(needed, needs), format_size(available, has));
    }
    return KW_OK;
}

/* ---- Writing ----------------------------------------------------------------------------------- */

kw_status kw__pending_write(struct kw__pending *file, const void *bytes, size_t n, kw_error *err)
{
    int error = kw__write_all(file->fd, bytes, n);
    file->begun += n;
    if (file->begun >= BEGUN_BYTES && file->temp) {
        /* a hint: what fails here is told when the file is synced */
        (void)sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        file->begun = 0;
    }
    return error ? kw__fail_write(err, file->path, error) : KW_OK;
}

/* Gives a file its name: at once where nothing has it, else by way of a temporary one. */
static int link_unnamed(struct kw__pending *file, bool *in_place)
{
    char name[32];
    name_descriptor(file->fd, name);
    *in_place = linkat(AT_FDCWD, name, AT_FDCWD, file->final, AT_SYMLINK_FOLLOW) == 0;
    if (*in_place) return 0;
    for (int i = 0; errno == EEXIST && i < TEMP_TRIES; i++) {
        name_temp(file, i);
        file->unnamed = linkat(AT_FDCWD, name, AT_FDCWD, file->temp, AT_SYMLINK_FOLLOW) != 0;
        if (!file->unnamed) return 0;
    }
    return errno;
}

kw_status kw__pending_commit(struct kw__pending *file, kw_error *err)
{
    bool in_place = !file->temp;
    int error = file->temp && fsync(file->fd) != 0 ? errno : 0;
    if (file->unnamed && !error) error = link_unnamed(file, &in_place);
    /* closing reports the last failures of network file systems, which have no files without a name */
    if (close(file->fd) != 0 && !error && !file->unnamed) error = errno;
    if (!in_place && !error && rename(file->temp, file->final) != 0) error = errno;
    if (!in_place && error && !file->unnamed) (void)unlink(file->temp);
    kw_status status = error ? kw__fail_write(err, file->path, error) : KW_OK;
    release(file);
    return status;
}
