#define _GNU_SOURCE /* struct ucred */
#include "record/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"

kw_status kw__mark_socket_open(struct kw__mark_socket *out, kw_error *err)
{
    const char *base = getenv("TMPDIR");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int on = 1;
    /* a socket's path has 107 bytes */
    if (!base || *base != '/' || strlen(base) > sizeof out->folder - sizeof "/kinowatt-XXXXXX") base = "/tmp";
    snprintf(out->folder, sizeof out->folder, "%s/kinowatt-XXXXXX", base);
    out->fd = -1;
    if (!mkdtemp(out->folder))
        return kw__fail(err, KW_ERROR_IO, "no folder for the marks' socket can be made in %s: %s", base,
                        strerror(errno));
    snprintf(out->path, sizeof out->path, "%s/marks", out->folder);
    memcpy(address.sun_path, out->path, strlen(out->path) + 1);
    out->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (out->fd >= 0 && setsockopt(out->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 &&
        bind(out->fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return KW_OK;
    kw__fail(err, KW_ERROR_IO, "the marks' socket %s can't be made: %s", out->path, strerror(errno));
    kw__mark_socket_close(out);
    return KW_ERROR_IO;
}

void kw__mark_socket_close(struct kw__mark_socket *socket)
{
    if (socket->fd >= 0) close(socket->fd);
    socket->fd = -1;
    unlink(socket->path);
    rmdir(socket->folder);
}

long kw__mark_socket_take(struct kw__mark_socket *socket, char *line, size_t size, int *pid)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec bytes = {line, size};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(socket->fd, &message, MSG_TRUNC | MSG_CMSG_CLOEXEC);
    *pid = 0;
    if (length < 0) return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        struct ucred sender;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS) continue;
        memcpy(&sender, CMSG_DATA(c), sizeof sender);
        *pid = sender.pid;
    }
    return (long)length;
}
