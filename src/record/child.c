#include "record/child.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

extern char **environ;

/* ---- Descriptors ------------------------------------------------------------------------------------ */

void kw__descriptors_note(struct kw__descriptors *out)
{
    for (int fd = 0; fd < KW__MAX_DESCRIPTORS; fd++) out->open[fd] = fcntl(fd, F_GETFD) >= 0;
}

void kw__descriptors_keep_back(const struct kw__descriptors *before)
{
    for (int fd = STDERR_FILENO + 1; fd < KW__MAX_DESCRIPTORS; fd++)
        if (!before->open[fd]) (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* ---- Starting --------------------------------------------------------------------------------------- */

static bool is_set(const char *entry, const char *const *set)
{
    for (; *set; set += 2) {
        size_t length = strlen(set[0]);
        if (strncmp(entry, set[0], length) == 0 && entry[length] == '=') return true;
    }
    return false;
}

static void free_environment(char **entries)
{
    for (char **e = entries; e && *e; e++) free(*e);
    free(entries);
}

/* The environment with some entries replaced. NULL without memory. */
static char **make_environment(const char *const *set)
{
    size_t count = 0, used = 0;
    for (char **e = environ; e && *e; e++) count++;
    for (const char *const *s = set; *s; s += 2) count++;
    char **entries = calloc(count + 1, sizeof *entries);
    for (char **e = environ; entries && e && *e; e++)
        if (!is_set(*e, set) && !(entries[used++] = strdup(*e))) goto failed;
    for (const char *const *s = set; entries && *s; s += 2) {
        size_t bytes = strlen(s[0]) + strlen(s[1]) + 2;
        if (!(entries[used] = malloc(bytes))) goto failed;
        snprintf(entries[used++], bytes, "%s=%s", s[0], s[1]);
    }
    return entries;
failed:
    free_environment(entries);
    return NULL;
}

static int set_up(const struct kw__child_options *options, posix_spawnattr_t *attributes,
                  posix_spawn_file_actions_t *actions)
{
    sigset_t defaults; /* what the command's main ignores */
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGXFSZ);
    int rc = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!rc) rc = posix_spawnattr_setsigmask(attributes, options->mask);
    if (!rc) rc = posix_spawnattr_setsigdefault(attributes, &defaults);
    if (!rc && options->output >= 0)
        rc = posix_spawn_file_actions_adddup2(actions, options->output, STDOUT_FILENO);
    if (!rc && options->error >= 0)
        rc = posix_spawn_file_actions_adddup2(actions, options->error, STDERR_FILENO);
    return rc;
}

kw_status kw__child_start(const struct kw__child_options *options, pid_t *out, kw_error *err)
{
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    const char *name = options->argv[0];
    char **environment = make_environment(options->set);
    if (!environment) return kw__fail_memory(err);
    int rc = posix_spawnattr_init(&attributes);
    if (!rc && (rc = posix_spawn_file_actions_init(&actions))) posix_spawnattr_destroy(&attributes);
    if (rc) {
        free_environment(environment);
        return kw__fail_memory(err);
    }
    rc = set_up(options, &attributes, &actions);
    if (!rc) rc = posix_spawnp(out, name, &actions, &attributes, options->argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    free_environment(environment);
    if (!rc) return KW_OK;
    if (rc == ENOENT) return kw__fail(err, KW_ERROR_NOT_FOUND, "%.200s: there is no such command", name);
    if (rc == ENOEXEC)
        return kw__fail(err, KW_ERROR_UNSUPPORTED,
                        "%.200s is no program of this machine; a script's first line names its interpreter, "
                        "#!/bin/sh",
                        name);
    return kw__fail(err, rc == EAGAIN || rc == ENOMEM ? KW_ERROR_MEMORY : KW_ERROR_UNSUPPORTED,
                    "%.200s can't be executed: %s", name, strerror(rc));
}

int kw__exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- What is left behind ---------------------------------------------------------------------------- */

static size_t put_child(char *buffer, size_t size, const char *pid, size_t count)
{
    char path[64], name[32] = "";
    size_t used = strlen(buffer);
    snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
    FILE *file = fopen(path, "re");
    if (file && fgets(name, sizeof name, file)) name[strcspn(name, "\n")] = '\0';
    if (file) fclose(file);
    snprintf(buffer + used, size - used, "%s%.20s (%s)", count ? ", " : "", pid, name);
    return count + 1;
}

size_t kw__children_text(char *buffer, size_t size)
{
    size_t count = 0;
    *buffer = '\0';
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        char path[300], pid[24];
        if (!isdigit((unsigned char)task->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", task->d_name);
        FILE *file = fopen(path, "re");
        while (file && fscanf(file, "%23s", pid) == 1) count = put_child(buffer, size, pid, count);
        if (file) fclose(file);
    }
    if (tasks) closedir(tasks);
    return count;
}
