/* Opening, zeroing and discarding of files and block devices. */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* struct statx of Linux 6.1 and later, up to the direct I/O fields; older headers do not have them. */
struct statx_dio {
    uint8_t before[0x98];
    uint32_t dio_mem_align;
    uint32_t dio_offset_align;
    uint8_t after[0x60];
};
enum { statx_want_dio = 0x2000 };

static int file_status(int fd, struct stat *status) { return (int)syscall(SYS_fstat, fd, status); }

static int is_unsupported(int error) {
    return error == EOPNOTSUPP || error == ENOTTY || error == ENOSYS || error == EINVAL;
}

/* The size of a file does not change: what lies beyond its end is left out, also where zeroes are written plainly. */
int64_t io_zero(int fd, uint64_t offset, uint64_t size, int is_block) {
    if (size == 0) return 0;
    if (is_block) {
        uint64_t range[2] = {offset, size};
        if (ioctl(fd, BLKZEROOUT, range) == 0) return 0;
        if (!is_unsupported(errno)) return -errno;
        return io_write_zeroes(fd, offset, size);
    }
    if (fallocate64(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off64_t)offset, (off64_t)size) == 0) return 0;
    if (!is_unsupported(errno)) return -errno;
    struct stat status;
    if (file_status(fd, &status) != 0) return -errno;
    uint64_t end = (uint64_t)status.st_size;
    if (offset >= end) return 0;
    return io_write_zeroes(fd, offset, end - offset < size ? end - offset : size);
}

/* Reserves space of a regular file, so that later writes into the range cannot fail for want of it. */
int64_t io_allocate(int fd, uint64_t offset, uint64_t size) {
    int result;
    do {
        result = fallocate64(fd, 0, (off64_t)offset, (off64_t)size);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : -errno;
}

/* Lets the disk begin with what was written, so that the sync behind it is short. It makes nothing durable: errors do not
   matter, and stay for the sync to find. */
int64_t io_start_writeback(int fd, uint64_t offset, uint64_t size) {
    sync_file_range(fd, (off64_t)offset, (off64_t)size, SYNC_FILE_RANGE_WRITE);
    return 0;
}

/* As above, and waits for the disk. An error it meets is told here, and not again by the sync behind it. */
int64_t io_write_back(int fd, uint64_t offset, uint64_t size) {
    unsigned how = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    return sync_file_range(fd, (off64_t)offset, (off64_t)size, how) == 0 ? 0 : -errno;
}

int64_t io_discard(int fd, uint64_t offset, uint64_t size, int is_block) {
    if (size == 0) return 0;
    if (!is_block) {
        int result = fallocate64(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off64_t)offset, (off64_t)size);
        return result == 0 ? 0 : -errno;
    }
    uint64_t range[2] = {offset, size};
    return ioctl(fd, BLKDISCARD, range) == 0 ? 0 : -errno;
}

static uint32_t sysfs_block_size(dev_t device) {
    const char *forms[] = {"/sys/dev/block/%u:%u/queue/logical_block_size",
                           "/sys/dev/block/%u:%u/../queue/logical_block_size"};
    for (int i = 0; i < 2; i++) {
        char path[128], text[16] = {0};
        snprintf(path, sizeof(path), forms[i], major(device), minor(device));
        int fd = open64(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        ssize_t got = read(fd, text, sizeof(text) - 1);
        close(fd);
        int value = got > 0 ? atoi(text) : 0;
        if (value >= 512 && value <= 65536) return (uint32_t)value;
    }
    return 0;
}

/* Alignment of direct I/O on a regular file; 0 when the file cannot do direct I/O. */
static uint32_t file_alignment(int fd, const struct stat *status) {
    struct statx_dio extended;
    memset(&extended, 0, sizeof(extended));
    uint32_t mask = 0;
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, statx_want_dio, &extended) == 0) memcpy(&mask, &extended, 4);
    if (mask & statx_want_dio) {
        uint32_t memory = extended.dio_mem_align, offset = extended.dio_offset_align;
        if (offset == 0) return 0;
        uint32_t larger = memory > offset ? memory : offset;
        return larger < 512 ? 512 : larger;
    }
    uint32_t size = sysfs_block_size(status->st_dev);
    if (size != 0) return size;
    void *data = scratch(2, 4096);
    if (data == NULL) return 4096;
    return pread64(fd, data, 512, 0) < 0 && errno == EINVAL ? 4096 : 512;
}

