/*
 * Images from the files they are stored in to the file they belong in: read, checked, expanded and written in windows
 * that stay in the processor's cache.
 *
 * A regular file takes one write at a time: the kernel makes the other writers spin. So a thread that finds another one
 * writing goes on with its next windows instead, and writes several at once when its turn has come.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { stored_max = 256 << 10, images_max = 512 << 10, slots_max = 3, gates_max = 64, image_alignment = 64 };

/* Who writes a file now. Files that share a gate only wait for each other without need. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t left;
    int is_taken;
};
static struct gate gates[gates_max] = {[0 ... gates_max - 1] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}};

static int gate_enter(struct gate *gate, int waits) {
    pthread_mutex_lock(&gate->mutex);
    while (gate->is_taken && waits) pthread_cond_wait(&gate->left, &gate->mutex);
    int is_mine = !gate->is_taken;
    gate->is_taken = 1;
    pthread_mutex_unlock(&gate->mutex);
    return is_mine;
}

static void gate_leave(struct gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    gate->is_taken = 0;
    pthread_mutex_unlock(&gate->mutex);
    pthread_cond_signal(&gate->left);
}

/* What a window has to write: runs of pieces that follow each other in the file. */
struct slot {
    uint32_t runs, pieces;
    uint64_t offset[WINDOW_ITEMS];
    uint32_t first[WINDOW_ITEMS + 1];
    struct iovec piece[WINDOW_ITEMS];
};

struct transfer {
    int fd;
    struct gate *gate; /* NULL: writes do not wait for each other */
    uint32_t used;
    struct slot slots[slots_max];
};

/* Writes what is there, in its order. Without `waits` only when nobody else is writing. */
static int64_t flush(struct transfer *transfer, int waits) {
    if (transfer->used == 0) return 0;
    if (transfer->gate != NULL && !gate_enter(transfer->gate, waits)) return 0;
    int64_t result = 0;
    for (uint32_t s = 0; s < transfer->used && result == 0; s++) {
        struct slot *slot = &transfer->slots[s];
        for (uint32_t r = 0; r < slot->runs && result == 0; r++)
            result = io_write_pieces(transfer->fd, slot->piece + slot->first[r], (int)(slot->first[r + 1] - slot->first[r]),
                                     slot->offset[r]);
    }
    if (transfer->gate != NULL) gate_leave(transfer->gate);
    transfer->used = 0;
    return result;
}

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

/* Expands the items of a window whose stored bytes are in memory; they become results. */
static void fill_slot(struct slot *slot, struct item *items, uint32_t count, int is_verified, char *images) {
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
        if (code != DECODE_GOOD || piece->iov_len == 0) continue;
        uint64_t offset = (uint64_t)item->file_offset;
        if (slot->runs == 0 || offset != end) slot->offset[slot->runs++] = offset;
        end = offset + piece->iov_len;
        struct iovec *last = slot->pieces > slot->first[slot->runs - 1] ? piece - 1 : NULL;
        if (last != NULL && (char *)last->iov_base + last->iov_len == piece->iov_base) last->iov_len += piece->iov_len;
        else slot->pieces++;
        slot->first[slot->runs] = slot->pieces;
    }
}

static size_t images_room(const struct item *items, uint32_t count) {
    size_t room = 0;
    for (uint32_t i = 0; i < count; i++)
        if (items[i].codec != 0 && items[i].target_size <= DECODED_MAX) room += (size_t)items[i].target_size + image_alignment;
    return room;
}

int64_t io_transfer(int fd, struct item *items, uint32_t count, int is_verified, double *failed) {
    struct stat status;
    int is_regular = syscall(SYS_fstat, fd, &status) == 0 && S_ISREG(status.st_mode);
    struct transfer transfer = {.fd = fd, .gate = is_regular ? &gates[status.st_ino % gates_max] : NULL};
    const size_t stored_room = 2 * stored_max;
    *failed = 0;
    for (uint32_t first = 0, next; first < count; first = next) {
        next = window_end(items, count, first, stored_max, images_max);
        size_t stored_needed = window_room(items + first, next - first, stored_max);
        size_t images_needed = images_room(items + first, next - first);
        int is_large = stored_needed > stored_room || images_needed > images_max;
        if (is_large) {
            /* It takes the memory of all windows. */
            int64_t result = flush(&transfer, 1);
            if (result != 0) return result;
        }
        char *stored = scratch(2, stored_needed > slots_max * stored_room ? stored_needed : slots_max * stored_room);
        char *images = scratch(1, images_needed > slots_max * images_max ? images_needed : slots_max * images_max);
        if (stored == NULL || images == NULL) return -ENOMEM;
        int64_t result = window_read(items + first, next - first, stored_max, stored + transfer.used * stored_room, failed);
        if (result != 0) {
            if (*failed > 0) *failed += first;
            flush(&transfer, 1);
            return result;
        }
        fill_slot(&transfer.slots[transfer.used], items + first, next - first, is_verified,
                  images + transfer.used * images_max);
        /* Empty slices are only checked: they need not wait for who writes. */
        if (transfer.slots[transfer.used].runs > 0) transfer.used++;
        result = flush(&transfer, is_large || transfer.used == slots_max);
        if (result != 0) return result;
    }
    return flush(&transfer, 1);
}
