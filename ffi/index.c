/*
 * The index of diffs as columns, see src/diff/record-index.ts: pack headers of sorted files into it, and what is to be
 * transferred out of it. Only what keeps every rule of docs/formats.md is taken; JavaScript says what is wrong with the
 * rest. The arrays are JavaScript's: they are used during a call and not after it.
 */
#include "walb.h"
#include <errno.h>
#include <string.h>

enum { pack_records_max = 127, pack_data_max = 32 << 20, file_header = 32, codec_max = 5, image_lb_max = 65535, lb = 512 };
enum { flag_all_zero = 2, flag_discard = 4, pack_flag_end = 1 };
enum { kind_normal, kind_all_zero, kind_discard };
enum { sector_type_pack = 3 };
static const double safe_max = 9007199254740991.0;

struct columns {
    double *address_lb;
    uint32_t *blocks_lb;
    uint8_t *kind;
    uint8_t *codec;
    uint16_t *source;
    double *data_offset;
    uint32_t *stored_bytes;
    uint32_t *image_lb;
    uint32_t *slice_lb;
    uint32_t *checksum;
};

/* In and out, as doubles. */
struct parsing {
    double source, file_bytes, limit_lb, room; /* records that fit behind `count` */
    double count;                              /* records in the columns */
    double offset;                             /* of the next header */
    double end_lb;                             /* of the last record */
    double data_bytes, is_end;
};

static uint32_t word_at(const uint8_t *bytes) {
    uint32_t word;
    memcpy(&word, bytes, 4);
    return word;
}

/* One pack; 0 when it breaks a rule or does not fit. */
static int parse_pack(const uint8_t *header, struct columns *to, struct parsing *parsing) {
    uint32_t count = header[4] | (uint32_t)header[5] << 8, data_bytes = word_at(header + 8);
    int is_end = header[6] & pack_flag_end;
    double data_at = parsing->offset + PACK_HEADER, end_lb = parsing->end_lb;
    if (walb_checksum(header, PACK_HEADER, 0) != 0) return 0;
    if (count > pack_records_max || data_bytes > pack_data_max || count > parsing->room) return 0;
    if (is_end) {
        if (count != 0 || data_bytes != 0) return 0;
        parsing->is_end = 1;
        return 1;
    }
    if (count == 0 && parsing->offset != file_header) return 0;
    if (data_at + data_bytes > parsing->file_bytes) return 0;
    uint64_t offset = 0, at = (uint64_t)parsing->count;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *record = header + 16 + 32 * i;
        double address_lb = (double)word_at(record + 4) * 4294967296.0 + word_at(record);
        uint32_t blocks_lb = word_at(record + 8), stored = word_at(record + 20);
        int is_zero = (record[12] & flag_all_zero) != 0, is_discard = (record[12] & flag_discard) != 0;
        int kind = is_zero ? kind_all_zero : is_discard ? kind_discard : kind_normal;
        uint32_t codec = kind == kind_normal ? record[13] : 0;
        if (is_zero && is_discard) return 0;
        if (word_at(record + 16) != offset || word_at(record + 4) >= 0x1000) return 0;
        if (address_lb + blocks_lb > parsing->limit_lb || address_lb < end_lb) return 0;
        if (kind == kind_normal) {
            uint64_t raw = (uint64_t)blocks_lb * lb;
            if (codec > codec_max || blocks_lb == 0 || blocks_lb > image_lb_max) return 0;
            if (stored == 0 || stored > raw || (codec == 0 && stored != raw)) return 0;
        } else if (stored != 0) {
            return 0;
        }
        /* A record without data may have no length; it says nothing and is left out. */
        if (blocks_lb > 0) {
            to->address_lb[at] = address_lb;
            to->blocks_lb[at] = blocks_lb;
            to->kind[at] = (uint8_t)kind;
            to->codec[at] = (uint8_t)codec;
            to->source[at] = (uint16_t)parsing->source;
            to->data_offset[at] = data_at + (double)offset;
            to->stored_bytes[at] = stored;
            to->image_lb[at] = kind == kind_normal ? blocks_lb : 0;
            to->slice_lb[at] = 0;
            to->checksum[at] = word_at(record + 24);
            at++;
            end_lb = address_lb + blocks_lb;
        }
        offset += stored;
    }
    if (offset != data_bytes) return 0;
    parsing->room -= (double)at - parsing->count;
    parsing->count = (double)at;
    parsing->end_lb = end_lb;
    parsing->data_bytes += data_bytes;
    parsing->offset = data_at + data_bytes;
    return 1;
}

