#include "model/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

static const struct {
    const char *folder, *suffix, *noun;
} kinds[KW__NUM_KINDS] = {
    [KW_MODELS] = {"models", "", "model"},
    [KW_HARDWARE] = {"hardware", ".json", "hardware"},
    [KW_STACKS] = {"stacks", ".json", "stack"},
    [KW_CALIBRATIONS] = {"calibrations", ".json", "calibration"},
};

char *kw__text(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : malloc((size_t)length + 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

enum { PATH_BYTES = 4096 }; /* Linux opens no longer path */

/* A data folder has models/ and stacks/. */
static bool is_data_folder(const char *path)
{
    char models[PATH_BYTES], stacks[PATH_BYTES];
    int length = snprintf(models, sizeof models, "%s/models", path);
    if (length < 0 || length >= PATH_BYTES) return false;
    snprintf(stacks, sizeof stacks, "%s/stacks", path);
    return is_folder(models) && is_folder(stacks);
}

/* The data beside the running program: build/kinowatt has ../data, bin/kinowatt ../share/kinowatt.
 * `room` has PATH_BYTES. */
static const char *beside_program(char *room)
{
    static const char *const places[] = {"data", "share/kinowatt"};
    ssize_t length = readlink("/proc/self/exe", room, PATH_BYTES - 32);
    if (length <= 0) return NULL;
    room[length] = '\0';
    char *slash = strrchr(room, '/');
    if (slash) *slash = '\0'; /* the program's folder, and then the one above */
    slash = strrchr(room, '/');
    if (!slash) return NULL;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(slash + 1, 32, "%s", places[i]);
        if (is_data_folder(room)) return room;
    }
    return NULL;
}

static kw_status find_folder(const char *wanted, char **out, kw_error *err)
{
    char room[PATH_BYTES];
    const char *environment = getenv("KINOWATT_DATA");
    if (!wanted && environment && *environment) wanted = environment;
    if (!wanted) wanted = beside_program(room);
    char *path = kw__text("%s", wanted ? wanted : KW_DATADIR);
    if (!path) return kw__fail_memory(err);
    if (!is_data_folder(path)) {
        kw_status status = kw__fail(
            err, KW_ERROR_NOT_FOUND,
            "%s is no kinowatt data folder (it needs models/ and stacks/); give --data DIR or set KINOWATT_DATA",
            path);
        free(path);
        return status;
    }
    *out = path;
    return KW_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *kw__user_calibrations(void)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (data && data[0] == '/')
        return kw__text("%s/kinowatt/calibrations", data); /* relative ones are void */
    return home && *home ? kw__text("%s/.local/share/kinowatt/calibrations", home) : NULL;
}

/* The names of a kind in one folder, sorted, those aside that are among the first `known`. */
static kw_status list_folder(kw_catalog *catalog, kw_kind kind, const char *path, size_t known, kw_error *err)
{
    errno = 0;
    DIR *folder = opendir(path);
    int problem = errno;
    kw_status status = KW_OK; /* an absent folder holds nothing */
    if (!folder && problem == ENOMEM)
        status = kw__fail_memory(err);
    else if (!folder && problem != ENOENT)
        status = kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", path, strerror(problem));
    if (!folder) return status;
    size_t capacity = catalog->counts[kind], count = catalog->counts[kind],
           suffix = strlen(kinds[kind].suffix);
    const char **names = catalog->names[kind];
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (entry->d_name[0] == '.' || length <= suffix) continue;
        if (strcmp(entry->d_name + length - suffix, kinds[kind].suffix) != 0) continue;
        if (kind == KW_MODELS) { /* a file beside the model folders is no model */
            char *entry_path = kw__text("%s/%s", path, entry->d_name);
            bool model = entry_path && is_folder(entry_path);
            if (!entry_path) catalog->arena.failed = true;
            free(entry_path);
            if (!model) continue;
        }
        char *name = kw__arena_strdup(&catalog->arena, entry->d_name);
        if (!name) break;
        name[length - suffix] = '\0';
        bool hidden = false;
        for (size_t i = 0; i < known && !hidden; i++) hidden = strcmp(names[i], name) == 0;
        if (hidden) continue;
        names = kw__arena_grow(&catalog->arena, names, count, &capacity, sizeof *names);
        if (!names) break;
        names[count++] = name;
    }
    closedir(folder);
    if (catalog->arena.failed) return kw__fail_memory(err);
    if (count > known) qsort(names + known, count - known, sizeof *names, compare_names);
    catalog->names[kind] = names;
    catalog->counts[kind] = count;
    return KW_OK;
}

