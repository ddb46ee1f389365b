/*
 * Images from the files they are stored in to the file they belong in: read, checked, expanded and written in windows
 * that stay in the processor's cache.
 *
 * A regular file takes one write at a time, so jobs that write one file work together in a flow: one thread writes, in
 * order, whatever is ready, the others read and expand what comes next. Who finds nothing to write reads and expands,
 * so that no role waits for the other as long as there is a window left.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { windows_max = 3, workers_max = 8, image_alignment = 64, huge_page = 2 << 20 };
/* Of a window, stored and expanded. What a job has for itself is small enough for the nearest cache. */
enum { flow_bytes = 2 << 20, own_stored = 256 << 10, own_images = 512 << 10 };
/* A thread looks once in so many windows whether it shares its processor. */
enum { spread_windows = 4 };

/* What a window has to write: runs of pieces that follow each other in the file. */
struct slot {
    uint32_t runs, pieces;
    uint64_t offset[WINDOW_ITEMS];
    uint32_t first[WINDOW_ITEMS + 1];
    struct iovec piece[WINDOW_ITEMS];
};

/* The rows of one job, on the stack of its thread. */
struct batch {
    uint64_t sequence;
    int fd, is_verified;
    struct item *items;
    uint32_t count, taken;
    uint32_t open;       /* windows that are not written yet */
    int is_bad, is_cut;  /* a strict flow ended in it, or before it */
    int64_t result;
    uint32_t failed;
    uint64_t failed_offset, failed_size; /* of the write that failed */
    struct batch *next;
};

/* A few rows, read and expanded, that wait for their turn to be written. */
struct window {
    struct batch *batch;
    uint32_t first, count;
    int is_filled, is_bad;
    int64_t result;
    uint32_t failed;
    char *large; /* memory of its own, for what is larger than windows are */
    struct slot slot;
};

struct flow {
    pthread_mutex_t mutex;
    pthread_cond_t changed, left; /* for those at work, and for those that wait to be */
    struct batch *batches;        /* ascending */
    uint64_t sequence;            /* of the batch whose rows are taken now */
    uint64_t taken, written;      /* windows */
    uint32_t window_count;
    size_t stored_max, images_max;
    int workers, workers_limit, waiting;
    int is_writing, is_strict, is_stopped;
    int is_own;            /* of one job alone, on its thread */
    char *stored, *images; /* of all windows; a job alone has its thread's */
    char *memory;
    size_t memory_bytes;
    int cpus[workers_max]; /* where the workers run, -1: none */
    struct window windows[windows_max];
};

/* Expands an item at `images` where that is needed, and leaves in `slice` what is to be written. */
static uint32_t expand(const struct item *item, int is_verified, char *images, struct iovec *slice) {
    char *source = (char *)(uintptr_t)item->source;
    size_t source_size = (size_t)item->source_size, image_size = (size_t)item->target_size;
    size_t slice_offset = (size_t)item->slice_offset, slice_size = (size_t)item->slice_size;
    if (!is_verified && item->target >= 0 && walb_checksum(source, source_size, 0) != item->word) return DECODE_CHECKSUM;
    if (image_size > DECODED_MAX || slice_offset + slice_size > image_size) return DECODE_DAMAGED;
    if (item->codec == 0) {
        if (source_size != image_size) return DECODE_DAMAGED;
    } else {
        if (codec_decode(item->codec, source, source_size, images, image_size) != 0) return DECODE_DAMAGED;
        source = images;
    }
    *slice = (struct iovec){source + slice_offset, slice_size};
    return DECODE_GOOD;
}

/* Expands the items of a window whose stored bytes are in memory; they become results, up to the first bad one where
   `is_strict`. Tells whether one is bad. */
