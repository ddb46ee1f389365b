/* The walb checksum (docs/formats.md, "The checksum") and the all-zero test. */
#include "walb.h"
#include <string.h>

typedef uint32_t words __attribute__((vector_size(16)));

WALB_EXPORT uint32_t walb_checksum(const void *data, size_t size, uint32_t salt) {
    const uint8_t *bytes = data;
    uint32_t sum = salt;
    /* Four sums that do not wait for each other: twice as fast as one. */
    words four[4] = {{0}, {0}, {0}, {0}};
    while (size >= sizeof(four)) {
        words now[4];
        memcpy(now, bytes, sizeof(now));
        for (int i = 0; i < 4; i++) four[i] += now[i];
        bytes += sizeof(now);
        size -= sizeof(now);
    }
    for (int i = 0; i < 4; i++) sum += four[i][0] + four[i][1] + four[i][2] + four[i][3];
    while (size > 0) {
        uint32_t word = 0;
        size_t part = size < 4 ? size : 4;
        memcpy(&word, bytes, part);
        sum += word;
        bytes += part;
        size -= part;
    }
    return 0u - sum;
}

void put_sums(const struct item *items, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        void *target = (void *)(uintptr_t)items[i].target;
        if (items[i].codec != 0) memset(target, 0, 4);
        uint32_t sum = walb_checksum((const void *)(uintptr_t)items[i].source, (size_t)items[i].source_size, items[i].word);
        memcpy(target, &sum, sizeof(sum));
    }
}

/* 1 when every byte is zero and there is at least one. */
WALB_EXPORT int walb_is_zero(const void *data, size_t size) {
    const uint8_t *bytes = data;
    if (size == 0) return 0;
    while (size >= 256) {
        uint64_t any = 0;
        for (int i = 0; i < 32; i++) {
            uint64_t word;
            memcpy(&word, bytes + 8 * i, 8);
            any |= word;
        }
        if (any != 0) return 0;
        bytes += 256;
        size -= 256;
    }
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0) return 0;
    return 1;
}
