/* File jobs. Reads and writes are whole or fail; a short read is WALB_EOF with the bytes done told apart. */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const size_t io_max = 1u << 30;
static const size_t copy_chunk = 1u << 20;
enum { iov_max = 1024 };

int64_t io_read(int fd, void *data, uint64_t size, uint64_t offset, double *done) {
    uint64_t at = 0;
    while (at < size) {
        size_t want = size - at < io_max ? (size_t)(size - at) : io_max;
        ssize_t got = pread64(fd, (char *)data + at, want, (off64_t)(offset + at));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            *done = (double)at;
            return got < 0 ? -errno : WALB_EOF;
        }
        at += (uint64_t)got;
    }
    *done = (double)at;
    return 0;
}

int64_t io_write(int fd, const void *data, uint64_t size, uint64_t offset, double *done) {
    uint64_t at = 0;
    while (at < size) {
        size_t want = size - at < io_max ? (size_t)(size - at) : io_max;
        ssize_t put = pwrite64(fd, (const char *)data + at, want, (off64_t)(offset + at));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            *done = (double)at;
            return put < 0 ? -errno : -EIO;
        }
        at += (uint64_t)put;
    }
    *done = (double)at;
    return 0;
}

/* Pieces as an iovec, neighbours in memory joined. Returns how many entries. */
static int gather(const struct item *items, uint32_t count, struct iovec *pieces) {
    int used = 0;
    for (uint32_t i = 0; i < count; i++) {
        char *data = (char *)(uintptr_t)items[i].source;
        size_t size = (size_t)items[i].source_size;
        if (size == 0) continue;
        struct iovec *last = used > 0 ? &pieces[used - 1] : NULL;
        if (last != NULL && (char *)last->iov_base + last->iov_len == data) {
            last->iov_len += size;
        } else {
            pieces[used].iov_base = data;
            pieces[used].iov_len = size;
            used++;
        }
    }
    return used;
}

static int64_t move(int fd, const struct item *items, uint32_t count, uint64_t offset, int is_write, double *done) {
    struct iovec pieces[iov_max];
    if (count > iov_max) return -EINVAL;
    int used = gather(items, count, pieces), first = 0;
    uint64_t at = 0;
    while (first < used) {
        ssize_t moved = is_write ? pwritev64(fd, pieces + first, used - first, (off64_t)(offset + at))
                                 : preadv64(fd, pieces + first, used - first, (off64_t)(offset + at));
        if (moved < 0 && errno == EINTR) continue;
        if (moved <= 0) {
            *done = (double)at;
            return moved < 0 ? -errno : is_write ? -EIO : WALB_EOF;
        }
        at += (uint64_t)moved;
        size_t rest = (size_t)moved;
        while (first < used && rest >= pieces[first].iov_len) rest -= pieces[first++].iov_len;
        if (rest > 0) {
            pieces[first].iov_base = (char *)pieces[first].iov_base + rest;
            pieces[first].iov_len -= rest;
        }
    }
    *done = (double)at;
    return 0;
}

uint64_t io_pieces_size(const struct iovec *pieces, int count) {
    uint64_t size = 0;
    for (int i = 0; i < count; i++) size += pieces[i].iov_len;
    return size;
}

double item_failed_write(struct item *items, uint64_t offset, uint64_t size) {
    items[0].file_offset = (double)offset;
    items[0].slice_size = (double)size;
    return -1;
}

int64_t io_write_pieces(int fd, struct iovec *pieces, int count, uint64_t offset) {
    struct iovec *piece = pieces, *end = pieces + count;
    while (piece < end) {
        ssize_t moved = end - piece == 1 ? pwrite64(fd, piece->iov_base, piece->iov_len, (off64_t)offset)
                                         : pwritev64(fd, piece, (int)(end - piece), (off64_t)offset);
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0 || (moved == 0 && piece->iov_len > 0)) return moved < 0 ? -errno : -EIO;
        offset += (uint64_t)moved;
        size_t rest = (size_t)moved;
        while (piece < end && rest >= piece->iov_len) rest -= (piece++)->iov_len;
        if (rest > 0) {
            piece->iov_base = (char *)piece->iov_base + rest;
            piece->iov_len -= rest;
        }
    }
    return 0;
}