static int open_file(const char *path, int flags, uint32_t wanted, int *is_direct) {
    *is_direct = 0;
    if (wanted & OPEN_DIRECT) {
        int fd = open64(path, flags | O_DIRECT, 0600);
        if (fd >= 0) *is_direct = 1;
        if (fd >= 0 || errno != EINVAL) return fd;
        /* With O_CREAT|O_EXCL some file systems have made the file before they refuse O_DIRECT. */
        if (flags & O_EXCL) unlink(path);
    }
    return open64(path, flags, 0600);
}

static int64_t refuse(int fd, int error) {
    close(fd);
    return -error;
}

/*
 * In: address = path, flags = OPEN_*. Out: result = fd, and in `table` six doubles: kind (1 block device, 0 regular
 * file), direct, alignment, physical block size, size, whether its file system is local.
 */
int64_t io_open(struct job *job) {
    const char *path = (const char *)(uintptr_t)job->address;
    double *out = (double *)(uintptr_t)job->table;
    uint32_t wanted = job->flags;
    struct stat status;
    int flags = O_CLOEXEC | (wanted & OPEN_WRITE ? O_RDWR : O_RDONLY);
    if (wanted & OPEN_CREATE) flags |= O_CREAT;
    if (wanted & OPEN_EXCLUSIVE) flags |= O_EXCL;
    if ((wanted & OPEN_LOCK) && !(wanted & OPEN_EXCLUSIVE)) {
        /* O_EXCL without O_CREAT claims a block device against mounts and other claimants. */
        if (syscall(SYS_newfstatat, AT_FDCWD, path, &status, 0) == 0 && S_ISBLK(status.st_mode))
            flags = (flags & ~O_CREAT) | O_EXCL;
    }
    int is_direct = 0;
    int fd = open_file(path, flags | O_NONBLOCK, wanted, &is_direct);
    if (fd < 0) return errno == EBUSY && (wanted & OPEN_LOCK) ? -EWOULDBLOCK : -errno;
    if (file_status(fd, &status) != 0) return refuse(fd, errno);
    int is_block = S_ISBLK(status.st_mode);
    if (!is_block && !S_ISREG(status.st_mode)) return refuse(fd, S_ISDIR(status.st_mode) ? EISDIR : ENXIO);
    if ((wanted & OPEN_LOCK) && flock(fd, LOCK_EX | LOCK_NB) != 0) return refuse(fd, errno);
    if ((wanted & OPEN_LOCK_SHARED) && flock(fd, LOCK_SH | LOCK_NB) != 0) return refuse(fd, errno);
    double alignment = 1, physical = 512;
    if (is_block) {
        uint64_t size = 0;
        int logical = 0;
        unsigned int bytes = 0;
        if (ioctl(fd, BLKGETSIZE64, &size) != 0 || ioctl(fd, BLKSSZGET, &logical) != 0 ||
            ioctl(fd, BLKPBSZGET, &bytes) != 0)
            return refuse(fd, errno);
        physical = bytes;
        if (is_direct) alignment = logical;
        status.st_size = (off_t)size;
    } else if (is_direct) {
        uint32_t needed = file_alignment(fd, &status);
        if (needed == 0) {
            int now = fcntl(fd, F_GETFL);
            if (now < 0 || fcntl(fd, F_SETFL, now & ~O_DIRECT) != 0) return refuse(fd, errno);
            is_direct = 0;
        } else {
            alignment = needed;
        }
    }
    out[0] = is_block;
    out[1] = is_direct;
    out[2] = alignment;
    out[3] = physical;
    out[4] = (double)status.st_size;
    out[5] = !is_block && is_local_file_system(fd);
    return fd;
}

/* Capacity of a block device by its open fd. */
int64_t block_size(int fd) {
    uint64_t size = 0;
    return ioctl(fd, BLKGETSIZE64, &size) == 0 ? (int64_t)size : -errno;
}

/* Forgets what the page cache has of a file and the disk has, too, as far as the kernel knows; what is not written back
   yet stays. Behind a failed write-back the cache has what the disk has not. */
WALB_EXPORT void walb_forget_cached(int32_t fd) { posix_fadvise64(fd, 0, 0, POSIX_FADV_DONTNEED); }
