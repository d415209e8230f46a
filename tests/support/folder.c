#include "support/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 1024 };

static void join(char *path, const char *folder, const char *name)
{
    int length = snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    assert_true(length > 0 && length < PATH_BYTES);
}

void folder_new(char *folder)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, FOLDER_BYTES, "%s/kinowatt-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) fail_msg("cannot make %s: %s", folder, strerror(errno));
}

static void copy_file(const char *from, const char *to)
{
    char buffer[1 << 14];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (!in || !out) fail_msg("cannot copy %s to %s", from, to);
    for (size_t count; (count = fread(buffer, 1, sizeof buffer, in)) > 0;)
        assert_int_equal(fwrite(buffer, 1, count, out), count);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static void copy_into(const char *from, const char *to)
{
    DIR *folder = opendir(from);
    if (!folder) fail_msg("cannot read %s", from);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char source[PATH_BYTES], target[PATH_BYTES];
        struct stat info;
        if (entry->d_name[0] == '.') continue;
        join(source, from, entry->d_name);
        join(target, to, entry->d_name);
        assert_int_equal(stat(source, &info), 0);
        if (S_ISDIR(info.st_mode)) {
            assert_int_equal(mkdir(target, 0755), 0);
            copy_into(source, target);
        } else {
            copy_file(source, target);
        }
    }
    closedir(folder);
}

void folder_copy(const char *from, char *folder)
{
    folder_new(folder);
    copy_into(from, folder);
}

void folder_remove(const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0) return;
    DIR *folder = S_ISDIR(info.st_mode) ? opendir(path) : NULL;
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        char child[PATH_BYTES];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        join(child, path, entry->d_name);
        folder_remove(child);
    }
    if (folder) closedir(folder);
    assert_int_equal(remove(path), 0);
}

void folder_write(const char *folder, const char *file, const char *text)
{
    char path[PATH_BYTES];
    join(path, folder, file);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    mkdir(path, 0755); /* it may be there */
    *slash = '/';
    FILE *out = fopen(path, "wb");
    if (!out) fail_msg("cannot write %s", path);
    assert_int_equal(fwrite(text, 1, strlen(text), out), strlen(text));
    assert_int_equal(fclose(out), 0);
}

/* The container that holds the last step of `key`, which is written to `last`. */
static json_t *walk(json_t *at, const char *key, char *last)
{
    for (;;) {
        size_t length = strcspn(key, ".");
        assert_true(length < 128);
        snprintf(last, 128, "%.*s", (int)length, key);
        if (!key[length]) return at;
        at = json_is_array(at) ? json_array_get(at, strtoul(last, NULL, 10)) : json_object_get(at, last);
        if (!at) fail_msg("there is no \"%s\" to set", last);
        key += length + 1;
    }
}

void folder_set(const char *folder, const char *file, const char *key, const char *json)
{
    char path[PATH_BYTES], last[128];
    json_error_t problem;
    join(path, folder, file);
    json_t *root = json_load_file(path, 0, &problem);
    if (!root) fail_msg("%s: %s", path, problem.text);
    json_t *container = walk(root, key, last), *value = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
    int failed;
    if (json && !value) fail_msg("\"%s\" is not JSON", json);
    if (json_is_array(container))
        failed = json_array_set_new(container, strtoul(last, NULL, 10), value);
    else if (json)
        failed = json_object_set_new(container, last, value);
    else
        failed = json_object_del(container, last);
    if (failed) fail_msg("cannot set \"%s\" of %s", key, path);
    assert_int_equal(json_dump_file(root, path, JSON_INDENT(1)), 0);
    json_decref(root);
}
