/* See record.h. One thread: it waits for signals (by descriptor, so that no handler is needed), marks and
 * lines of output; while none comes it costs nothing. */
#define _GNU_SOURCE
#include "record/record.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/time.h"
#include "record/output.h"
#include "record/socket.h"

/* Marks taken in at once, so that a flood of them does not keep the command's end waiting. */
enum { BATCH = 256 };

struct session {
    const struct kw__record_options *options;
    struct kw__record *record;
    sigset_t mask;             /* of before */
    struct sigaction children; /* what was done about SIGCHLD */
    int signals, was_subreaper;
    struct kw__mark_socket socket;
    struct kw__output *output; /* NULL: the command writes to ours */
    pid_t pid;
    bool ended;
    double begin_s, end_s;
};

/* ---- Signals ---------------------------------------------------------------------------------------- */

/* Those that would end or stop us, and those that tell. What is ignored stays so (nohup). */
static void make_set(sigset_t *set)
{
    struct sigaction old;
    static const int signals[] = {SIGCHLD, SIGINT,  SIGQUIT, SIGTERM, SIGHUP,
                                  SIGTSTP, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH};
    sigemptyset(set);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaddset(set, signals[i]);
}

/* Whether a shell of our terminal manages our process group, and so will wake us again. */
static bool under_job_control(void)
{
    pid_t parent = getppid();
    return getsid(parent) == getsid(0) && getpgid(parent) != getpgid(0);
}

static void stop_too(struct session *s)
{
    if (!under_job_control()) return;
    double since_s = kw__monotonic_s();
    pthread_kill(pthread_self(), SIGSTOP); /* not kill: we must not go on before it has come */
    s->record->stopped_s += kw__monotonic_s() - since_s;
    kill(s->pid, SIGCONT);
}

/* Reaps the command and whatever was left to us. */
static void reap(struct session *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
        if (pid != s->pid) continue;
        if (WIFSTOPPED(status)) {
            stop_too(s);
            continue;
        }
        s->end_s = kw__monotonic_s();
        s->ended = true;
        s->record->exit_code = kw__exit_code(status);
        s->record->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    }
}

static void take_signals(struct session *s)
{
    struct signalfd_siginfo info;
    while (!s->ended && read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        int signal = (int)info.ssi_signo;
        if (signal == SIGINT || signal == SIGQUIT || signal == SIGTERM || signal == SIGHUP)
            s->record->asked = signal;
        if (signal == SIGCHLD)
            reap(s);
        else if (signal == SIGWINCH && s->output)
            kw__output_resize(s->output, s->pid);
        else if (info.ssi_code != SI_KERNEL) /* the terminal's reach the command by themselves */
            kill(s->pid, signal);
    }
}

/* ---- Marks and stages ------------------------------------------------------------------------------- */

/* Takes in what is there, `most` at once. */
static void take_marks(struct session *s, int64_t most)
{
    char line[KW__MARK_BYTES + 1];
    int pid;
    long length;
    while (s->socket.fd >= 0 && most-- > 0 &&
           (length = kw__mark_socket_take(&s->socket, line, sizeof line, &pid)) >= 0)
        kw__marks_take(s->record->marks, line, (size_t)length, pid, kw__monotonic_s());
}

/* `wait`: until there can be no more. */
static void take_stages(struct session *s, bool wait)
{
    struct kw__output_event event;
    while (s->output && kw__output_next(s->output, wait, &event)) {
        s->record->stage_seen[event.stage] = true;
        kw__marks_stage(s->record->marks, s->options->stages[event.stage].name, event.at_s);
    }
}

/* ---- Running ---------------------------------------------------------------------------------------- */

static kw_status begin(struct session *s, kw_error *err)
{
    const struct kw__record_options *options = s->options;
    const char *set[5] = {NULL};
    size_t used = 0;
    if (s->socket.fd >= 0) {
        set[used++] = "KINOWATT_SOCKET";
        set[used++] = s->socket.path;
        if (options->nvtx_library && !getenv("NVTX_INJECTION64_PATH")) {
            set[used++] = "NVTX_INJECTION64_PATH";
            set[used++] = options->nvtx_library;
        }
    } else {
        set[used++] = "KINOWATT_SOCKET"; /* not that of a record outside */
        set[used++] = "";
    }
    const int redirected = options->output > 0 ? options->output : -1;
    const struct kw__child_options child = {
        .argv = options->argv,
        .set = set,
        .mask = &s->mask,
        .output = s->output ? kw__output_of_command(s->output, STDOUT_FILENO) : redirected,
        .error = s->output ? kw__output_of_command(s->output, STDERR_FILENO) : redirected,
    };
    kw__descriptors_keep_back(options->descriptors);
    s->begin_s = kw__monotonic_s();
    kw_status status = kw_meter_open_window(
        options->meter, "total", -1, kw_meter_at_s(options->meter, s->begin_s), &s->record->window, err);
    if (status) return status;
    s->record->marks = kw__marks_new(options->meter, s->record->window, s->begin_s);
    if (!s->record->marks) return kw__fail_memory(err);
    status = kw__child_start(&child, &s->pid, err);
    if (s->output) kw__output_started(s->output);
    return status;
}

