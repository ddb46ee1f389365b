/*
 * What JavaScript's sockets cannot: keep-alive with all its times, and reading straight into memory that was chosen
 * before: what the event loop reads passes through two more buffers.
 * Readiness is told by the thread of watch.c.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

/*
 * Reads what has arrived, first into `target`, what follows it into `spill`; never waits. The bytes read, 0 at the end
 * of the stream, or -errno (EAGAIN: nothing has arrived).
 */
WALB_EXPORT int32_t walb_receive(int32_t fd, void *target, uint32_t size, void *spill, uint32_t spill_size) {
    struct iovec pieces[2] = {{target, size}, {spill, spill_size}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    ssize_t got;
    do {
        got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : (int32_t)got;
}

/* A second descriptor of a file, or -errno. */
WALB_EXPORT int32_t walb_duplicate(int32_t fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

/* Has the kernel ask a silent TCP peer whether it is still there: after `idle` seconds, each `interval`, `count` times. */
WALB_EXPORT int32_t walb_keep_alive(int32_t fd, int32_t idle, int32_t interval, int32_t count) {
    const struct { int level, name, value; } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
                                                          {IPPROTO_TCP, TCP_KEEPIDLE, idle},
                                                          {IPPROTO_TCP, TCP_KEEPINTVL, interval},
                                                          {IPPROTO_TCP, TCP_KEEPCNT, count}};
    for (int i = 0; i < 4; i++)
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) != 0) return -errno;
    return 0;
}
