/* The data folder: where it is, and what is in it.
 *
 * Calibrations have a second place, the user's: ${XDG_DATA_HOME:-$HOME/.local/share}/kinowatt/calibrations,
 * where `kinowatt calibrate --device` puts what holds for this machine alone. They come first, and one of
 * the user's hides a shipped one of the same name. */
#ifndef KW_MODEL_CATALOG_H
#define KW_MODEL_CATALOG_H

#include "base/arena.h"
#include "kinowatt.h"

enum { KW__NUM_KINDS = 4 };

struct kw_catalog {
    struct kw__arena arena;
    const char *folder, *user_folder; /* user_folder: NULL when the environment names none */
    size_t num_users;                 /* of names[KW_CALIBRATIONS], the first: the user's */
    const char **names[KW__NUM_KINDS];
    size_t counts[KW__NUM_KINDS];
};

/* The path of an entry: <folder>/models/<name>, or <folder>/hardware/<name>.json. NULL when the
 * catalog has none of that name. *path is allocated with malloc. */
kw_status kw__catalog_path(const kw_catalog *catalog, kw_kind kind, const char *name, char **path,
                           kw_error *err);

bool kw__catalog_has(const kw_catalog *catalog, kw_kind kind, const char *name);

/* The user's folder of calibrations, there or not; NULL without XDG_DATA_HOME and HOME, or without
 * memory. The caller frees it. */
char *kw__user_calibrations(void);

/* malloc'ed text in printf format; NULL without memory. */
char *kw__text(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
