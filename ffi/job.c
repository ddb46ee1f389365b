/* What a job does, by its op. Runs on a thread of the pool, or on the caller's. */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

int64_t block_size(int fd);

static void *at(double address) { return (void *)(uintptr_t)address; }

static int64_t run(struct job *job) {
    struct item *items = at(job->table);
    uint64_t offset = (uint64_t)job->offset, size = (uint64_t)job->size;
    int is_block = (job->flags & FLAG_BLOCK_DEVICE) != 0;
    int64_t result;
    switch (job->op) {
    case OP_NOP:
        return 0;
    case OP_PREAD:
        return io_read(job->fd, at(job->address), size, offset, &job->result2);
    case OP_PWRITE:
        return io_write(job->fd, at(job->address), size, offset, &job->result2);
    case OP_PWRITEV:
        if (job->flags & FLAG_SUMMED) put_sums(items + job->count, (uint32_t)job->extra);
        result = io_write_gather(job->fd, items, job->count, offset, &job->result2);
        if (result != 0 || !(job->flags & FLAG_SYNC)) return result;
        return fdatasync(job->fd) == 0 ? 0 : -errno;
    case OP_WRITE_MANY:
        return io_write_many(job->fd, items, job->count, job->flags & FLAG_GENTLE, &job->result2);
    case OP_READ_MANY:
        return io_read_many(job->fd, items, job->count, &job->result2);
    case OP_ALLOCATE:
        return io_allocate(job->fd, offset, size);
    case OP_START_WRITEBACK:
        return io_start_writeback(job->fd, offset, size);
    case OP_WRITE_BACK:
        return io_write_back(job->fd, offset, size);
    case OP_FDATASYNC:
        return fdatasync(job->fd) == 0 ? 0 : -errno;
    case OP_FSYNC_PATH:
        return io_fsync_path(at(job->address), (job->flags & FLAG_SYNC) != 0);
    case OP_COMMIT_FILE:
        return io_commit_file(job->fd, job->size, at(job->address), at(job->extra), at(job->table), &job->result2);
    case OP_ZERO:
        return io_zero(job->fd, offset, size, is_block);
    case OP_DISCARD:
        return io_discard(job->fd, offset, size, is_block);
    case OP_TRUNCATE:
        return ftruncate64(job->fd, (off64_t)size) == 0 ? 0 : -errno;
    case OP_FICLONE:
        return ioctl(job->fd, FICLONE, (int)job->extra) == 0 ? 0 : -errno;
    case OP_COPY_RANGE:
        return io_copy_range(job->fd, (int)job->extra, offset, size, &job->result2);
    case OP_NEXT_DATA:
        return io_next_data(job->fd, offset, &job->result2);
    case OP_OPEN:
        return io_open(job);
    case OP_CLOSE:
        return close(job->fd) == 0 ? 0 : -errno;
    case OP_SIZE:
        return is_block ? block_size(job->fd) : io_size(job->fd);
    case OP_STATVFS:
        return io_statvfs(at(job->address), &job->result2);
    case OP_UNLINK:
        return unlink(at(job->address)) == 0 ? 0 : -errno;
    case OP_RENAME:
        return rename(at(job->address), at(job->extra)) == 0 ? 0 : -errno;
    case OP_IOCTL:
        result = ioctl(job->fd, (unsigned long)job->extra, at(job->address));
        return result < 0 ? -errno : result;
    case OP_ENCODE:
        encode_items(items, job->count, job->flags & FLAG_ALWAYS);
        return 0;
    case OP_DECODE:
        decode_items(items, job->count);
        return 0;
    case OP_EXPAND:
        expand_items(items, job->count);
        return 0;
    case OP_VERIFY:
        for (uint32_t i = 0; i < job->count; i++)
            items[i].codec = walb_checksum(at(items[i].source), (size_t)items[i].source_size, items[i].codec) ==
                             items[i].word;
        return 0;
    case OP_CHECKSUM:
        for (uint32_t i = 0; i < job->count; i++)
            items[i].word = walb_checksum(at(items[i].source), (size_t)items[i].source_size, (uint32_t)job->extra);
        return 0;
    case OP_HASH:
        /* The hash takes the place of the address and size it was made of. */
        for (uint32_t i = 0; i < job->count; i++) {
            uint8_t hash[16];
            walb_murmur3_x64_128(at(items[i].source), (size_t)items[i].source_size, (uint32_t)job->extra, hash);
            memcpy(&items[i], hash, 16);
        }
        return 0;
    case OP_READ_ENCODE:
        result = io_read_scatter(job->fd, items, job->count, offset, &job->result2);
        if (result == 0) encode_items(items, job->count, job->flags & FLAG_ALWAYS);
        return result;
    case OP_READ_HASH: {
        const uint8_t *data = at(job->address);
        uint8_t *hashes = at(job->table);
        result = io_read(job->fd, at(job->address), size, offset, &job->result2);
        if (result != 0) return result;
        for (uint64_t done = 0; done < size; done += job->count, hashes += 16) {
            uint64_t now = size - done < job->count ? size - done : job->count;
            walb_murmur3_x64_128(data + done, now, (uint32_t)job->extra, hashes);
        }
        return 0;
    }
    case OP_HASH_ZEROES:
        hash_zeroes((size_t)size, (uint32_t)job->extra, job->count, at(job->table));
        return 0;
    case OP_WRITE_DECODED:
        return io_write_decoded(job->fd, items, job->count, (uint64_t)job->extra, &job->result2);
    case OP_TRANSFER:
        return io_transfer(job->fd, items, job->count, job->flags & FLAG_VERIFIED, at(job->extra), offset, &job->result2);
    case OP_RECODE:
        return io_recode(items, job->count, job->flags & FLAG_VERIFIED, (uint32_t)offset % 256, (uint32_t)offset / 256,
                         at(job->address), size, (uint32_t)job->extra, &job->result2);
    case OP_READ_PACKS:
        return io_read_packs(job->fd, at(job->address), size, offset);
    case OP_READ_LOG_PACKS:
        return io_read_log_packs(job->fd, at(job->address), size, offset, job->count);
    case OP_FRAME:
        return frame_items(items, job->count, at(job->address), size);
    case OP_SLEEP: {
        struct timespec span = {(time_t)(job->size / 1000), ((long)job->size % 1000) * 1000000L};
        while (nanosleep(&span, &span) != 0 && errno == EINTR) {
        }
        return 0;
    }
    default:
        return -ENOSYS;
    }
}

WALB_EXPORT void walb_run_job(struct job *job) {
    job->result2 = 0;
    job->result = (double)run(job);
    scratch_trim();
}
