/* Images of files, put one behind the other as the packs of another diff: as they are, or compressed anew. */
#include "walb.h"
#include <errno.h>
#include <string.h>

enum { stored_max = 512 << 10, expanded_min = 1 << 20 };

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
    if (image_size > DECODED_MAX || slice_offset + slice_size > image_size) return WALB_EOF;
    if (item->codec != 0) {
        char *space = scratch(1, image_size < expanded_min ? expanded_min : image_size);
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
        next = window_end(items, count, first, stored_max, SIZE_MAX);
        char *space = scratch(2, window_room(items + first, next - first, stored_max));
        if (space == NULL) return -ENOMEM;
        int64_t result = window_read(items + first, next - first, stored_max, space, failed);
        if (result != 0) {
            if (*failed > 0) *failed += first;
            return result;
        }
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
