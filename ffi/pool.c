/*
 * The job pool: two lanes of threads (fast: reads, writes, codecs; slow: syncs, copies, metadata, ioctls, which must
 * not starve the others), job slots that JavaScript fills, and one coalesced byte on a socketpair as wake-up.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <linux/fs.h>
#include <unistd.h>

int64_t block_size(int fd);
void walb_block_signals(sigset_t *old);
void walb_restore_signals(const sigset_t *old);

enum { lanes = 2, threads_max = 64, none = 0xffffffff };

struct lane {
    pthread_cond_t more;
    uint32_t head, tail, queued;
    int idle, started, limit;
    int is_waking; /* a thread was signalled and has not looked yet: it wakes the next one if need be */
    pthread_t threads[threads_max];
};

struct pool {
    pthread_mutex_t mutex;
    struct job *slots;
    uint32_t slot_count;
    uint32_t *done; /* completed slots in order, taken by walb_pool_reap */
    uint32_t done_count;
    int is_signalled, is_closing;
    int wake_fd, read_fd;
    struct lane lane[lanes];
};

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
        return io_write_decoded(job->fd, items, job->count, (uint64_t)job->extra);
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

enum { answer_none = 0, answer_held, answer_over };

/*
 * Behind a job that succeeded its answer goes out at once: whoever waits for it does not wait for the event loop as well.
 * Called and left with the lock held, which is not held while it is sent.
 */