static int fill_slot(struct slot *slot, struct item *items, uint32_t count, int is_verified, int is_strict, char *images) {
    int is_bad = 0;
    slot->runs = slot->pieces = 0;
    slot->first[0] = 0;
    uint64_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct item *item = &items[i];
        struct iovec *piece = &slot->piece[slot->pieces];
        uint32_t code = expand(item, is_verified, images, piece);
        if (item->codec != 0 && item->target_size <= DECODED_MAX)
            images += ((size_t)item->target_size + image_alignment - 1) & ~(size_t)(image_alignment - 1);
        item->codec = code;
        if (code != DECODE_GOOD) {
            is_bad = 1;
            if (is_strict) break;
        }
        if (code != DECODE_GOOD || piece->iov_len == 0) continue;
        uint64_t offset = (uint64_t)item->file_offset;
        if (slot->runs == 0 || offset != end) slot->offset[slot->runs++] = offset;
        end = offset + piece->iov_len;
        struct iovec *last = slot->pieces > slot->first[slot->runs - 1] ? piece - 1 : NULL;
        if (last != NULL && (char *)last->iov_base + last->iov_len == piece->iov_base) last->iov_len += piece->iov_len;
        else slot->pieces++;
        slot->first[slot->runs] = slot->pieces;
    }
    return is_bad;
}

static size_t images_room(const struct item *items, uint32_t count) {
    size_t room = 0;
    for (uint32_t i = 0; i < count; i++)
        if (items[i].codec != 0 && items[i].target_size <= DECODED_MAX) room += (size_t)items[i].target_size + image_alignment;
    return room;
}

