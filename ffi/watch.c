/*
 * Waits for priority events of files, such as attributes of sysfs, and for input of sockets: one thread in epoll_wait for
 * all of them. It writes the number of each file that has an event to a socketpair, where the event loop reads it. A file
 * is silent then until it is armed again, since its event stays until it is read.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

void walb_block_signals(sigset_t *old);
void walb_restore_signals(const sigset_t *old);

struct watch {
    int epoll_fd, read_fd, write_fd;
};

static void *wait_events(void *argument) {
    const struct watch *watch = argument;
    struct epoll_event events[64];
    for (;;) {
        int count = epoll_wait(watch->epoll_fd, events, 64, -1);
        if (count < 0 && errno != EINTR) return NULL;
        for (int i = 0; i < count; i++) {
            uint32_t number = events[i].data.u32;
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
    struct watch *watch = malloc(sizeof(*watch));
    if (watch == NULL) return NULL;
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
    struct epoll_event event = {.events = EPOLLPRI | EPOLLONESHOT, .data.u32 = number};
    return epoll_ctl(watch->epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : -errno;
}

/* Waits once for input of a socket, or its end. 0, or -errno. */
WALB_EXPORT int walb_watch_input(const struct watch *watch, int fd, uint32_t number, int is_new) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data.u32 = number};
    return epoll_ctl(watch->epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : -errno;
}

/* Before the file is closed. */
WALB_EXPORT void walb_watch_remove(const struct watch *watch, int fd) {
    struct epoll_event event = {0};
    epoll_ctl(watch->epoll_fd, EPOLL_CTL_DEL, fd, &event);
}
