/* A disk that hangs: while the file WALB_STUCK_WHILE exists, jobs on files whose path ends with WALB_STUCK_PATH wait. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void wait_while_stuck(int fd) {
    const char *end = getenv("WALB_STUCK_PATH"), *flag = getenv("WALB_STUCK_WHILE");
    if (end == NULL || flag == NULL) return;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    if ((size_t)length < strlen(end) || strcmp(path + length - strlen(end), end) != 0) return;
    while (access(flag, F_OK) == 0) usleep(20000);
}

#define HANGING(result, name, parameters, ...)                          \
    result name parameters {                                            \
        static result(*real) parameters;                                \
        if (real == NULL) real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        wait_while_stuck(fd);                                           \
        return real(__VA_ARGS__);                                       \
    }

HANGING(int, fdatasync, (int fd), fd)
HANGING(ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), fd, data, size, at)
HANGING(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
HANGING(ssize_t, preadv64, (int fd, const struct iovec *pieces, int count, off64_t at), fd, pieces, count, at)
HANGING(ssize_t, pwritev64, (int fd, const struct iovec *pieces, int count, off64_t at), fd, pieces, count, at)
