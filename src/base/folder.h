/* Folders that files are to be put in. */
#ifndef KW_BASE_FOLDER_H
#define KW_BASE_FOLDER_H

#include "kinowatt.h"

/* Makes the folders above a file's path that are not there. `path` is changed meanwhile. */
kw_status kw__folder_parents(char *path, kw_error *err);

#endif
