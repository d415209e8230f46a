/* See output.h. A stream's thread reads, writes and then looks at a block; what it finds goes to the main
 * thread through a pipe. */
#define _GNU_SOURCE
#include "record/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "base/time.h"
#include "record/record.h"

enum { BLOCK = 256 * 1024, LINE = 4096, MAX_STREAMS = 2, PIPE_BYTES = 1024 * 1024 };
enum { DONE = -1 }; /* the event with which a stream ends */

struct stream {
    struct kw__output *output;
    int from, to;   /* the command's output; ours */
    int of_command; /* the other end of `from`, until the command has it */
    bool terminal;
    pthread_t thread;
    bool has_thread;
    char *buffer;   /* the last line's beginning, then a block */
    size_t kept;    /* bytes of that line */
    bool long_line; /* it is longer than what is looked at, and was */
    char lost[128];
};

struct kw__output {
    const struct kw__record_stage *stages;
    size_t num_stages;
    char needed[KW__MAX_STAGE_LINES][64];
    struct stream streams[MAX_STREAMS];
    size_t num_streams, num_done;
    int which[MAX_STREAMS]; /* the stream of stdout, of stderr */
    int events[2], stop[2];
    _Atomic int begun; /* the stage of the last event, of any stream */
};

/* ---- Looking at lines ------------------------------------------------------------------------------- */

/* The longest text that every line an expression fits must hold; "" when that can't be told simply. It is
 * searched for first, which is ten times as fast. */
static void needed_text(const char *expression, char *out, size_t size)
{
    size_t best = 0, run = 0;
    int depth = 0;
    *out = '\0';
    if (strpbrk(expression, "|[\\")) return;
    for (const char *at = expression;; at++) {
        bool repeats = *at && strchr("*?{", at[1]) && at[1];
        if (*at == '(') depth++;
        if (*at == ')') depth--;
        if (*at && !strchr(".^$()*+?{}", *at) && depth == 0 && !repeats && run + 1 < size) {
            run++;
            continue;
        }
        if (run > best) {
            best = run;
            memcpy(out, at - run, run);
            out[run] = '\0';
        }
        run = 0;
        if (*at == '{') at += strcspn(at, "}");
        if (!*at) return;
    }
}

/* Lines that fit the stage that is there already say nothing new, as those of a progress bar. */
static void emit(struct kw__output *output, int stage, double at_s)
{
    if (stage != DONE && atomic_exchange(&output->begun, stage) == stage) return;
    struct kw__output_event event = {stage, at_s};
    while (write(output->events[1], &event, sizeof event) < 0 && errno == EINTR) continue;
}

/* Where the first line from `at` on that fits begins; `end`: there is none. */
static size_t find_line(const struct kw__record_stage *stage, const char *needed, const char *text, size_t at,
                        size_t end)
{
    regmatch_t match = {.rm_so = (regoff_t)at, .rm_eo = (regoff_t)end};
    if (*needed) {
        const char *found = memmem(text + at, end - at, needed, strlen(needed));
        if (!found) return end;
        const char *before = memrchr(text + at, '\n', (size_t)(found - text) - at);
        if (before) match.rm_so = (regoff_t)(before + 1 - text);
    }
    if (regexec(&stage->line, text, 1, &match, REG_STARTEND) != 0) return end;
    const char *newline = memrchr(text + at, '\n', (size_t)match.rm_so - at);
    return newline ? (size_t)(newline + 1 - text) : at;
}

/* Looks at the lines of buffer[0..end). Of expressions that fit the same line the first one given counts. */
static void look(const struct stream *stream, size_t end, double at_s)
{
    struct kw__output *output = stream->output;
    size_t next[KW__MAX_STAGE_LINES] = {0};
    bool known[KW__MAX_STAGE_LINES] = {false};
    for (size_t at = 0; at < end;) {
        size_t first = 0;
        for (size_t i = 0; i < output->num_stages; i++) {
            if (!known[i] || next[i] < at)
                next[i] = find_line(&output->stages[i], output->needed[i], stream->buffer, at, end);
            known[i] = true;
            if (next[i] < next[first]) first = i;
        }
        if (next[first] >= end) return;
        emit(output, (int)first, at_s);
        const char *newline = memchr(stream->buffer + next[first], '\n', end - next[first]);
        at = newline ? (size_t)(newline + 1 - stream->buffer) : end;
    }
}

