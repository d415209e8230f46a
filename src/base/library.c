#include "base/library.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void *kw__library_open(const char *name, int flags, char why[KW__LIBRARY_WHY])
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | flags);
    const char *reason = library ? NULL : dlerror();
    if (library) return library;
    /* "NAME: cannot open shared object file: No such file or directory"; of a library that it needs, the text
     * begins with that one's name */
    size_t length = strlen(name);
    bool is_own = reason && strncmp(reason, name, length) == 0 && reason[length] == ':';
    if (!reason || (is_own && strstr(reason, "No such file")))
        (void)snprintf(why, KW__LIBRARY_WHY, "is not there");
    else
        (void)snprintf(why, KW__LIBRARY_WHY, "cannot be loaded: %.120s",
                       is_own ? reason + length + 1 + strspn(reason + length + 1, " ") : reason);
    return NULL;
}
