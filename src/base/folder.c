#include "base/folder.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"

kw_status kw__folder_parents(char *path, kw_error *err)
{
    for (char *at = path + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        int failed = mkdir(path, 0777) != 0 && errno != EEXIST;
        kw_status status =
            failed ? kw__fail(err, KW_ERROR_IO, "cannot create '%.300s': %s", path, strerror(errno)) : KW_OK;
        *at = '/';
        if (status) return status;
    }
    return KW_OK;
}
