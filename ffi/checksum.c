/* The walb checksum (docs/formats.md, "The checksum") and the all-zero test. */
#include "walb.h"
#include <string.h>

WALB_EXPORT uint32_t walb_checksum(const void *data, size_t size, uint32_t salt) {
    const uint8_t *bytes = data;
    uint32_t sum = salt;
    size_t words = size / 4;
    for (size_t i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, bytes + 4 * i, 4);
        sum += word;
    }
    size_t rest = size & 3;
    if (rest != 0) {
        uint32_t word = 0;
        memcpy(&word, bytes + 4 * words, rest);
        sum += word;
    }
    return 0u - sum;
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
