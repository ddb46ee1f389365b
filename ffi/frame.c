/* Units of the log stream of the wire protocol, put one behind the other: a batch becomes one piece of memory to send. */
#include "walb.h"
#include <errno.h>
#include <snappy-c.h>
#include <string.h>

enum { control_next = 0, unit_header_max = 11 };

/* A u32 as the serializer has it (src/wire/serializer.ts); the values here are positive as i32, too. Returns its bytes. */
static size_t put_u32(uint8_t *out, uint32_t value) {
    size_t size = value <= 0x7f ? 0 : value <= 0xff ? 1 : value <= 0xffff ? 2 : 4;
    if (size == 0) {
        out[0] = (uint8_t)value;
        return 1;
    }
    out[0] = size == 1 ? 0x80 : size == 2 ? 0x81 : 0x82;
    for (size_t i = 0; i < size; i++) out[1 + i] = (uint8_t)(value >> (8 * i));
    return 1 + size;
}

/* Raw snappy of zeroes: the length, a literal byte, copies of up to 64 bytes at offset 1. Never longer than snappy's own bound. */
static size_t put_zeroes(uint8_t *out, size_t size) {
    uint8_t *at = out;
    size_t rest = size;
    for (; rest >= 0x80; rest >>= 7) *at++ = (uint8_t)(rest | 0x80);
    *at++ = (uint8_t)rest;
    *at++ = 0;
    *at++ = 0;
    for (rest = size - 1; rest > 0;) {
        size_t run = rest < 64 ? rest : 64;
        *at++ = (uint8_t)((run - 1) << 2 | 2);
        *at++ = 1;
        *at++ = 0;
        rest -= run;
    }
    return (size_t)(at - out);
}

/* Items without source are zeroes. The bytes made, or -EINVAL when an item and what snappy may need for it have no room. */
int64_t frame_items(const struct item *items, uint32_t count, uint8_t *out, uint64_t room) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const void *source = (const void *)(uintptr_t)items[i].source;
        size_t size = (size_t)items[i].source_size;
        size_t stored = snappy_max_compressed_length(size);
        if (size == 0 || size > 0x7fffffff || at + unit_header_max + stored > room) return -EINVAL;
        uint8_t *header = out + at, number[5];
        /* Where the data belongs when its size takes three bytes, as nearly all do. */
        uint8_t *data = header + 1 + 3 + put_u32(number, (uint32_t)size);
        if (source == NULL || walb_is_zero(source, size)) stored = put_zeroes(data, size);
        else if (snappy_compress(source, size, (char *)data, &stored) != SNAPPY_OK) stored = size;
        int is_smaller = stored < size;
        header[0] = control_next;
        uint8_t *end = header + 1;
        /* The data is moved before the numbers are written: they may take more room than was thought. */
        size_t first = put_u32(number, is_smaller ? (uint32_t)stored : 0);
        if (is_smaller && first != 3) memmove(data + first - 3, data, stored);
        end += put_u32(end, is_smaller ? (uint32_t)stored : 0);
        end += put_u32(end, (uint32_t)size);
        if (!is_smaller && source != NULL) memcpy(end, source, size);
        if (!is_smaller && source == NULL) memset(end, 0, size);
        at += (uint64_t)(end - header) + (is_smaller ? stored : size);
    }
    return (int64_t)at;
}
