/*
 * Waits for priority events of files, such as attributes of sysfs, and for input of sockets: one thread in epoll_wait for
 * all of them. It writes the number of each file that has an event to a socketpair, where the event loop reads it. A file
 * is silent then until it is armed again, since its event stays until it is read.
 *
 * A socket with a fill is read by the thread itself, and its number is written when the fill is over. While the thread
 * writes to a fill's memory it holds its lock: who has stopped a fill owns the memory again.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

void walb_block_signals(sigset_t *old);
void walb_restore_signals(const sigset_t *old);

/* At a time; sockets beyond are read by the event loop. */
enum { fills_max = 64 };

struct shared_fill {
    pthread_mutex_t mutex;
    struct fill fill;
};

struct watch {
    int epoll_fd, read_fd, write_fd;
    struct shared_fill fills[fills_max];
};

/* Waits once for input of a socket, or its end; `slot` is that of its fill, counted from 1, or 0. */
static int arm_input(const struct watch *watch, int fd, uint32_t number, uint32_t slot, int is_new) {
    uint64_t data = (uint64_t)slot << 32 | number;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data.u64 = data};
    return epoll_ctl(watch->epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : -errno;
}

/* Whether the event loop is to hear of it. */
static int read_fill(struct watch *watch, uint32_t number, uint32_t slot) {
    struct shared_fill *shared = &watch->fills[slot - 1];
    struct fill *fill = &shared->fill;
    pthread_mutex_lock(&shared->mutex);
    /* An event that was on its way when the fill was stopped is not its successor's. */
    int is_over = 0;
    if (fill->is_active && fill->number == number) {
        is_over = fill_turn(fill);
        if (!is_over) {
            int error = arm_input(watch, fill->fd, number, slot, 0);
            if (error != 0) {
                fill->status = error;
                fill->is_active = 0;
                is_over = 1;
            }
        }
    }
    pthread_mutex_unlock(&shared->mutex);
    return is_over;
}

static void *wait_events(void *argument) {
    struct watch *watch = argument;
    struct epoll_event events[64];
    for (;;) {
        int count = epoll_wait(watch->epoll_fd, events, 64, -1);
        if (count < 0 && errno != EINTR) return NULL;
        for (int i = 0; i < count; i++) {
            uint32_t number = (uint32_t)events[i].data.u64, slot = (uint32_t)(events[i].data.u64 >> 32);
            if (slot != 0 && !read_fill(watch, number, slot)) continue;
            ssize_t written;
            do {
                written = write(watch->write_fd, &number, sizeof(number));
            } while (written < 0 && errno == EINTR);
            if (written != sizeof(number)) return NULL;
        }
    }
}

/* For good; NULL when there are no descriptors or no thread. */
WALB_EXPORT struct watch *walb_watch_create(void) {
    struct watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) return NULL;
    for (int i = 0; i < fills_max; i++) pthread_mutex_init(&watch->fills[i].mutex, NULL);
    int pair[2];
    watch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (watch->epoll_fd < 0) {
        free(watch);
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        close(watch->epoll_fd);
        free(watch);
        return NULL;
    }
    watch->read_fd = pair[0];
    watch->write_fd = pair[1];
    pthread_t thread;
    sigset_t old;
    walb_block_signals(&old);
    int error = pthread_create(&thread, NULL, wait_events, watch);
    walb_restore_signals(&old);
    if (error == 0) return watch;
    close(pair[0]);
    close(pair[1]);
    close(watch->epoll_fd);
    free(watch);
    return NULL;
}

WALB_EXPORT int walb_watch_fd(const struct watch *watch) { return watch->read_fd; }

/* Reads a file from its beginning, which takes its event away, and waits for the next. 0, or -errno. */
WALB_EXPORT int walb_watch_arm(const struct watch *watch, int fd, uint32_t number, int is_new) {
    char text[4096];
    if (lseek(fd, 0, SEEK_SET) < 0 || read(fd, text, sizeof(text)) < 0) return -errno;
    struct epoll_event event = {.events = EPOLLPRI | EPOLLONESHOT, .data.u64 = number};
    return epoll_ctl(watch->epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : -errno;
}

/* 0, or -errno. */
WALB_EXPORT int walb_watch_input(const struct watch *watch, int fd, uint32_t number, int is_new) {
    return arm_input(watch, fd, number, 0, is_new);
}

/*
 * Has the next `size` bytes of a socket read into `target`; its number is told when they are there, or when no more come.
 * The slot of the fill, counted from 1, or -errno: EBUSY when there is none. By one thread at a time.
 */
WALB_EXPORT int walb_watch_fill(struct watch *watch, int fd, uint32_t number, int is_new, void *target, double size) {
    for (int i = 0; i < fills_max; i++) {
        struct shared_fill *shared = &watch->fills[i];
        if (shared->fill.is_taken) continue;
        pthread_mutex_lock(&shared->mutex);
        fill_begin(&shared->fill, fd, number, target, (uint64_t)size);
        int error = arm_input(watch, fd, number, (uint32_t)i + 1, is_new);
        if (error != 0) shared->fill.is_active = 0;
        shared->fill.is_taken = error == 0;
        pthread_mutex_unlock(&shared->mutex);
        return error != 0 ? error : i + 1;
    }
    return -EBUSY;
}

/*
 * Gives the slot of a fill back when it is over; with `stop` in any case, and nothing more is written to its memory. 1, or
 * 0 when it goes on. `result`: bytes in the target, bytes in `spill` (of FILL_SPILL), status.
 */
WALB_EXPORT int walb_watch_fill_take(struct watch *watch, int slot, int stop, double *result, uint8_t *spill) {
    struct shared_fill *shared = &watch->fills[slot - 1];
    struct fill *fill = &shared->fill;
    pthread_mutex_lock(&shared->mutex);
    int is_over = stop || !fill->is_active;
    if (is_over) {
        fill->is_active = 0;
        fill->is_taken = 0;
        result[0] = (double)fill->done;
        result[1] = (double)fill->spilled;
        result[2] = (double)fill->status;
        memcpy(spill, fill->spill, fill->spilled);
    }
    pthread_mutex_unlock(&shared->mutex);
    return is_over;
}

/* Before the file is closed. */
WALB_EXPORT void walb_watch_remove(const struct watch *watch, int fd) {
    struct epoll_event event = {0};
    epoll_ctl(watch->epoll_fd, EPOLL_CTL_DEL, fd, &event);
}
