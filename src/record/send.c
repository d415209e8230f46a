/* The sender's side of marks (record/marks.h has the protocol). Nothing is kept from call to call: each
 * opens a socket, sends one datagram and closes it, some 5 us, so that threads, forks and a change of the
 * environment need no thought. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "record/send.h"

/* One that is too long is sent with a byte too many, so that the receiver counts it. */
enum { LINE_BYTES = KW__MARK_BYTES + 2 };

/* While the receiver does not keep up a sender waits, but not for one that has been stopped. */
static const struct timeval longest_wait = {.tv_sec = 1};

static void send_line(const char *path, const char *line, int length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(path);
    if (bytes >= sizeof address.sun_path || length < 0) return;
    memcpy(address.sun_path, path, bytes + 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &longest_wait, sizeof longest_wait);
    if (length >= LINE_BYTES) length = LINE_BYTES - 1;
    ssize_t ignored =
        sendto(fd, line, (size_t)length, MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof address);
    (void)ignored;
    close(fd);
}

uint64_t kw__mark_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void kw__mark_send(const char *verb, const char *name, uint64_t at_ns)
{
    int before = errno;
    char line[LINE_BYTES];
    const char *path = getenv("KINOWATT_SOCKET");
    if (path && *path && name)
        send_line(path, line,
                  snprintf(line, sizeof line, "%s %s %llu", verb, name, (unsigned long long)at_ns));
    errno = before;
}

void kw__mark_send_setting(const char *verb, const char *name, const char *value)
{
    int before = errno;
    char line[LINE_BYTES];
    const char *path = getenv("KINOWATT_SOCKET");
    if (path && *path && name && value)
        send_line(path, line, snprintf(line, sizeof line, "%s %s %s", verb, name, value));
    errno = before;
}

void kw_mark_begin(const char *name)
{
    kw__mark_send("begin", name, kw__mark_now_ns());
}

void kw_mark_end(const char *name)
{
    kw__mark_send("end", name, kw__mark_now_ns());
}

void kw_mark_next(const char *name)
{
    kw__mark_send("mark", name, kw__mark_now_ns());
}

void kw_mark_set(const char *name, const char *value)
{
    kw__mark_send_setting("set", name, value);
}
