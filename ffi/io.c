/* File jobs. Reads and writes are whole or fail; a short read is WALB_EOF with the bytes done told apart. */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
enum { iov_max = 1024, decoded_max = 64 << 20 };

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

int64_t io_write_gather(int fd, const struct item *items, uint32_t count, uint64_t offset, double *done) {
    return move(fd, items, count, offset, 1, done);
}

int64_t io_write_many(int fd, const struct item *items, uint32_t count, double *done) {
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

int64_t io_fsync_path(const char *path) {
    int fd = open64(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int64_t result = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return result;
}

int64_t io_statvfs(const char *path, double *total) {
    struct statvfs64 status;
    if (statvfs64(path, &status) != 0) return -errno;
    *total = (double)status.f_blocks * (double)status.f_frsize;
    return (int64_t)((double)status.f_bavail * (double)status.f_frsize);
}

/* Images expanded and not yet written: they follow each other in the file and become one write. */
enum { run_pieces = 256, run_bytes = 1 << 20 };
struct run {
    int fd;
    int used;
    uint64_t offset;
    uint64_t size;
    size_t space_used; /* of scratch(1) */
    struct iovec pieces[run_pieces];
};

static int64_t write_run(struct run *run) {
    struct iovec *piece = run->pieces, *end = run->pieces + run->used;
    uint64_t offset = run->offset;
    run->used = 0;
    run->size = 0;
    run->space_used = 0;
    while (piece < end) {
        ssize_t moved = end - piece == 1 ? pwrite64(run->fd, piece->iov_base, piece->iov_len, (off64_t)offset)
                                         : pwritev64(run->fd, piece, (int)(end - piece), (off64_t)offset);
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

/* Expands an image and adds its slice to the run; what does not follow the run, or has no room, is written before. */
static int64_t add_decoded(struct run *run, const struct item *item, uint64_t alignment) {
    char *source = (char *)(uintptr_t)item->source;
    size_t source_size = (size_t)item->source_size, image_size = (size_t)item->target_size;
    size_t slice_offset = (size_t)item->slice_offset, slice_size = (size_t)item->slice_size;
    if (image_size > decoded_max || slice_offset + slice_size > image_size) return WALB_EOF;
    if (item->codec == 0 && source_size != image_size) return WALB_EOF;
    int is_expanded = item->codec != 0 || ((uintptr_t)(source + slice_offset)) % alignment != 0;
    size_t needed = is_expanded ? (image_size + 4095) & ~(size_t)4095 : 0;
    int follows = run->used > 0 && run->used < run_pieces && run->offset + run->size == (uint64_t)item->file_offset &&
                  run->size + slice_size <= run_bytes && run->space_used + needed <= run_bytes;
    if (!follows) {
        int64_t result = write_run(run);
        if (result < 0) return result;
        run->offset = (uint64_t)item->file_offset;
    }
    char *image = source;
    if (is_expanded) {
        /* Never less than the whole of it, so that it does not move below the pieces of a run. */
        char *space = scratch(1, needed < run_bytes ? run_bytes : needed);
        if (space == NULL) return -ENOMEM;
        image = space + run->space_used;
        if (codec_decode(item->codec, source, source_size, image, image_size) != 0) return WALB_EOF;
        if (slice_offset % alignment != 0) {
            /* Direct I/O needs an aligned address. */
            memmove(image, image + slice_offset, slice_size);
            slice_offset = 0;
        }
        run->space_used += needed;
    }
    if (slice_size > 0) run->pieces[run->used++] = (struct iovec){image + slice_offset, slice_size};
    run->size += slice_size;
    return 0;
}

int64_t io_write_decoded(int fd, struct item *items, uint32_t count, uint64_t alignment) {
    struct run run = {.fd = fd};
    for (uint32_t i = 0; i < count; i++) {
        struct item *item = &items[i];
        if (walb_checksum((const void *)(uintptr_t)item->source, (size_t)item->source_size, 0) != item->word) {
            item->codec = DECODE_CHECKSUM;
            continue;
        }
        int64_t result = add_decoded(&run, item, alignment);
        if (result < 0 && result != WALB_EOF) return result;
        item->codec = result == 0 ? DECODE_GOOD : DECODE_DAMAGED;
    }
    return write_run(&run);
}

/* Stored bytes that are read before any of them is written: few enough to stay in the processor's cache. */
enum { window_items = 512, window_bytes = 512 << 10, read_gap = 8 << 10 };
struct window_read {
    int32_t fd;
    uint32_t item;
    uint64_t offset;
    uint64_t size;
    size_t at; /* in scratch(2) */
};

static int by_place(const void *left, const void *right) {
    const struct window_read *a = left, *b = right;
    if (a->fd != b->fd) return a->fd < b->fd ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* Reads the stored bytes of a window's items, what lies close together at once, and puts their addresses in. */
static int64_t read_window(struct item *items, uint32_t count, double *failed) {
    struct window_read reads[window_items];
    uint32_t used = 0;
    int is_sorted = 1;
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].target < 0) continue;
        reads[used] = (struct window_read){(int32_t)items[i].target, i, (uint64_t)items[i].source,
                                           (uint64_t)items[i].source_size, 0};
        if (used > 0 && by_place(&reads[used - 1], &reads[used]) > 0) is_sorted = 0;
        used++;
    }
    if (!is_sorted) qsort(reads, used, sizeof(*reads), by_place);
    /* Places first: the memory may move while it grows. A read goes on up to a byte that an item before it has. */
    size_t total = 0;
    uint32_t heads[window_items + 1], head_count = 0;
    uint64_t end = 0;
    for (uint32_t i = 0; i < used; i++) {
        struct window_read *head = head_count > 0 ? &reads[heads[head_count - 1]] : NULL;
        if (head == NULL || head->fd != reads[i].fd || reads[i].offset > end + read_gap) {
            total = (total + 63) & ~(size_t)63;
            reads[i].at = total;
            heads[head_count++] = i;
            end = reads[i].offset;
            head = &reads[i];
        } else {
            reads[i].at = head->at + (size_t)(reads[i].offset - head->offset);
        }
        if (reads[i].offset + reads[i].size > end) end = reads[i].offset + reads[i].size;
        total = head->at + (size_t)(end - head->offset);
    }
    char *space = scratch(2, total < 2 * window_bytes ? 2 * window_bytes : total);
    if (space == NULL) return -ENOMEM;
    heads[head_count] = used;
    for (uint32_t h = 0; h < head_count; h++) {
        struct window_read *head = &reads[heads[h]];
        size_t size = 0;
        for (uint32_t i = heads[h]; i < heads[h + 1]; i++) {
            size_t item_end = reads[i].at - head->at + reads[i].size;
            if (item_end > size) size = item_end;
        }
        double done;
        int64_t result = io_read(head->fd, space + head->at, size, head->offset, &done);
        if (result != 0) {
            *failed = (double)head->item + 1;
            return result;
        }
    }
    for (uint32_t i = 0; i < used; i++) items[reads[i].item].source = (double)(uintptr_t)(space + reads[i].at);
    return 0;
}

/* Reads the window that begins at `first`; `next` is its end. */
static int64_t take_window(struct item *items, uint32_t count, uint32_t first, uint32_t *next, double *failed) {
    double bytes = 0;
    uint32_t end = first;
    for (; end < count && end - first < window_items; end++) {
        if (items[end].target >= 0) bytes += items[end].source_size;
        if (bytes > window_bytes && end > first) break;
    }
    *next = end;
    *failed = 0;
    int64_t result = read_window(items + first, end - first, failed);
    if (*failed > 0) *failed += first;
    return result;
}

int64_t io_transfer(int fd, struct item *items, uint32_t count, int is_verified, double *failed) {
    struct run run = {.fd = fd};
    for (uint32_t first = 0, next; first < count; first = next) {
        int64_t result = take_window(items, count, first, &next, failed);
        if (result != 0) return result;
        for (uint32_t i = first; i < next; i++) {
            struct item *item = &items[i];
            const void *source = (const void *)(uintptr_t)item->source;
            if (!is_verified && item->target >= 0 &&
                walb_checksum(source, (size_t)item->source_size, 0) != item->word) {
                item->codec = DECODE_CHECKSUM;
                continue;
            }
            result = add_decoded(&run, item, 1);
            if (result < 0 && result != WALB_EOF) return result;
            item->codec = result == 0 ? DECODE_GOOD : DECODE_DAMAGED;
        }
        /* The next window takes the memory that the run may point to. */
        result = write_run(&run);
        if (result != 0) return result;
    }
    return 0;
}

/* Puts an item's bytes at `out`, where there is room for the larger of what is stored and its slice. */
static int64_t recode_item(struct item *item, uint32_t codec, uint32_t level, char *out) {
    char *image = (char *)(uintptr_t)item->source;
    size_t source_size = (size_t)item->source_size, image_size = (size_t)item->target_size;
    size_t slice_offset = (size_t)item->slice_offset, slice_size = (size_t)item->slice_size;
    if (item->file_offset == RECODE_KEEP) {
        memcpy(out, image, source_size);
        item->slice_offset = item->source_size;
        item->slice_size = item->codec;
        return 0;
    }
    if (image_size > decoded_max || slice_offset + slice_size > image_size) return WALB_EOF;
    if (item->codec != 0) {
        char *space = scratch(1, image_size < run_bytes ? run_bytes : image_size);
        if (space == NULL) return -ENOMEM;
        if (codec_decode(item->codec, image, source_size, space, image_size) != 0) return WALB_EOF;
        image = space;
    } else if (source_size != image_size) {
        return WALB_EOF;
    }
    struct item made = {.source = (double)(uintptr_t)(image + slice_offset), .source_size = (double)slice_size,
                        .target = (double)(uintptr_t)out, .target_size = (double)slice_size, .codec = codec, .word = level};
    encode_items(&made, 1, 0);
    if (made.codec != 0) item->file_offset = RECODE_ZERO;
    else if (made.slice_size == 0) memcpy(out, image + slice_offset, slice_size);
    item->slice_offset = made.slice_offset;
    item->slice_size = made.slice_size;
    item->word = made.word;
    return 0;
}

int64_t io_recode(struct item *items, uint32_t count, int is_verified, uint32_t codec, uint32_t level, char *out,
                  uint64_t room, uint32_t pack_records, double *failed) {
    uint64_t at = 0;
    for (uint32_t first = 0, next; first < count; first = next) {
        int64_t result = take_window(items, count, first, &next, failed);
        if (result != 0) return result;
        for (uint32_t i = first; i < next; i++) {
            struct item *item = &items[i];
            if (i % pack_records == 0) at += PACK_HEADER;
            int is_kept = item->file_offset == RECODE_KEEP;
            double needed = item->target < 0 ? 0 : is_kept ? item->source_size : item->slice_size;
            if ((double)at + needed > (double)room) return -EINVAL;
            if (item->target < 0) {
                item->slice_offset = 0;
                item->codec = DECODE_GOOD;
                continue;
            }
            if (!is_verified &&
                walb_checksum((const void *)(uintptr_t)item->source, (size_t)item->source_size, 0) != item->word) {
                item->codec = DECODE_CHECKSUM;
                item->slice_offset = 0;
                continue;
            }
            result = recode_item(item, codec, level, out + at);
            if (result < 0 && result != WALB_EOF) return result;
            item->codec = result == 0 ? DECODE_GOOD : DECODE_DAMAGED;
            if (result == 0) at += (uint64_t)item->slice_offset;
        }
    }
    return (int64_t)at;
}
