#include "cli/folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/folder.h"
#include "model/catalog.h"

static kw_status cannot(const char *what, const char *path, kw_error *err)
{
    return kw__fail(err, KW_ERROR_IO, "cannot %s '%.300s': %s", what, path, strerror(errno));
}

/* The path without trailing slashes, malloc'ed. */
static char *trimmed(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    return kw__text("%.*s", (int)length, path);
}

/* Makes a folder beside or in `path` under a name that nothing has; NULL with `err` filled. */
static char *make_temporary(const char *path, bool inside, kw_error *err)
{
    enum { TRIES = 100 };
    for (int i = 0; i < TRIES; i++) {
        char *folder = kw__text("%s%s.kinowatt-%ld-%d.tmp", path, inside ? "/" : "", (long)getpid(), i);
        if (!folder) {
            (void)kw__fail_memory(err);
            return NULL;
        }
        if (mkdir(folder, 0777) == 0) return folder;
        int error = errno;
        free(folder);
        errno = error;
        if (error != EEXIST) break;
    }
    (void)cannot(inside ? "write into" : "create", path, err);
    return NULL;
}

static void discard(const char *folder, const struct kw__file *files, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *path = kw__text("%s/%s", folder, files[i].name);
        if (path) (void)unlink(path);
        free(path);
    }
    (void)rmdir(folder);
}

static kw_status write_all(const char *folder, const struct kw__file *files, size_t count, kw_error *err)
{
    for (size_t i = 0; i < count; i++) {
        char *path = kw__text("%s/%s", folder, files[i].name);
        if (!path) return kw__fail_memory(err);
        kw_status status = kw__out_write_file(&files[i].out, path, err);
        free(path);
        if (status) return status;
    }
    return KW_OK;
}

static kw_status move_all(const char *from, const char *to, const struct kw__file *files, size_t count,
                          kw_error *err)
{
    kw_status status = KW_OK;
    for (size_t i = 0; !status && i < count; i++) {
        char *old = kw__text("%s/%s", from, files[i].name), *new = kw__text("%s/%s", to, files[i].name);
        if (!old || !new)
            status = kw__fail_memory(err);
        else if (rename(old, new) != 0)
            status = cannot("write", new, err);
        free(old);
        free(new);
    }
    if (!status) (void)rmdir(from);
    return status;
}

static kw_status write_into(char *path, const struct kw__file *files, size_t count, kw_error *err)
{
    struct stat info;
    bool there = stat(path, &info) == 0;
    if (there && !S_ISDIR(info.st_mode)) {
        errno = ENOTDIR;
        return cannot("write into", path, err);
    }
    kw_status status = there ? KW_OK : kw__folder_parents(path, err);
    if (status) return status;
    char *folder = make_temporary(path, there, err);
    if (!folder) return err && err->code ? err->code : KW_ERROR_IO;
    status = write_all(folder, files, count, err);
    if (!status && there) status = move_all(folder, path, files, count, err);
    if (!status && !there && rename(folder, path) != 0) status = cannot("create", path, err);
    if (status) discard(folder, files, count);
    free(folder);
    return status;
}

kw_status kw__folder_write(const char *path, const struct kw__file *files, size_t count, kw_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (files[i].out.failed) return kw__fail_memory(err);
    char *folder = trimmed(path);
    if (!folder) return kw__fail_memory(err);
    kw_status status = write_into(folder, files, count, err);
    free(folder);
    return status;
}
