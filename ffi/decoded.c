/* Images in memory: checked, expanded where need be, and written; what follows each other in the file as one write. */
#include "walb.h"
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

/* Images expanded and not yet written: they follow each other in the file and become one write. */
enum { run_pieces = 256, run_bytes = 1 << 20 };
struct run {
    int fd;
    int used;
    uint64_t offset;
    uint64_t size;
    uint64_t failed_size; /* of what could not be written at `offset` */
    size_t space_used; /* of scratch(1) */
    struct iovec pieces[run_pieces];
};

static int64_t write_run(struct run *run) {
    int count = run->used;
    uint64_t size = run->size;
    run->used = 0;
    run->size = 0;
    run->space_used = 0;
    int64_t result = io_write_pieces(run->fd, run->pieces, count, run->offset);
    if (result != 0) run->failed_size = size;
    return result;
}

/* Expands an image and adds its slice to the run; what does not follow the run, or has no room, is written before. */
static int64_t add_decoded(struct run *run, const struct item *item, uint64_t alignment) {
    char *source = (char *)(uintptr_t)item->source;
    size_t source_size = (size_t)item->source_size, image_size = (size_t)item->target_size;
    size_t slice_offset = (size_t)item->slice_offset, slice_size = (size_t)item->slice_size;
    if (image_size > DECODED_MAX || slice_offset + slice_size > image_size) return WALB_EOF;
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

static int64_t write_items(struct run *run, struct item *items, uint32_t count, uint64_t alignment) {
    for (uint32_t i = 0; i < count; i++) {
        struct item *item = &items[i];
        if (walb_checksum((const void *)(uintptr_t)item->source, (size_t)item->source_size, 0) != item->word) {
            item->codec = DECODE_CHECKSUM;
            continue;
        }
        int64_t result = add_decoded(run, item, alignment);
        if (result < 0 && result != WALB_EOF) return result;
        item->codec = result == 0 ? DECODE_GOOD : DECODE_DAMAGED;
    }
    return write_run(run);
}

int64_t io_write_decoded(int fd, struct item *items, uint32_t count, uint64_t alignment, double *failed) {
    struct run run = {.fd = fd};
    int64_t result = write_items(&run, items, count, alignment);
    if (run.failed_size > 0) *failed = item_failed_write(items, run.offset, run.failed_size);
    return result;
}