static size_t aligned(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

/* Reads and expands a window. Not under the lock. */
static void fill(struct flow *flow, struct window *window) {
    struct batch *batch = window->batch;
    struct item *items = batch->items + window->first;
    size_t stored_room = 2 * flow->stored_max, number = (size_t)(window - flow->windows);
    size_t stored_needed = window_room(items, window->count, flow->stored_max);
    size_t images_needed = images_room(items, window->count);
    char *stored, *images;
    window->large = NULL;
    window->is_bad = 0;
    window->failed = 0;
    window->result = 0;
    window->slot.runs = 0;
    if (flow->is_own) {
        /* The thread's own memory stays with it: new memory for each large image costs more than to expand it. */
        stored = scratch(2, stored_needed);
        images = scratch(1, images_needed > flow->images_max ? images_needed : flow->images_max);
        if (stored == NULL || images == NULL) {
            window->result = -ENOMEM;
            return;
        }
    } else if (stored_needed > stored_room || images_needed > flow->images_max) {
        size_t stored_bytes = aligned(stored_needed, 4096);
        if (posix_memalign((void **)&window->large, 4096, stored_bytes + images_needed) != 0) {
            window->large = NULL;
            window->result = -ENOMEM;
            return;
        }
        stored = window->large;
        images = window->large + stored_bytes;
    } else {
        stored = flow->stored + number * stored_room;
        images = flow->images + number * flow->images_max;
    }
    double failed;
    window->result = window_read(items, window->count, flow->stored_max, stored, &failed);
    if (window->result != 0) window->failed = window->first + (uint32_t)failed;
    else window->is_bad = fill_slot(&window->slot, items, window->count, batch->is_verified, flow->is_strict, images);
}

static int64_t write_slot(struct batch *batch, struct slot *slot) {
    for (uint32_t r = 0; r < slot->runs; r++) {
        struct iovec *pieces = slot->piece + slot->first[r];
        int count = (int)(slot->first[r + 1] - slot->first[r]);
        uint64_t size = io_pieces_size(pieces, count);
        int64_t result = io_write_pieces(batch->fd, pieces, count, slot->offset[r]);
        if (result == 0) continue;
        batch->failed_offset = slot->offset[r];
        batch->failed_size = size;
        return result;
    }
    return 0;
}

/* From here on: under the lock, which is left for reading, expanding and writing. */

static struct window *head(struct flow *flow) {
    struct window *window = &flow->windows[flow->written % flow->window_count];
    return flow->written < flow->taken && window->is_filled ? window : NULL;
}

static void stop(struct flow *flow) {
    flow->is_stopped = 1;
    pthread_cond_broadcast(&flow->changed);
    pthread_cond_broadcast(&flow->left);
}

static int is_done(const struct flow *flow, const struct batch *batch) {
    return batch->open == 0 && (batch->taken == batch->count || flow->is_stopped);
}

/* Writes what is ready, in order. */
static void write_ready(struct flow *flow) {
    struct window *window;
    flow->is_writing = 1;
    while ((window = head(flow)) != NULL) {
        struct batch *batch = window->batch;
        int64_t result = window->result;
        if (flow->is_stopped) {
            batch->is_cut = 1;
        } else if (result == 0) {
            pthread_mutex_unlock(&flow->mutex);
            result = write_slot(batch, &window->slot);
            pthread_mutex_lock(&flow->mutex);
        }
        free(window->large);
        window->is_filled = 0;
        flow->written++;
        batch->open--;
        if (!batch->is_cut && (result != 0 || (flow->is_strict && window->is_bad))) {
            /* What is bad is told by its row. */
            batch->result = result;
            batch->failed = window->failed;
            batch->is_bad = 1;
            stop(flow);
        }
        if (flow->waiting > 0) pthread_cond_broadcast(&flow->changed);
        if (is_done(flow, batch)) pthread_cond_broadcast(&flow->left);
    }
    flow->is_writing = 0;
}

/* The next window, when there are rows and room for it. */
static struct window *take(struct flow *flow) {
    if (flow->is_stopped || flow->taken - flow->written == flow->window_count) return NULL;
    struct batch *batch = flow->batches;
    while (batch != NULL && batch->sequence < flow->sequence) batch = batch->next;
    if (batch == NULL || batch->sequence != flow->sequence) return NULL;
    struct window *window = &flow->windows[flow->taken++ % flow->window_count];
    uint32_t end = window_end(batch->items, batch->count, batch->taken, flow->stored_max, flow->images_max);
    window->batch = batch;
    window->first = batch->taken;
    window->count = end - batch->taken;
    batch->taken = end;
    batch->open++;
    if (end == batch->count) flow->sequence++;
    return window;
}

/*
 * Two threads that wait for each other in turn may stay on one processor for seconds while another one is idle: the
 * system takes them for one thread's worth of work. Then this one goes to another processor, and is free again.
 */
static void spread(struct flow *flow, int worker) {
    int cpu = sched_getcpu(), is_shared = 0;
    __atomic_store_n(&flow->cpus[worker], cpu, __ATOMIC_RELAXED);
    for (int i = 0; i < flow->workers_limit; i++)
        if (i != worker && __atomic_load_n(&flow->cpus[i], __ATOMIC_RELAXED) == cpu) is_shared = 1;
    cpu_set_t all, others;
    if (!is_shared || cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof(all), &all) != 0) return;
    others = all;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return;
    __atomic_store_n(&flow->cpus[worker], sched_getcpu(), __ATOMIC_RELAXED);
    sched_setaffinity(0, sizeof(all), &all);
}

static int enter(struct flow *flow) {
    if (flow->workers == flow->workers_limit) return -1;
    int worker = 0;
    while (flow->cpus[worker] >= 0) worker++;
    flow->cpus[worker] = CPU_SETSIZE;
    flow->workers++;
    return worker;
}

