/*
 * What JavaScript's sockets cannot: keep-alive with all its times, and reading straight into memory that was chosen
 * before: what the event loop reads passes through two more buffers.
 * Readiness is told by the thread of watch.c, which also fills large pieces of memory: the event loop hears once of each,
 * and copies nothing itself.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <string.h>
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

/*
 * Read for one socket before others have their turn. That more than a byte is to arrive before the thread is woken
 * (SO_RCVLOWAT) would spare wake-ups, but a sender that waits for room for a whole segment, while the receiver has some
 * room and waits for data, stands still until its timer fires: 200 ms with each piece.
 */
enum { fill_turn_bytes = 1 << 20 };

void fill_begin(struct fill *fill, int fd, uint32_t number, void *target, uint64_t size) {
    fill->fd = fd;
    fill->number = number;
    fill->target = target;
    fill->size = size;
    fill->done = 0;
    fill->spilled = 0;
    fill->status = 0;
    fill->is_active = 1;
}

int fill_turn(struct fill *fill) {
    for (uint64_t turn = 0; turn < fill_turn_bytes;) {
        uint64_t rest = fill->size - fill->done;
        uint64_t want = rest < fill_turn_bytes ? rest : fill_turn_bytes;
        int32_t got = walb_receive(fill->fd, fill->target + fill->done, (uint32_t)want, fill->spill,
                                   want == rest ? sizeof(fill->spill) : 0);
        if (got == -EAGAIN) return 0;
        if (got <= 0) {
            fill->status = got == 0 ? FILL_END : got;
            fill->is_active = 0;
            return 1;
        }
        uint64_t taken = (uint64_t)got < want ? (uint64_t)got : want;
        fill->done += taken;
        fill->spilled = (uint32_t)((uint64_t)got - taken);
        turn += taken;
        if (fill->done < fill->size) continue;
        fill->is_active = 0;
        return 1;
    }
    return 0;
}
