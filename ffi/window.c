/* Stored bytes of a few items, read from their files before any of them is used: they stay in the processor's cache. */
#include "walb.h"
#include <errno.h>
#include <stdlib.h>

enum { read_gap = 8 << 10, read_alignment = 64 };

struct window_read {
    int32_t fd;
    uint32_t item;
    uint64_t offset;
    uint64_t size;
    size_t at; /* in the window's space */
};

static int by_place(const void *left, const void *right) {
    const struct window_read *a = left, *b = right;
    if (a->fd != b->fd) return a->fd < b->fd ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

uint32_t window_end(const struct item *items, uint32_t count, uint32_t first, size_t stored_max, size_t images_max) {
    double stored = 0, images = 0;
    uint32_t end = first;
    for (; end < count && end - first < WINDOW_ITEMS; end++) {
        if (items[end].target >= 0) stored += items[end].source_size;
        if (items[end].codec != 0) images += items[end].target_size + read_alignment;
        if ((stored > stored_max || images > images_max) && end > first) break;
    }
    return end;
}

size_t window_room(const struct item *items, uint32_t count, size_t stored_max) {
    size_t stored = count == 1 && items->target >= 0 ? (size_t)items->source_size : 0;
    return stored > 2 * stored_max ? stored : 2 * stored_max;
}

int64_t window_read(struct item *items, uint32_t count, size_t stored_max, char *space, double *failed) {
    struct window_read reads[WINDOW_ITEMS];
    uint32_t used = 0;
    int is_sorted = 1;
    *failed = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].target < 0) continue;
        reads[used] = (struct window_read){(int32_t)items[i].target, i, (uint64_t)items[i].source,
                                           (uint64_t)items[i].source_size, 0};
        if (used > 0 && by_place(&reads[used - 1], &reads[used]) > 0) is_sorted = 0;
        used++;
    }
    if (!is_sorted) qsort(reads, used, sizeof(*reads), by_place);
    /* A read goes on up to a byte that an item before it has, and over what lies between while there is room for that. */
    size_t total = 0, gaps_left = stored_max - read_alignment * WINDOW_ITEMS;
    uint32_t heads[WINDOW_ITEMS + 1], head_count = 0;
    uint64_t end = 0;
    for (uint32_t i = 0; i < used; i++) {
        struct window_read *head = head_count > 0 ? &reads[heads[head_count - 1]] : NULL;
        uint64_t gap = head != NULL && reads[i].offset > end ? reads[i].offset - end : 0;
        if (head == NULL || head->fd != reads[i].fd || gap > read_gap || gap > gaps_left) {
            total = (total + read_alignment - 1) & ~(size_t)(read_alignment - 1);
            reads[i].at = total;
            heads[head_count++] = i;
            end = reads[i].offset;
            head = &reads[i];
        } else {
            reads[i].at = head->at + (size_t)(reads[i].offset - head->offset);
            gaps_left -= (size_t)gap;
        }
        if (reads[i].offset + reads[i].size > end) end = reads[i].offset + reads[i].size;
        total = head->at + (size_t)(end - head->offset);
    }
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
            /* The first one that is not whole. */
            uint32_t i = heads[h];
            while (i + 1 < heads[h + 1] && (double)(reads[i].at - head->at + reads[i].size) <= done) i++;
            *failed = (double)reads[i].item + 1;
            return result;
        }
    }
    for (uint32_t i = 0; i < used; i++) items[reads[i].item].source = (double)(uintptr_t)(space + reads[i].at);
    return 0;
}