/* Headers that io_read_packs has read. Returns how many were good: those behind the first that is not are not looked at. */
WALB_EXPORT uint32_t walb_parse_packs(const uint8_t *headers, uint32_t count, struct parsing *parsing, double *address_lb,
                                      uint32_t *blocks_lb, uint8_t *kind, uint8_t *codec, uint16_t *source,
                                      double *data_offset, uint32_t *stored_bytes, uint32_t *image_lb, uint32_t *slice_lb,
                                      uint32_t *checksum) {
    struct columns to = {address_lb,   blocks_lb, kind,     codec,    source,
                         data_offset, stored_bytes, image_lb, slice_lb, checksum};
    uint32_t done = 0;
    while (done < count && !parsing->is_end && parse_pack(headers + (size_t)done * PACK_HEADER, &to, parsing)) done++;
    return done;
}

int64_t pack_behind(const uint8_t *header, uint64_t offset) {
    uint32_t data_bytes = word_at(header + 8);
    if ((header[6] & pack_flag_end) || data_bytes > pack_data_max) return -1;
    return (int64_t)(offset + PACK_HEADER + data_bytes);
}

int64_t io_read_packs(int fd, uint8_t *headers, uint64_t size, uint64_t offset) {
    int64_t count = 0, next = (int64_t)offset;
    double done;
    for (; next >= 0 && (uint64_t)(count + 1) * PACK_HEADER <= size; count++) {
        uint8_t *header = headers + count * PACK_HEADER;
        int64_t result = io_read(fd, header, PACK_HEADER, (uint64_t)next, &done);
        if (result != 0) return count > 0 ? count : result;
        next = pack_behind(header, (uint64_t)next);
    }
    return count;
}

int64_t io_read_log_packs(int fd, uint8_t *headers, uint64_t size, uint64_t offset, uint32_t block) {
    int64_t count = 0;
    double done;
    if (block < 512 || block > 65536) return -EINVAL;
    for (; (uint64_t)(count + 1) * block <= size; count++) {
        uint8_t *header = headers + count * block;
        int64_t result = io_read(fd, header, block, offset, &done);
        if (result != 0) return count > 0 ? count : result;
        uint16_t type, data_blocks;
        memcpy(&type, header + 4, sizeof(type));
        memcpy(&data_blocks, header + 6, sizeof(data_blocks));
        if (type != sector_type_pack || data_blocks == 0) return count + 1;
        offset += (uint64_t)block * (1 + (uint64_t)data_blocks);
    }
    return count;
}

/* In and out, as doubles. */
struct choosing {
    double from, to;  /* records; out: `to` is where it stopped */
    double rows_max, bytes_max, image_bytes_max;
    double rows, blocks_lb[3], records[3]; /* out; the last two by kind */
};

/*
 * Rows of io_transfer for records that are written as they are: from `from` on, as many as the bounds allow, one behind
 * the other into `items`, or only counted without. Records without data are no rows. It stops before a record with a larger
 * image, and answers 0 for one that no file has.
 */
WALB_EXPORT int32_t walb_choose_rows(struct choosing *choosing, struct item *items, const int32_t *files, uint32_t file_count,
                                     const double *address_lb, const uint32_t *blocks_lb, const uint8_t *kind,
                                     const uint8_t *codec, const uint16_t *source, const double *data_offset,
                                     const uint32_t *stored_bytes, const uint32_t *image_lb, const uint32_t *slice_lb,
                                     const uint32_t *checksum) {
    uint64_t i = (uint64_t)choosing->from, end = (uint64_t)choosing->to;
    double bytes = 0;
    choosing->rows = 0;
    memset(choosing->blocks_lb, 0, sizeof(choosing->blocks_lb));
    memset(choosing->records, 0, sizeof(choosing->records));
    for (; i < end && choosing->rows < choosing->rows_max && bytes < choosing->bytes_max; i++) {
        if (kind[i] > kind_discard) return 0;
        if (kind[i] == kind_normal) {
            double image_bytes = (double)image_lb[i] * lb, slice_bytes = (double)blocks_lb[i] * lb;
            double slice_at = (double)slice_lb[i] * lb, place = address_lb[i] * lb;
            if (image_bytes > choosing->image_bytes_max || stored_bytes[i] > choosing->image_bytes_max) break;
            if ((items != NULL && source[i] >= file_count) || slice_at + slice_bytes > image_bytes) return 0;
            if (!(data_offset[i] >= 0 && data_offset[i] + stored_bytes[i] <= safe_max)) return 0;
            if (!(place >= 0 && place + slice_bytes <= safe_max)) return 0;
            if (items != NULL)
                items[(size_t)choosing->rows] = (struct item){.source = data_offset[i],
                                                              .source_size = stored_bytes[i],
                                                              .target = files[source[i]],
                                                              .target_size = image_bytes,
                                                              .codec = codec[i],
                                                              .word = checksum[i],
                                                              .slice_offset = slice_at,
                                                              .slice_size = slice_bytes,
                                                              .file_offset = place};
            choosing->rows++;
            bytes += slice_bytes;
        }
        choosing->blocks_lb[kind[i]] += blocks_lb[i];
        choosing->records[kind[i]]++;
    }
    choosing->to = (double)i;
    return 1;
}