/* Takes in the block behind what is kept. */
static void take_block(struct stream *stream, size_t length, double at_s)
{
    char *block = stream->buffer + stream->kept, *end = block + length, *start = stream->buffer;
    for (char *at = block; (at = memchr(at, '\r', (size_t)(end - at))) != NULL;) *at = '\n';
    char *last = memrchr(block, '\n', length);
    if (stream->long_line) { /* its rest is not looked at */
        char *newline = last ? memchr(block, '\n', length) : NULL;
        if (!newline) return;
        start[stream->kept] = '\n';
        memmove(block + 1, newline + 1, (size_t)(end - newline - 1));
        end -= newline - block;
        last = memrchr(block, '\n', (size_t)(end - block));
        stream->long_line = false;
    }
    if (last) {
        look(stream, (size_t)(last + 1 - start), at_s);
        start = last + 1;
    }
    size_t rest = (size_t)(end - start);
    stream->long_line = rest > LINE;
    stream->kept = rest < LINE ? rest : LINE;
    memmove(stream->buffer, start, stream->kept);
}

/* ---- Passing on ------------------------------------------------------------------------------------- */

/* 0, or the errno. Ours may be set not to block. */
static int pass_on(int to, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t wrote = write(to, bytes, length);
        if (wrote < 0 && errno == EAGAIN)
            (void)poll(&(struct pollfd){to, POLLOUT, 0}, 1, -1);
        else if (wrote < 0 && errno != EINTR)
            return errno;
        if (wrote > 0) bytes += wrote, length -= (size_t)wrote;
    }
    return 0;
}

/* Whether there is something to read, its end included. After the command's end no more than what it can have
 * left in a pipe is waited for, and children that hold the other end are not. */
static bool wait_for_block(const struct stream *stream, ssize_t *left)
{
    struct pollfd fds[] = {{stream->from, POLLIN, 0}, {stream->output->stop[0], POLLIN, 0}};
    while (*left < 0) {
        int ready = poll(fds, 2, -1);
        if (ready > 0 && fds[1].revents)
            *left = PIPE_BYTES;
        else if (ready > 0)
            return true;
    }
    return *left > 0 && poll(fds, 1, 50) > 0;
}

static void *run(void *argument)
{
    struct stream *stream = argument;
    ssize_t left = -1, got;
    while (wait_for_block(stream, &left)) {
        char *block = stream->buffer + stream->kept;
        got = read(stream->from, block, BLOCK);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break; /* its end; a terminal's is EIO */
        if (left > 0) left = left > got ? left - got : 0;
        double at_s = kw__monotonic_s();
        int error = pass_on(stream->to, block, (size_t)got);
        if (error) {
            if (error != EPIPE)
                snprintf(stream->lost, sizeof stream->lost, "the command's output can't be passed on: %.60s",
                         strerror(error));
            break;
        }
        take_block(stream, (size_t)got, at_s);
    }
    close(stream->from);
    if (stream->kept) look(stream, stream->kept, kw__monotonic_s());
    emit(stream->output, DONE, 0);
    return NULL;
}

/* ---- Opening ---------------------------------------------------------------------------------------- */

/* A terminal as ours is, but raw: ours does with the bytes what is to be done. */
static bool open_terminal(struct stream *stream)
{
    char name[128];
    struct termios mode;
    struct winsize size;
    stream->from = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (stream->from < 0 || grantpt(stream->from) || unlockpt(stream->from) ||
        ptsname_r(stream->from, name, sizeof name))
        return false;
    stream->of_command = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (stream->of_command < 0 || tcgetattr(stream->of_command, &mode)) return false;
    mode.c_oflag &= ~(tcflag_t)OPOST;
    mode.c_lflag &= ~(tcflag_t)ECHO;
    if (ioctl(stream->to, TIOCGWINSZ, &size) == 0) (void)ioctl(stream->from, TIOCSWINSZ, &size);
    return tcsetattr(stream->of_command, TCSANOW, &mode) == 0;
}

static bool open_pipe(struct stream *stream)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return false;
    stream->from = ends[0];
    stream->of_command = ends[1];
    (void)fcntl(ends[0], F_SETPIPE_SZ, PIPE_BYTES); /* the system may not allow it */
    return true;
}

static kw_status add_stream(struct kw__output *output, int to, kw_error *err)
{
    struct stream *stream = &output->streams[output->num_streams];
    *stream = (struct stream){.output = output, .from = -1, .of_command = -1, .to = to};
    stream->terminal = isatty(to);
    output->which[to - STDOUT_FILENO] = (int)output->num_streams++;
    if (!(stream->buffer = malloc(LINE + BLOCK + 1))) return kw__fail_memory(err);
    if (stream->terminal ? open_terminal(stream) : open_pipe(stream)) return KW_OK;
    return kw__fail(err, KW_ERROR_IO, "the command's output can't be looked at: %s", strerror(errno));
}

