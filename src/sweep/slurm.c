#include "sweep/slurm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/folder.h"
#include "report/out.h"
#include "sweep/lock.h"

extern char **environ;

/* ---- Slurm's commands ------------------------------------------------------------------------------- */

enum { CAPTURED = 1 << 20 };

/* Reads to the end; what is beyond CAPTURED is left out. */
static void read_all(int fd, struct kw__out *out)
{
    char buffer[4096];
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0 || (got < 0 && errno == EINTR))
        if (got > 0 && out->len < CAPTURED) kw__out_write(out, buffer, (size_t)got);
}

static int spawn(char *const *argv, int output, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc) return rc;
    rc = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    if (!rc) rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!rc) rc = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* The first line that says something, without its end. */
static const char *first_line(struct kw__out *out)
{
    char *text = out->data ? out->data : "";
    text += strspn(text, "\n ");
    if (*text) text[strcspn(text, "\n")] = '\0';
    return text;
}

/* Runs a command of Slurm; *out has what it printed. */
static kw_status ask(char *const *argv, struct kw__out *out, kw_error *err)
{
    int fds[2], status = -1;
    pid_t pid;
    kw__out_init(out);
    if (pipe(fds)) return kw__fail(err, KW_ERROR_IO, "cannot start %s: %s", argv[0], strerror(errno));
    (void)fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    int rc = spawn(argv, fds[1], &pid);
    close(fds[1]);
    if (!rc) read_all(fds[0], out);
    close(fds[0]);
    while (!rc && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (rc == ENOENT)
        return kw__fail(
            err, KW_ERROR_DEVICE,
            "%s is not there: --launcher slurm needs Slurm's commands; run this where jobs are submitted",
            argv[0]);
    if (rc) return kw__fail(err, KW_ERROR_IO, "cannot start %s: %s", argv[0], strerror(rc));
    if (out->failed) return kw__fail_memory(err);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return KW_OK;
    return kw__fail(err, KW_ERROR_DEVICE,
                    "%s failed: %.300s; 'scontrol ping' says whether the cluster answers", argv[0],
                    first_line(out));
}

kw_status kw__slurm_ready(kw_error *err)
{
    char squeue[] = "squeue", header[] = "--noheader", name[] = "--name=kinowatt";
    char *argv[] = {squeue, header, name, NULL};
    struct kw__out out;
    kw_status status = ask(argv, &out, err);
    kw__out_free(&out);
    return status;
}

/* ---- Files -------------------------------------------------------------------------------------------- */

static kw_status path_of(const struct kw__slurm_options *o, const char *file, char out[PATH_MAX],
                         kw_error *err)
{
    const char *slash = strrchr(o->path, '/');
    int folder = slash ? (int)(slash - o->path) : 0;
    if (snprintf(out, PATH_MAX, "%.*s/sweeps/%s/%s", folder, o->path, o->plan->options.name, file) < PATH_MAX)
        return KW_OK;
    return kw__fail(err, KW_ERROR_USAGE, "the store's path is too long; give a shorter one");
}

static kw_status task_path(const struct kw__slurm_options *o, int64_t task, const char *suffix,
                           char out[PATH_MAX], kw_error *err)
{
    char file[64];
    snprintf(file, sizeof file, "task-%" PRId64 ".%s", task, suffix);
    return path_of(o, file, out, err);
}

/* The last line of a task's log that says something. */
static void read_last(const char *path, char *out, size_t size)
{
    char text[2048];
    FILE *file = fopen(path, "re");
    *out = '\0';
    if (!file) return;
    if (fseek(file, -(long)sizeof text + 1, SEEK_END)) rewind(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    while (length && (text[length - 1] == '\n' || text[length - 1] == ' ')) length--;
    text[length] = '\0';
    const char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    const char *shown = strrchr(line, '\r'); /* of a line that was drawn again and again */
    snprintf(out, size, "%.*s", (int)size - 1, shown ? shown + 1 : line);
}

/* ---- Gathering ----------------------------------------------------------------------------------------- */

static void job_name(const struct kw__slurm_options *o, const char *prefix, char out[80])
{
    snprintf(out, 80, "%skinowatt-%s", prefix, o->plan->uuid);
}

static kw_status read_queue(const struct kw__slurm_options *o, struct kw__slurm_task *tasks, kw_error *err)
{
    char squeue[] = "squeue", array[] = "--array", header[] = "--noheader", format[] = "--format=%K %T",
         name[80];
    char *argv[] = {squeue, array, header, name, format, NULL};
    struct kw__out out;
    job_name(o, "--name=", name);
    kw_status status = ask(argv, &out, err);
    for (const char *line = out.data; !status && line && *line;) {
        char *end;
        long long task = strtoll(line, &end, 10);
        size_t length = strcspn(end, "\n"), blank = strspn(end, " ");
        if (end != line && task >= 0 && task < o->plan->options.tasks && blank < length)
            snprintf(tasks[task].queue, sizeof tasks[task].queue, "%.*s", (int)(length - blank), end + blank);
        line = end[length] ? end + length + 1 : NULL;
    }
    kw__out_free(&out);
    return status;
}

static kw_status take(void *store, struct kw__run *run, kw_error *err)
{
    return kw__store_add(store, run, err);
}

static kw_status gather_task(const struct kw__slurm_options *o, int64_t task, struct kw__slurm_task *out,
                             kw_error *err)
{
    const struct kw__run_filter filter = {.sweep = o->plan->uuid};
    struct kw__store *theirs;
    char path[PATH_MAX];
    kw_error held;
    struct kw__sweep_lock lock;
    kw_status status = task_path(o, task, "db", path, err);
    if (status) return status;
    struct stat info;
    out->exists = stat(path, &info) == 0;
    if (!out->exists) return KW_OK;
    out->busy = kw__sweep_lock(path, o->plan->uuid, o->plan->options.name, &lock, &held) != KW_OK;
    if (out->busy) return KW_OK;
    status = kw__store_open(path, KW__STORE_WRITE, &theirs, err); /* also mends what a dead node left */
    if (!status) {
        status = kw__store_begin(o->store, err);
        if (!status) {
            status = kw__store_each(theirs, &filter, take, o->store, err);
            kw_status ended = kw__store_end(o->store, !status, status ? NULL : err);
            if (!status) status = ended;
        }
        kw__store_close(theirs);
    }
    kw__sweep_release(&lock);
    return status;
}

kw_status kw__slurm_gather(const struct kw__slurm_options *o, struct kw__slurm_task *tasks, kw_error *err)
{
    memset(tasks, 0, (size_t)o->plan->options.tasks * sizeof *tasks);
    kw_status status = read_queue(o, tasks, err);
    for (int64_t task = 0; !status && task < o->plan->options.tasks; task++) {
        if (!tasks[task].queue[0]) status = gather_task(o, task, &tasks[task], err);
        if (!status) status = task_path(o, task, "log", tasks[task].log, err);
        if (!status) read_last(tasks[task].log, tasks[task].last, sizeof tasks[task].last);
    }
    return status;
}

/* ---- Submitting ---------------------------------------------------------------------------------------- */

/* The task's own store, with the plan and its share. */
static kw_status prepare_task(const struct kw__slurm_options *o, int64_t task, kw_error *err)
{
    struct kw__sweep_plan *share = NULL;
    struct kw__store *store;
    char path[PATH_MAX], *text;
    bool found;
    kw_status status = kw__sweep_plan_to_json(o->plan, &text, err);
    if (status) return status;
    status = kw__sweep_plan_from_json(text, &share, err);
    free(text);
    if (!status) share->task = task;
    if (!status) status = task_path(o, task, "db", path, err);
    if (!status) status = kw__folder_parents(path, err);
    if (!status) status = kw__store_open(path, KW__STORE_WRITE, &store, err);
    if (!status) {
        status = kw__sweep_keep(store, &share, &found, err);
        kw__store_close(store);
    }
    kw__sweep_plan_free(share);
    return status;
}

/* As one word of a shell. */
static void put_quoted(struct kw__out *out, const char *text)
{
    kw__out_puts(out, "'");
    for (; *text; text++) {
        if (*text == '\'')
            kw__out_puts(out, "'\\''");
        else
            kw__out_write(out, text, 1);
    }
    kw__out_puts(out, "'");
}

static kw_status write_script(const struct kw__slurm_options *o, char path[PATH_MAX], kw_error *err)
{
    char program[PATH_MAX], folder[PATH_MAX];
    struct kw__out out;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0) return kw__fail(err, KW_ERROR_IO, "cannot find this program: %s", strerror(errno));
    program[length] = '\0';
    kw_status status = path_of(o, "job.sh", path, err);
    if (!status) status = path_of(o, "task-", folder, err);
    if (status) return status;
    kw__out_init(&out);
    kw__out_puts(&out, "#!/bin/sh\nexec ");
    put_quoted(&out, program);
    kw__out_puts(&out, " sweep --resume ");
    put_quoted(&out, o->plan->options.name);
    kw__out_puts(&out, " --store ");
    put_quoted(&out, folder);
    kw__out_puts(&out, "\"$SLURM_ARRAY_TASK_ID\".db");
    if (o->data) {
        kw__out_puts(&out, " --data ");
        put_quoted(&out, o->data);
    }
    if (o->budget_s > 0) kw__out_printf(&out, " --budget %.0f", o->budget_s);
    kw__out_puts(&out, "\n");
    status = kw__out_write_file(&out, path, err);
    kw__out_free(&out);
    return status;
}

static kw_status put_tasks(const struct kw__slurm_options *o, const bool *wanted, struct kw__out *out,
                           kw_error *err)
{
    kw_status status = KW_OK;
    const char *before = "--array=";
    for (int64_t task = 0; !status && task < o->plan->options.tasks; task++) {
        if (!wanted[task]) continue;
        status = prepare_task(o, task, err);
        kw__out_printf(out, "%s%" PRId64, before, task);
        before = ",";
    }
    return status || !out->failed ? status : kw__fail_memory(err);
}

kw_status kw__slurm_submit(const struct kw__slurm_options *o, const bool *wanted, char job[32], kw_error *err)
{
    char sbatch[] = "sbatch", parsable[] = "--parsable", append[] = "--open-mode=append";
    char script[PATH_MAX], log[PATH_MAX], output[PATH_MAX + 16], name[80];
    struct kw__out array, said;
    kw__out_init(&array);
    kw_status status = put_tasks(o, wanted, &array, err);
    if (!status) status = write_script(o, script, err);
    if (!status) status = path_of(o, "task-%a.log", log, err);
    if (!status) {
        snprintf(output, sizeof output, "--output=%s", log);
        job_name(o, "--job-name=", name);
        char *argv[] = {sbatch, parsable, name, array.data, append, output, script, NULL};
        status = ask(argv, &said, err);
        if (!status) snprintf(job, 32, "%.31s", first_line(&said));
        kw__out_free(&said);
    }
    kw__out_free(&array);
    return status;
}
