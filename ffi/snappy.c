/*
 * Decoding of snappy, the codec of almost every diff (format: https://github.com/google/snappy/blob/main/format_description.txt).
 * Distributions build the library for the oldest x86-64, where runs of short patterns are copied byte by byte: that was
 * a quarter of the time of a restore. This decoder takes what the library takes, and nothing else.
 */
#include "walb.h"
#include <string.h>

/* Bytes that may be written behind a copy, as long as they lie in the target. */
enum { slack = 64 };

static inline void copy16(uint8_t *target, const uint8_t *source) {
    uint64_t words[2];
    memcpy(words, source, 16);
    memcpy(target, words, 16);
}

/* 16 bytes at a time, up to 15 too many. What lies 16 or more bytes back may be read while it is written. */
static inline void copy_wide(uint8_t *target, const uint8_t *source, size_t size) {
    for (size_t i = 0; i < size; i += 16) copy16(target + i, source + i);
}

/*
 * Repeats the `offset` bytes before `target`; there is room for `slack` bytes behind `size`, which is at most 64. Short
 * patterns are made in a register: bytes that are read back right after they were written make the processor wait.
 */
static inline void copy_back(uint8_t *target, size_t offset, size_t size) {
    if (offset >= 16) {
        copy_wide(target, target - offset, size);
    } else if (offset >= 8) {
        uint64_t words[2];
        memcpy(words, target - offset, 8);
        memcpy(words + 1, target - 8, 8);
        if (offset > 8) words[1] = words[1] >> (8 * (16 - offset)) | words[0] << (8 * (offset - 8));
        for (size_t i = 0; i < size; i += offset) memcpy(target + i, words, 16);
    } else {
        /* As many whole patterns as 8 bytes hold are written by each step; the next one overwrites what is behind them. */
        static const uint8_t steps[8] = {0, 8, 8, 6, 8, 5, 6, 7};
        uint64_t pattern;
        memcpy(&pattern, target - offset, 8);
        pattern &= ((uint64_t)1 << (8 * offset)) - 1;
        for (size_t width = offset; width < 8; width *= 2) pattern |= pattern << (8 * width);
        size_t step = steps[offset];
        for (size_t i = 0; i < size; i += step) memcpy(target + i, &pattern, 8);
    }
}

/* The size that the stored bytes expand to, and where they go on; 0 when there is none within 32 bits. */
static size_t read_size(const uint8_t *source, size_t source_size, uint64_t *size) {
    uint64_t value = 0;
    for (size_t i = 0; i < 5 && i < source_size; i++) {
        value |= (uint64_t)(source[i] & 0x7f) << (7 * i);
        if (source[i] & 0x80) continue;
        *size = value;
        return value <= 0xffffffff ? i + 1 : 0;
    }
    return 0;
}

int snappy_decode(const void *source, size_t source_size, void *target, size_t target_size) {
    const uint8_t *from = source, *from_end = from + source_size;
    uint8_t *start = target, *to = start, *to_end = start + target_size;
    uint64_t size = 0;
    size_t skipped = read_size(from, source_size, &size);
    if (skipped == 0 || size != target_size) return -1;
    from += skipped;
    while (from < from_end) {
        uint32_t tag = *from++;
        size_t room = (size_t)(to_end - to), left = (size_t)(from_end - from), length, offset;
        if ((tag & 3) == 0) {
            length = (tag >> 2) + 1;
            if (length <= 16 && left >= 16 && room >= 16) {
                copy16(to, from);
            } else {
                if (length > 60) {
                    size_t bytes = length - 60;
                    if (left < bytes) return -1;
                    length = 0;
                    for (size_t i = 0; i < bytes; i++) length |= (size_t)from[i] << (8 * i);
                    length++;
                    from += bytes;
                    left -= bytes;
                }
                if (length > left || length > room) return -1;
                memcpy(to, from, length);
            }
            from += length;
            to += length;
            continue;
        }
        switch (tag & 3) {
        case 1:
            if (left < 1) return -1;
            length = 4 + ((tag >> 2) & 7);
            offset = ((size_t)(tag >> 5) << 8) | from[0];
            from += 1;
            break;
        case 2:
            if (left < 2) return -1;
            length = (tag >> 2) + 1;
            offset = (size_t)from[0] | (size_t)from[1] << 8;
            from += 2;
            break;
        default:
            if (left < 4) return -1;
            length = (tag >> 2) + 1;
            offset = (size_t)from[0] | (size_t)from[1] << 8 | (size_t)from[2] << 16 | (size_t)from[3] << 24;
            from += 4;
        }
        if (offset == 0 || offset > (size_t)(to - start) || length > room) return -1;
        if (room >= length + slack) {
            copy_back(to, offset, length);
        } else {
            for (size_t i = 0; i < length; i++) to[i] = to[(ptrdiff_t)i - (ptrdiff_t)offset];
        }
        to += length;
    }
    return to == to_end ? 0 : -1;
}