static void wait_for_end(struct session *s)
{
    struct pollfd fds[] = {{s->signals, POLLIN, 0},
                           {s->socket.fd, POLLIN, 0},
                           {s->output ? kw__output_events(s->output) : -1, POLLIN, 0}};
    while (!s->ended) {
        if (poll(fds, 3, -1) < 0 && errno != EINTR) break;
        take_signals(s);
        take_stages(s, false);
        take_marks(s, BATCH);
    }
}

static void finish(struct session *s)
{
    struct kw__record *record = s->record;
    kw__marks_end(record->marks, s->end_s);
    take_marks(s, INT64_MAX);
    if (s->output) kw__output_stop(s->output);
    take_stages(s, true);
    const char *lost = s->output ? kw__output_lost(s->output) : NULL;
    if (lost) record->lost = kw__arena_strdup(&record->arena, lost);
    kw__marks_finish(record->marks);
    kw_meter_close_window(s->options->meter, record->window, kw_meter_at_s(s->options->meter, s->end_s),
                          NULL);
    char text[1024];
    record->num_left = kw__children_text(text, sizeof text);
    record->left = kw__arena_strdup(&record->arena, text);
}

static kw_status open_session(struct session *s, kw_error *err)
{
    sigset_t set;
    struct sigaction usual = {.sa_handler =
                                  SIG_DFL}; /* ignored, children would be gone before they are waited for */
    sigaction(SIGCHLD, &usual, &s->children);
    make_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, &s->mask);
    s->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (s->signals < 0) return kw__fail(err, KW_ERROR_IO, "signals can't be waited for: %s", strerror(errno));
    prctl(PR_GET_CHILD_SUBREAPER, &s->was_subreaper);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    kw_error no_marks;
    if (kw__mark_socket_open(&s->socket, &no_marks))
        s->record->no_marks = kw__arena_strdup(&s->record->arena, no_marks.message);
    if (s->options->num_stages == 0) return KW_OK;
    return kw__output_open(s->options->stages, s->options->num_stages, &s->output, err);
}

static void close_session(struct session *s)
{
    kw__output_close(s->output);
    if (s->socket.fd >= 0) kw__mark_socket_close(&s->socket);
    prctl(PR_SET_CHILD_SUBREAPER, s->was_subreaper);
    if (s->signals >= 0) {
        struct signalfd_siginfo info; /* what came for the command is not for us */
        while (read(s->signals, &info, sizeof info) > 0) continue;
        close(s->signals);
    }
    pthread_sigmask(SIG_SETMASK, &s->mask, NULL);
    sigaction(SIGCHLD, &s->children, NULL);
}

kw_status kw__record_run(const struct kw__record_options *options, struct kw__record **out, kw_error *err)
{
    struct session s = {.options = options, .signals = -1, .socket = {.fd = -1}, .pid = -1};
    s.record = calloc(1, sizeof *s.record);
    if (!s.record) return kw__fail_memory(err);
    kw__arena_init(&s.record->arena);
    kw_status status = open_session(&s, err);
    if (!status) status = begin(&s, err);
    if (!status) {
        wait_for_end(&s);
        finish(&s);
    }
    close_session(&s);
    if (status) {
        kw__record_free(s.record);
        return status;
    }
    *out = s.record;
    return KW_OK;
}

void kw__record_free(struct kw__record *record)
{
    if (!record) return;
    kw__marks_free(record->marks);
    kw__arena_free(&record->arena);
    free(record);
}

const char *kw__record_nvtx_library(char *path, size_t size)
{
    static const char name[] = "libkinowatt-nvtx.so";
    char program[1024];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length > 0) {
        program[length] = '\0';
        char *slash = strrchr(program, '/');
        if (slash) *slash = '\0';
        snprintf(path, size, "%s/%s", program, name);
        if (access(path, R_OK) == 0) return path;
        slash = strrchr(program, '/');
        if (slash) *slash = '\0';
        snprintf(path, size, "%s/lib/%s", program, name);
        if (access(path, R_OK) == 0) return path;
    }
    return NULL;
}