int64_t io_write_gather(int fd, const struct item *items, uint32_t count, uint64_t offset, double *done) {
    return move(fd, items, count, offset, 1, done);
}

int64_t io_write_many(int fd, const struct item *items, uint32_t count, int is_gentle, double *done) {
    double part = 0;
    *done = 0;
    for (uint32_t first = 0, next; first < count; first = next) {
        uint64_t offset = (uint64_t)items[first].file_offset, end = offset;
        for (next = first; next < count && next - first < iov_max && (uint64_t)items[next].file_offset == end; next++)
            end += (uint64_t)items[next].source_size;
        int64_t result = next - first == 1 ? io_write(fd, (void *)(uintptr_t)items[first].source, end - offset, offset, &part)
                                           : move(fd, items + first, next - first, offset, 1, &part);
        *done += part;
        if (result != 0) return result;
        /* A thread that was woken meanwhile would wait for the end of this one's time slice: milliseconds. */
        if (is_gentle) sched_yield();
    }
    return 0;
}

int64_t io_read_many(int fd, const struct item *items, uint32_t count, double *done) {
    double part = 0;
    *done = 0;
    for (uint32_t first = 0, next; first < count; first = next) {
        uint64_t size = (uint64_t)items[first].target_size;
        for (next = first + 1; next < count; next++) {
            if (items[next].file_offset != items[first].file_offset + (double)size) break;
            if (items[next].target != items[first].target + (double)size) break;
            size += (uint64_t)items[next].target_size;
        }
        int64_t result = io_read(fd, (void *)(uintptr_t)items[first].target, size, (uint64_t)items[first].file_offset, &part);
        *done += part;
        if (result != 0) return result;
    }
    return 0;
}

/*
 * On the calling thread, which must not wait for a disk: 0 when all was in the page cache, else a negative errno
 * (EAGAIN: it would have waited), and the caller takes the way through the pool. By system call: the glibc functions
 * are too new for old systems.
 */
WALB_EXPORT int32_t walb_read_cached(int32_t fd, void *data, double size, double offset) {
    struct iovec piece = {data, (size_t)size};
    ssize_t got = syscall(SYS_preadv2, fd, &piece, 1L, (long)offset, 0L, RWF_NOWAIT);
    if (got == (ssize_t)size) return 0;
    return got < 0 ? -errno : -EAGAIN;
}

