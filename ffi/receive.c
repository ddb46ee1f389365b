/*
 * Reading sockets straight into memory that JavaScript chose: what the event loop reads passes through two more buffers.
 * Readiness is told by the thread of watch.c.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <fcntl.h>
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