static void answer(struct pool *pool, struct job *job) {
    int is_due = job->answer_state == answer_held && job->result >= 0;
    job->answer_state = answer_over;
    if (!is_due) return;
    pthread_mutex_unlock(&pool->mutex);
    ssize_t sent;
    do {
        sent = send(job->answer_fd, job->answer, job->answer_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    /* What the socket does not take, and why, JavaScript finds out when it sends the rest. */
    job->answer_sent = sent < 0 ? 0 : (int32_t)sent;
    pthread_mutex_lock(&pool->mutex);
}

static void wake(struct pool *pool) {
    /* The buffer takes many bytes and at most one of each thread is outstanding, so it cannot be full. */
    while (send(pool->wake_fd, "!", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR) {
    }
}

/*
 * Waking a thread costs the caller more than most jobs: one at a time is woken, and wakes the next one itself. This tells
 * whether it is to be done, which is for behind the lock: woken inside, the thread would only wait for the lock.
 */
static int claim_wake(struct lane *lane) {
    if (lane->idle == 0 || lane->is_waking) return 0;
    lane->is_waking = 1;
    return 1;
}

struct start {
    struct pool *pool;
    int lane;
};

static void *work(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    struct pool *pool = start.pool;
    struct lane *lane = &pool->lane[start.lane];
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (lane->head == none && !pool->is_closing) {
            lane->idle++;
            pthread_cond_wait(&lane->more, &pool->mutex);
            lane->idle--;
            lane->is_waking = 0;
        }
        if (lane->head == none) break;
        uint32_t slot = lane->head;
        lane->head = pool->slots[slot].next;
        lane->queued--;
        if (lane->head == none) lane->tail = none;
        int is_more = lane->head != none && claim_wake(lane);
        pthread_mutex_unlock(&pool->mutex);
        if (is_more) pthread_cond_signal(&lane->more);
        walb_run_job(&pool->slots[slot]);
        pthread_mutex_lock(&pool->mutex);
        answer(pool, &pool->slots[slot]);
        pool->done[pool->done_count++] = slot;
        if (!pool->is_signalled) {
            pool->is_signalled = 1;
            /* Not under the lock, which JavaScript may be about to take. */
            pthread_mutex_unlock(&pool->mutex);
            wake(pool);
            pthread_mutex_lock(&pool->mutex);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

WALB_EXPORT struct pool *walb_pool_create(uint32_t slot_count, int fast_threads, int slow_threads) {
    struct pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) return NULL;
    int pair[2];
    if (posix_memalign((void **)&pool->slots, 4096, slot_count * sizeof(struct job)) != 0) goto no_slots;
    memset(pool->slots, 0, slot_count * sizeof(struct job));
    pool->done = calloc(slot_count, sizeof(uint32_t));
    if (pool->done == NULL) goto no_done;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) goto no_pair;
    pthread_mutex_init(&pool->mutex, NULL);
    pool->slot_count = slot_count;
    pool->wake_fd = pair[0];
    pool->read_fd = pair[1];
    for (int i = 0; i < lanes; i++) {
        int wanted = i == 0 ? fast_threads : slow_threads;
        pthread_cond_init(&pool->lane[i].more, NULL);
        pool->lane[i].head = pool->lane[i].tail = none;
        pool->lane[i].limit = wanted < 1 ? 1 : wanted > threads_max ? threads_max : wanted;
    }
    return pool;
no_pair:
    free(pool->done);
no_done:
    free(pool->slots);
no_slots:
    free(pool);
    return NULL;
}

WALB_EXPORT void *walb_pool_slots(struct pool *pool) { return pool->slots; }
WALB_EXPORT int walb_pool_fd(struct pool *pool) { return pool->read_fd; }

static int start_thread(struct pool *pool, int index) {
    struct lane *lane = &pool->lane[index];
    struct start *start = malloc(sizeof(*start));
    if (start == NULL) return ENOMEM;
    start->pool = pool;
    start->lane = index;
    sigset_t old;
    walb_block_signals(&old);
    int error = pthread_create(&lane->threads[lane->started], NULL, work, start);
    walb_restore_signals(&old);
    if (error != 0)
        free(start);
    else
        lane->started++;
    return error;
}

/* 0, or an errno when there is no thread to run the job: then it was not taken. */
WALB_EXPORT int walb_pool_submit(struct pool *pool, uint32_t slot) {
    struct job *job = &pool->slots[slot];
    int index = job->lane == 0 ? 0 : 1;
    struct lane *lane = &pool->lane[index];
    job->next = none;
    job->answer_state = answer_none;
    job->answer_sent = -1;
    pthread_mutex_lock(&pool->mutex);
    if (lane->queued >= (uint32_t)lane->idle && lane->started < lane->limit) {
        int error = start_thread(pool, index);
        if (error != 0 && lane->started == 0) {
            pthread_mutex_unlock(&pool->mutex);
            return error;
        }
    }
    if (lane->head == none)
        lane->head = slot;
    else
        pool->slots[lane->tail].next = slot;
    lane->tail = slot;
    lane->queued++;
    int is_idle = claim_wake(lane);
    pthread_mutex_unlock(&pool->mutex);
    if (is_idle) pthread_cond_signal(&lane->more);
    return 0;
}

/* Lets a job that was submitted and not reaped send bytes when it has succeeded. 0 when it is over, or has some. */
WALB_EXPORT int walb_pool_entrust(struct pool *pool, uint32_t slot, int fd, const void *bytes, uint32_t size) {
    struct job *job = &pool->slots[slot];
    if (size > sizeof job->answer) return 0;
    pthread_mutex_lock(&pool->mutex);
    int is_taken = job->answer_state == answer_none;
    if (is_taken) {
        job->answer_state = answer_held;
        job->answer_fd = fd;
        job->answer_size = size;
        memcpy(job->answer, bytes, size);
    }
    pthread_mutex_unlock(&pool->mutex);
    return is_taken;
}

/*
 * 1 when the bytes are not sent, and will not be: also when the job has failed, of which the caller may not know yet. 0
 * when they are being sent, or were.
 */
WALB_EXPORT int walb_pool_withdraw(struct pool *pool, uint32_t slot) {
    struct job *job = &pool->slots[slot];
    pthread_mutex_lock(&pool->mutex);
    int is_held = job->answer_state == answer_held;
    if (is_held) job->answer_state = answer_none;
    int is_unsent = is_held || (job->answer_state == answer_over && job->result < 0);
    pthread_mutex_unlock(&pool->mutex);
    return is_unsent;
}

/* Swaps out the completed slots: their numbers are in `out`. The next completion sends a byte again. */
WALB_EXPORT uint32_t walb_pool_reap(struct pool *pool, uint32_t *out) {
    pthread_mutex_lock(&pool->mutex);
    uint32_t count = pool->done_count;
    memcpy(out, pool->done, count * sizeof(uint32_t));
    pool->done_count = 0;
    pool->is_signalled = 0;
    pthread_mutex_unlock(&pool->mutex);
    return count;
}

/* Ends the threads after the jobs they have; the caller has reaped everything. Slots stay mapped in JavaScript. */
WALB_EXPORT void walb_pool_close(struct pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->is_closing = 1;
    for (int i = 0; i < lanes; i++) pthread_cond_broadcast(&pool->lane[i].more);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < lanes; i++)
        for (int t = 0; t < pool->lane[i].started; t++) pthread_join(pool->lane[i].threads[t], NULL);
    close(pool->wake_fd);
}

/*
 * Slab memory: anonymous pages, given back to the system (but not unmapped) by walb_memory_cool. Large slabs are of huge
 * pages where the system has them: what is read into them and written past the page cache is then looked up, pinned and
 * given to the disk by the 2 MiB instead of by the 4 KiB.
 */
WALB_EXPORT void *walb_memory_map(uint64_t size) {
    uint64_t huge = 2u << 20;
    uint64_t spare = size >= huge ? huge : 0; /* older kernels do not align by themselves */
    char *data = mmap(NULL, size + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return NULL;
    if (spare == 0) return data;
    uint64_t front = (huge - (uintptr_t)data % huge) % huge;
    if (front > 0) munmap(data, front);
    if (spare > front) munmap(data + front + size, spare - front);
    madvise(data + front, size, MADV_HUGEPAGE);
    return data + front;
}

WALB_EXPORT int walb_memory_cool(void *data, uint64_t size) {
    return madvise(data, size, MADV_DONTNEED) == 0 ? 0 : errno;
}

WALB_EXPORT int walb_error_text(int error, char *out, uint32_t size) {
    const char *text = strerror(error);
    return snprintf(out, size, "%s", text);
}
