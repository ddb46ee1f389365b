/*
 * What is done with small regular files on the calling thread, because it waits for nothing: a job of the pool costs many
 * times as much. Whatever cannot be done so is −errno, and is left to a job, which says what is wrong.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

/* openat2(2) of Linux 5.6, and RESOLVE_CACHED of 5.12; older headers do not have them. */
enum { sys_openat2 = 437, resolve_cached = 0x20 };
enum { xfs_magic = 0x58465342, zfs_magic = 0x2fc12fc1 };

/* Opening a file there whose path is in memory asks nobody else. */
int is_local_file_system(int fd) {
    struct statfs status;
    if (fstatfs(fd, &status) != 0) return 0;
    switch ((uint32_t)status.f_type) {
    case EXT4_SUPER_MAGIC:
    case xfs_magic:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case zfs_magic:
        return 1;
    default:
        return 0;
    }
}

/* Opens a regular file for reading. Out: its size. */
WALB_EXPORT int32_t walb_open_cached(const char *path, double *size) {
    struct {
        uint64_t flags, mode, resolve;
    } how = {O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0, resolve_cached};
    struct stat status;
    long fd = syscall(sys_openat2, AT_FDCWD, path, &how, sizeof(how));
    if (fd < 0) return -errno;
    if (syscall(SYS_fstat, (int)fd, &status) == 0 && S_ISREG(status.st_mode)) {
        *size = (double)status.st_size;
        return (int32_t)fd;
    }
    close((int)fd);
    return -EAGAIN;
}

/* Closes a file that was opened for reading. −EAGAIN when that would remove it from the disk. */
WALB_EXPORT int32_t walb_close_cached(int32_t fd) {
    struct stat status;
    if (syscall(SYS_fstat, fd, &status) != 0 || status.st_nlink == 0) return -EAGAIN;
    return close(fd) == 0 ? 0 : -errno;
}

/* As io_read_packs, as far as the headers are in the page cache. */
WALB_EXPORT int32_t walb_read_packs_cached(int32_t fd, uint8_t *headers, double size, double offset) {
    int32_t count = 0;
    uint64_t at = (uint64_t)offset;
    for (; (count + 1) * (double)PACK_HEADER <= size; count++) {
        struct iovec piece = {headers + (size_t)count * PACK_HEADER, PACK_HEADER};
        ssize_t got = syscall(SYS_preadv2, fd, &piece, 1L, (long)at, 0L, RWF_NOWAIT);
        if (got != PACK_HEADER) return count;
        int64_t next = pack_behind(piece.iov_base, at);
        if (next < 0) return count + 1;
        at = (uint64_t)next;
    }
    return count;
}