/* How often the calling thread has waited for something: being preempted does not count. */
static long wait_count(void) {
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

/*
 * Writes pieces into the page cache on the calling thread. With `nowait` it never waits, where the file system can do
 * that (else -EOPNOTSUPP); without, it may, as any write does: then the result is 1 instead of 0. What a failed call
 * wrote is undefined.
 */
WALB_EXPORT int32_t walb_write_cached(int32_t fd, const struct item *items, uint32_t count, double offset, int32_t nowait) {
    struct iovec pieces[iov_max];
    if (count > iov_max) return -EINVAL;
    int used = gather(items, count, pieces);
    size_t size = 0;
    for (int i = 0; i < used; i++) size += pieces[i].iov_len;
    long waits = nowait ? 0 : wait_count();
    ssize_t put = syscall(SYS_pwritev2, fd, pieces, (long)used, (long)offset, 0L, nowait ? RWF_NOWAIT : 0);
    if (put == (ssize_t)size) return nowait || wait_count() == waits ? 0 : 1;
    return put < 0 ? -errno : -EAGAIN;
}

int64_t io_read_scatter(int fd, const struct item *items, uint32_t count, uint64_t offset, double *done) {
    double part = 0;
    *done = 0;
    for (uint32_t i = 0; i < count; i += iov_max) {
        uint32_t now = count - i < iov_max ? count - i : iov_max;
        int64_t result = move(fd, items + i, now, offset + (uint64_t)*done, 0, &part);
        *done += part;
        if (result != 0) return result;
    }
    return 0;
}

int64_t io_write_zeroes(int fd, uint64_t offset, uint64_t size) {
    void *zeroes = scratch(2, copy_chunk);
    if (zeroes == NULL) return -ENOMEM;
    memset(zeroes, 0, copy_chunk);
    double done;
    for (uint64_t at = 0; at < size; at += copy_chunk) {
        uint64_t now = size - at < copy_chunk ? size - at : copy_chunk;
        int64_t result = io_write(fd, zeroes, now, offset + at, &done);
        if (result != 0) return result;
    }
    return 0;
}

/* fstat through the system call: the glibc symbol is too new for old systems. */
static int file_status(int fd, struct stat *status) { return (int)syscall(SYS_fstat, fd, status); }

int64_t io_size(int fd) {
    struct stat status;
    if (file_status(fd, &status) != 0) return -errno;
    return status.st_size;
}

int64_t io_next_data(int fd, uint64_t offset, double *end) {
    off64_t start = lseek64(fd, (off64_t)offset, SEEK_DATA);
    if (start < 0) return errno == ENXIO ? WALB_EOF : -errno;
    off64_t hole = lseek64(fd, start, SEEK_HOLE);
    if (hole < 0) return -errno;
    *end = (double)hole;
    return start;
}

/* Copies what is not a hole and not zero in [offset, offset + size) of a file into a fresh one; `next` is where to go
   on, which may lie far behind the range when a hole follows. */
int64_t io_copy_range(int source, int target, uint64_t offset, uint64_t size, double *next) {
    char *data = scratch(2, copy_chunk);
    if (data == NULL) return -ENOMEM;
    uint64_t end = offset + size, at = offset;
    while (at < end) {
        double data_end = (double)end;
        int64_t start = io_next_data(source, at, &data_end);
        if (start == WALB_EOF) {
            *next = 9007199254740991.0;
            return 0;
        }
        if (start == -EINVAL || start == -ENOTSUP || start == -ESPIPE) {
            start = (int64_t)at;
            data_end = (double)end;
        } else if (start < 0) {
            return start;
        }
        at = (uint64_t)start;
        uint64_t stop = (uint64_t)data_end < end ? (uint64_t)data_end : end;
        while (at < stop) {
            uint64_t want = stop - at < copy_chunk ? stop - at : copy_chunk;
            double got = 0;
            int64_t result = io_read(source, data, want, at, &got);
            if (result == WALB_EOF && got == 0) {
                *next = 9007199254740991.0;
                return 0;
            }
            if (result != 0 && result != WALB_EOF) return result;
            for (uint64_t o = 0; o < (uint64_t)got;) {
                uint64_t piece = (uint64_t)got - o < 65536 ? (uint64_t)got - o : 65536;
                if (!walb_is_zero(data + o, piece)) {
                    double put;
                    result = io_write(target, data + o, piece, at + o, &put);
                    if (result != 0) return result;
                }
                o += piece;
            }
            at += (uint64_t)got;
        }
    }
    *next = (double)at;
    return 0;
}

int64_t io_fsync_path(const char *path, int is_whole_file_system) {
    int fd = open64(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int64_t result = (is_whole_file_system ? syncfs(fd) : fsync(fd)) == 0 ? 0 : -errno;
    close(fd);
    return result;
}

int64_t io_commit_file(int fd, double size, const char *from, const char *to, const char *directory, double *step) {
    *step = 0;
    if (size >= 0 && ftruncate64(fd, (off64_t)size) != 0) return -errno;
    *step = 1;
    if (fdatasync(fd) != 0) return -errno;
    *step = 2;
    if (rename(from, to) != 0) return -errno;
    *step = 3;
    return io_fsync_path(directory, 0);
}

int64_t io_statvfs(const char *path, double *total) {
    struct statvfs64 status;
    if (statvfs64(path, &status) != 0) return -errno;
    *total = (double)status.f_blocks * (double)status.f_frsize;
    return (int64_t)((double)status.f_bavail * (double)status.f_frsize);
}