/* Works in the flow until all of `batch` is written. */
static void work(struct flow *flow, struct batch *batch) {
    int worker = -1;
    struct batch **place = &flow->batches;
    while (*place != NULL && (*place)->sequence < batch->sequence) place = &(*place)->next;
    batch->next = *place;
    *place = batch;
    if (flow->waiting > 0) pthread_cond_broadcast(&flow->changed);
    for (uint32_t filled = 0;;) {
        /* Before it may leave: others may wait for what it has filled. */
        if (worker >= 0 && head(flow) != NULL && !flow->is_writing) write_ready(flow);
        if (is_done(flow, batch)) break;
        if (worker < 0) worker = enter(flow);
        struct window *window = worker < 0 ? NULL : take(flow);
        if (window != NULL) {
            pthread_mutex_unlock(&flow->mutex);
            if (filled++ % spread_windows == 0 && flow->workers_limit > 1) spread(flow, worker);
            fill(flow, window);
            pthread_mutex_lock(&flow->mutex);
            window->is_filled = 1;
            continue;
        }
        flow->waiting += worker >= 0;
        pthread_cond_wait(worker < 0 ? &flow->left : &flow->changed, &flow->mutex);
        flow->waiting -= worker >= 0;
    }
    if (!batch->is_bad && (batch->is_cut || batch->taken < batch->count)) batch->result = -ECANCELED;
    for (place = &flow->batches; *place != batch;) place = &(*place)->next;
    *place = batch->next;
    if (worker >= 0) {
        flow->cpus[worker] = -1;
        flow->workers--;
        pthread_cond_broadcast(&flow->left);
    }
}

static void begin(struct flow *flow, uint32_t window_count, int workers, int is_strict) {
    memset(flow, 0, offsetof(struct flow, windows));
    pthread_mutex_init(&flow->mutex, NULL);
    pthread_cond_init(&flow->changed, NULL);
    pthread_cond_init(&flow->left, NULL);
    flow->window_count = window_count;
    flow->workers_limit = workers < 1 ? 1 : workers > workers_max ? workers_max : workers;
    flow->is_strict = is_strict;
    for (uint32_t i = 0; i < window_count; i++) flow->windows[i].is_filled = 0;
    for (int i = 0; i < workers_max; i++) flow->cpus[i] = -1;
}

WALB_EXPORT struct flow *walb_flow_create(int32_t workers, int32_t is_strict) {
    struct flow *flow = malloc(sizeof(*flow));
    if (flow == NULL) return NULL;
    begin(flow, windows_max, workers, is_strict);
    flow->stored_max = flow->images_max = flow_bytes;
    flow->memory_bytes = windows_max * 3 * (size_t)flow_bytes + huge_page;
    flow->memory = mmap(NULL, flow->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (flow->memory == MAP_FAILED) {
        free(flow);
        return NULL;
    }
    flow->images = (char *)aligned((size_t)flow->memory, huge_page);
    flow->stored = flow->images + windows_max * (size_t)flow_bytes;
    /* Small pages do as well, they only cost more to get. */
    madvise(flow->images, windows_max * 3 * (size_t)flow_bytes, MADV_HUGEPAGE);
    return flow;
}

/* Nothing more is written, and no batch of it is waited for: one of them will never come. */
WALB_EXPORT void walb_flow_stop(struct flow *flow) {
    pthread_mutex_lock(&flow->mutex);
    stop(flow);
    pthread_mutex_unlock(&flow->mutex);
}

/* No job of it runs any more. */
WALB_EXPORT void walb_flow_destroy(struct flow *flow) {
    munmap(flow->memory, flow->memory_bytes);
    pthread_mutex_destroy(&flow->mutex);
    pthread_cond_destroy(&flow->changed);
    pthread_cond_destroy(&flow->left);
    free(flow);
}

int64_t io_transfer(int fd, struct item *items, uint32_t count, int is_verified, struct flow *shared, uint64_t sequence,
                    double *failed) {
    struct batch batch = {.sequence = sequence, .fd = fd, .is_verified = is_verified, .items = items, .count = count};
    struct flow own, *flow = shared;
    if (flow == NULL) {
        batch.sequence = 0;
        begin(&own, 1, 1, 0);
        flow = &own;
        flow->stored_max = own_stored;
        flow->images_max = own_images;
        flow->is_own = 1;
    }
    pthread_mutex_lock(&flow->mutex);
    work(flow, &batch);
    pthread_mutex_unlock(&flow->mutex);
    *failed = batch.failed;
    if (batch.failed_size > 0) *failed = item_failed_write(items, batch.failed_offset, batch.failed_size);
    return batch.result;
}