static bool same_terminal(void)
{
    struct stat out, error;
    return isatty(STDOUT_FILENO) && isatty(STDERR_FILENO) && fstat(STDOUT_FILENO, &out) == 0 &&
           fstat(STDERR_FILENO, &error) == 0 && out.st_rdev == error.st_rdev;
}

/* The threads take no signals: those are the main thread's. */
static kw_status start(struct stream *stream, kw_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&stream->thread, NULL, run, stream);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    stream->has_thread = rc == 0;
    return rc ? kw__fail(err, KW_ERROR_MEMORY, "the system has no thread left for the output") : KW_OK;
}

kw_status kw__output_open(const struct kw__record_stage *stages, size_t count, struct kw__output **out,
                          kw_error *err)
{
    struct kw__output *output = calloc(1, sizeof *output);
    if (!output) return kw__fail_memory(err);
    output->events[0] = output->events[1] = output->stop[0] = output->stop[1] = -1;
    atomic_init(&output->begun, DONE);
    output->stages = stages;
    output->num_stages = count;
    for (size_t i = 0; i < count; i++)
        needed_text(stages[i].expression, output->needed[i], sizeof output->needed[i]);
    kw_status status = KW_OK;
    if (pipe2(output->events, O_CLOEXEC) || pipe2(output->stop, O_CLOEXEC) ||
        fcntl(output->events[0], F_SETFL, O_NONBLOCK))
        status = kw__fail(err, KW_ERROR_IO, "the command's output can't be looked at: %s", strerror(errno));
    if (!status) status = add_stream(output, STDOUT_FILENO, err);
    if (!status && same_terminal())
        output->which[STDERR_FILENO - STDOUT_FILENO] = 0;
    else if (!status)
        status = add_stream(output, STDERR_FILENO, err);
    for (size_t i = 0; !status && i < output->num_streams; i++) status = start(&output->streams[i], err);
    if (status)
        kw__output_close(output);
    else
        *out = output;
    return status;
}

int kw__output_of_command(const struct kw__output *output, int which)
{
    return output->streams[output->which[which - STDOUT_FILENO]].of_command;
}

void kw__output_started(struct kw__output *output)
{
    for (size_t i = 0; i < output->num_streams; i++) {
        if (output->streams[i].of_command >= 0) close(output->streams[i].of_command);
        output->streams[i].of_command = -1;
    }
}

void kw__output_close(struct kw__output *output)
{
    if (!output) return;
    kw__output_started(output);
    kw__output_stop(output);
    for (size_t i = 0; i < output->num_streams; i++) {
        struct stream *stream = &output->streams[i];
        if (stream->has_thread)
            pthread_join(stream->thread, NULL);
        else if (stream->from >= 0)
            close(stream->from);
        free(stream->buffer);
    }
    for (int i = 0; i < 2; i++) {
        if (output->events[i] >= 0) close(output->events[i]);
        if (output->stop[i] >= 0) close(output->stop[i]);
    }
    free(output);
}

/* ---- While it runs ---------------------------------------------------------------------------------- */

int kw__output_events(const struct kw__output *output)
{
    return output->events[0];
}

bool kw__output_next(struct kw__output *output, bool wait, struct kw__output_event *event)
{
    while (output->num_done < output->num_streams) {
        ssize_t got = read(output->events[0], event, sizeof *event);
        if (got == (ssize_t)sizeof *event && event->stage != DONE) return true;
        if (got == (ssize_t)sizeof *event)
            output->num_done++;
        else if (!wait)
            return false;
        else
            (void)poll(&(struct pollfd){output->events[0], POLLIN, 0}, 1, -1);
    }
    return false;
}

void kw__output_resize(struct kw__output *output, pid_t command)
{
    for (size_t i = 0; i < output->num_streams; i++) {
        const struct stream *stream = &output->streams[i];
        struct winsize size;
        if (stream->terminal && ioctl(stream->to, TIOCGWINSZ, &size) == 0 &&
            ioctl(stream->from, TIOCSWINSZ, &size) == 0)
            kill(command, SIGWINCH); /* the terminal's own came before the size was known */
    }
}

void kw__output_stop(struct kw__output *output)
{
    if (output->stop[1] >= 0) close(output->stop[1]); /* the other end can be read from then on */
    output->stop[1] = -1;
}

const char *kw__output_lost(const struct kw__output *output)
{
    for (size_t i = 0; i < output->num_streams; i++)
        if (*output->streams[i].lost) return output->streams[i].lost;
    return NULL;
}
