/* The socket that marks come in on: in a folder of its own that no one else can enter, below TMPDIR or
 * /tmp. */
#ifndef KW_RECORD_SOCKET_H
#define KW_RECORD_SOCKET_H

#include "kinowatt.h"

struct kw__mark_socket {
    int fd; /* does not block */
    char folder[80], path[96];
};

kw_status kw__mark_socket_open(struct kw__mark_socket *out, kw_error *err);
void kw__mark_socket_close(struct kw__mark_socket *socket);

/* Takes the next datagram. Returns its length, which is that of the whole also when it is cut; -1: none is
 * there. */
long kw__mark_socket_take(struct kw__mark_socket *socket, char *line, size_t size, int *pid);

#endif