static kw_status list_kind(kw_catalog *catalog, kw_kind kind, kw_error *err)
{
    if (kind == KW_CALIBRATIONS && catalog->user_folder) {
        kw_status status = list_folder(catalog, kind, catalog->user_folder, 0, err);
        if (status) return status;
        catalog->num_users = catalog->counts[kind];
    }
    char *path = kw__text("%s/%s", catalog->folder, kinds[kind].folder);
    if (!path) return kw__fail_memory(err);
    kw_status status = list_folder(catalog, kind, path, catalog->counts[kind], err);
    free(path);
    return status;
}

kw_status kw_catalog_open(const char *data_dir, kw_catalog **out, kw_error *err)
{
    kw__error_clear(err);
    char *path = NULL;
    kw_status status = find_folder(data_dir, &path, err);
    if (status) return status;
    kw_catalog *catalog = calloc(1, sizeof *catalog);
    if (catalog) {
        kw__arena_init(&catalog->arena);
        catalog->folder = kw__arena_strdup(&catalog->arena, path);
        char *user = kw__user_calibrations();
        if (user) catalog->user_folder = kw__arena_strdup(&catalog->arena, user);
        free(user);
    }
    free(path);
    if (!catalog || !catalog->folder) status = kw__fail_memory(err);
    for (int kind = 0; !status && kind < KW__NUM_KINDS; kind++)
        status = list_kind(catalog, (kw_kind)kind, err);
    if (status) {
        kw_catalog_close(catalog);
        return status;
    }
    *out = catalog;
    return KW_OK;
}

void kw_catalog_close(kw_catalog *catalog)
{
    if (!catalog) return;
    kw__arena_free(&catalog->arena);
    free(catalog);
}

size_t kw_catalog_count(const kw_catalog *catalog, kw_kind kind)
{
    return catalog->counts[kind];
}

const char *kw_catalog_name(const kw_catalog *catalog, kw_kind kind, size_t index)
{
    return index < catalog->counts[kind] ? catalog->names[kind][index] : NULL;
}

bool kw__catalog_has(const kw_catalog *catalog, kw_kind kind, const char *name)
{
    for (size_t i = 0; i < catalog->counts[kind]; i++)
        if (strcmp(catalog->names[kind][i], name) == 0) return true;
    return false;
}

/* "a, b, c". False: there are none, or more than fit into a message. */
static bool list_names(const kw_catalog *catalog, kw_kind kind, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < catalog->counts[kind] && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", catalog->names[kind][i]);
    return used > 0 && used < size;
}

kw_status kw__catalog_path(const kw_catalog *catalog, kw_kind kind, const char *name, char **path,
                           kw_error *err)
{
    for (size_t i = 0; i < catalog->counts[kind]; i++) {
        if (strcmp(catalog->names[kind][i], name) != 0) continue;
        *path = kind == KW_CALIBRATIONS && i < catalog->num_users
                    ? kw__text("%s/%s%s", catalog->user_folder, name, kinds[kind].suffix)
                    : kw__text("%s/%s/%s%s", catalog->folder, kinds[kind].folder, name, kinds[kind].suffix);
        return *path ? KW_OK : kw__fail_memory(err);
    }
    const char *nearest = kw__nearest_name(name, catalog->names[kind], catalog->counts[kind]);
    if (nearest)
        return kw__fail(err, KW_ERROR_NOT_FOUND, "unknown %s \"%s\"; did you mean \"%s\"?", kinds[kind].noun,
                        name, nearest);
    char names[400];
    if (list_names(catalog, kind, names, sizeof names))
        return kw__fail(err, KW_ERROR_NOT_FOUND, "unknown %s \"%.60s\"; known: %s%s", kinds[kind].noun, name,
                        names, kind == KW_HARDWARE ? ", cpu" : "");
    return kw__fail(err, KW_ERROR_NOT_FOUND, "unknown %s \"%s\"; the names are in %s/%s", kinds[kind].noun,
                    name, catalog->folder, kinds[kind].folder);
}
