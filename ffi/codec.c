/* The six codecs of wdiff files, and batches of them. Input is hostile: every decoder is bounded by its target. */
#include "walb.h"
#include <lz4.h>
#include <lzma.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { CODEC_NONE = 0, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZMA, CODEC_LZ4, CODEC_ZSTD };

/* Level 9 of xz needs 65 MiB to decode; more than this is an attack. */
static const uint64_t lzma_memory_max = 66ULL << 20;
/* Larger scratch memory is given back after the job. */
static const size_t scratch_keep = 8u << 20;

static __thread void *scratch_data[3];
static __thread size_t scratch_size[3];
static __thread ZSTD_CCtx *zstd_encoder;
static __thread ZSTD_DCtx *zstd_decoder;
static __thread z_stream *inflater;
static __thread z_stream *deflater;
static __thread int deflater_level;

void *scratch(int index, size_t size) {
    if (scratch_size[index] >= size) return scratch_data[index];
    free(scratch_data[index]);
    scratch_data[index] = NULL;
    scratch_size[index] = 0;
    size_t rounded = (size + 65535) & ~(size_t)65535;
    void *data;
    if (posix_memalign(&data, 4096, rounded) != 0) return NULL;
    scratch_data[index] = data;
    scratch_size[index] = rounded;
    return data;
}

void scratch_trim(void) {
    for (int i = 0; i < 3; i++) {
        if (scratch_size[i] <= scratch_keep) continue;
        free(scratch_data[i]);
        scratch_data[i] = NULL;
        scratch_size[i] = 0;
    }
}

/* Each encoder returns the stored size, or 0 when it does not fit into the target (or fails). */

static size_t encode_gzip(int level, const void *source, size_t source_size, void *target, size_t target_size) {
    int wanted = level == 0 ? Z_DEFAULT_COMPRESSION : level;
    if (deflater != NULL && deflater_level != wanted) {
        deflateEnd(deflater);
        free(deflater);
        deflater = NULL;
    }
    if (deflater == NULL) {
        deflater = calloc(1, sizeof(*deflater));
        if (deflater == NULL) return 0;
        if (deflateInit(deflater, wanted) != Z_OK) {
            free(deflater);
            deflater = NULL;
            return 0;
        }
        deflater_level = wanted;
    } else if (deflateReset(deflater) != Z_OK) {
        return 0;
    }
    deflater->next_in = (Bytef *)(uintptr_t)source;
    deflater->avail_in = (uInt)source_size;
    deflater->next_out = target;
    deflater->avail_out = (uInt)target_size;
    int result = deflate(deflater, Z_FINISH);
    return result == Z_STREAM_END ? target_size - deflater->avail_out : 0;
}

static size_t encode_snappy(const void *source, size_t source_size, void *target, size_t target_size) {
    size_t bound = snappy_max_compressed_length(source_size);
    size_t stored = bound;
    if (target_size >= bound)
        return snappy_compress(source, source_size, target, &stored) == SNAPPY_OK ? stored : 0;
    void *space = scratch(0, bound);
    if (space == NULL || snappy_compress(source, source_size, space, &stored) != SNAPPY_OK) return 0;
    if (stored > target_size) return 0;
    memcpy(target, space, stored);
    return stored;
}

static size_t encode_lzma(int level, const void *source, size_t source_size, void *target, size_t target_size) {
    lzma_options_lzma options;
    if (lzma_lzma_preset(&options, level == 0 ? 6 : (uint32_t)level)) return 0;
    /* A dictionary larger than the input gains nothing, and costs memory at both ends: with it levels above 6 could
       not be decoded by readers with a 16 MiB limit. */
    uint32_t dictionary = 4096;
    while (dictionary < source_size && dictionary < options.dict_size) dictionary *= 2;
    if (dictionary < options.dict_size) options.dict_size = dictionary;
    lzma_filter filters[2] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    size_t stored = 0;
    lzma_ret result = lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC64, NULL, source, source_size, target, &stored,
                                                target_size);
    return result == LZMA_OK ? stored : 0;
}

static size_t encode_zstd(int level, const void *source, size_t source_size, void *target, size_t target_size) {
    if (zstd_encoder == NULL) zstd_encoder = ZSTD_createCCtx();
    if (zstd_encoder == NULL) return 0;
    size_t stored =
        ZSTD_compressCCtx(zstd_encoder, target, target_size, source, source_size, level == 0 ? 1 : level);
    return ZSTD_isError(stored) ? 0 : stored;
}

static size_t encode_one(uint32_t codec, int level, const void *source, size_t source_size, void *target,
                         size_t target_size) {
    if (source_size > LZ4_MAX_INPUT_SIZE || target_size > 0x7fffffff) return 0;
    switch (codec) {
    case CODEC_GZIP:
        return encode_gzip(level, source, source_size, target, target_size);
    case CODEC_SNAPPY:
        return encode_snappy(source, source_size, target, target_size);
    case CODEC_LZMA:
        return encode_lzma(level, source, source_size, target, target_size);
    case CODEC_LZ4:
        return (size_t)LZ4_compress_default(source, target, (int)source_size, (int)target_size);
    case CODEC_ZSTD:
        return encode_zstd(level, source, source_size, target, target_size);
    default:
        return 0;
    }
}

void encode_items(struct item *items, uint32_t count, int always) {
    for (uint32_t i = 0; i < count; i++) {
        struct item *item = &items[i];
        const void *source = (const void *)(uintptr_t)item->source;
        void *target = (void *)(uintptr_t)item->target;
        size_t source_size = (size_t)item->source_size, target_size = (size_t)item->target_size;
        uint32_t codec = item->codec;
        int level = (int)item->word;
        item->slice_offset = 0;
        item->slice_size = CODEC_NONE;
        item->codec = (uint32_t)walb_is_zero(source, source_size);
        item->word = 0;
        if (item->codec != 0) continue;
        if (codec != CODEC_NONE) {
            /* Room for one byte less than the source: what does not become strictly smaller is stored. */
            size_t room = always || source_size == 0 || target_size < source_size ? target_size : source_size - 1;
            size_t stored = encode_one(codec, level, source, source_size, target, room);
            if (stored != 0) {
                item->slice_offset = (double)stored;
                item->slice_size = codec;
                item->word = walb_checksum(target, stored, 0);
                continue;
            }
            if (always) {
                /* Only out of memory leads here: the target is large enough for every codec. */
                item->slice_offset = -1;
                continue;
            }
        }
        item->slice_offset = (double)source_size;
        item->word = walb_checksum(source, source_size, 0);
    }
}

static int decode_gzip(const void *source, size_t source_size, void *target, size_t target_size) {
    if (inflater == NULL) {
        inflater = calloc(1, sizeof(*inflater));
        if (inflater == NULL) return -1;
        if (inflateInit(inflater) != Z_OK) {
            free(inflater);
            inflater = NULL;
            return -1;
        }
    } else if (inflateReset(inflater) != Z_OK) {
        return -1;
    }
    inflater->next_in = (Bytef *)(uintptr_t)source;
    inflater->avail_in = (uInt)source_size;
    inflater->next_out = target;
    inflater->avail_out = (uInt)target_size;
    int result = inflate(inflater, Z_FINISH);
    return result == Z_STREAM_END && inflater->avail_out == 0 && inflater->avail_in == 0 ? 0 : -1;
}

static int decode_lzma(const void *source, size_t source_size, void *target, size_t target_size) {
    uint64_t memory_max = lzma_memory_max;
    size_t read = 0, written = 0;
    lzma_ret result =
        lzma_stream_buffer_decode(&memory_max, 0, NULL, source, &read, source_size, target, &written, target_size);
    return result == LZMA_OK && written == target_size && read == source_size ? 0 : -1;
}

static int decode_zstd(const void *source, size_t source_size, void *target, size_t target_size) {
    if (zstd_decoder == NULL) zstd_decoder = ZSTD_createDCtx();
    if (zstd_decoder == NULL) return -1;
    size_t size = ZSTD_decompressDCtx(zstd_decoder, target, target_size, source, source_size);
    return !ZSTD_isError(size) && size == target_size ? 0 : -1;
}

int codec_decode(uint32_t codec, const void *source, size_t source_size, void *target, size_t target_size) {
    if (source_size > 0x7fffffff || target_size > 0x7fffffff) return -1;
    switch (codec) {
    case CODEC_NONE:
        if (source_size != target_size) return -1;
        memcpy(target, source, target_size);
        return 0;
    case CODEC_GZIP:
        return decode_gzip(source, source_size, target, target_size);
    case CODEC_SNAPPY:
        return snappy_decode(source, source_size, target, target_size);
    case CODEC_LZMA:
        return decode_lzma(source, source_size, target, target_size);
    case CODEC_LZ4:
        return LZ4_decompress_safe(source, target, (int)source_size, (int)target_size) == (int)target_size ? 0 : -1;
    case CODEC_ZSTD:
        return decode_zstd(source, source_size, target, target_size);
    default:
        return -1;
    }
}

void decode_items(struct item *items, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct item *item = &items[i];
        const void *source = (const void *)(uintptr_t)item->source;
        size_t source_size = (size_t)item->source_size;
        if (walb_checksum(source, source_size, 0) != item->word)
            item->codec = DECODE_CHECKSUM;
        else if (codec_decode(item->codec, source, source_size, (void *)(uintptr_t)item->target,
                              (size_t)item->target_size) != 0)
            item->codec = DECODE_DAMAGED;
        else
            item->codec = DECODE_GOOD;
    }
}

/* Expands what comes without a checksum of its own, and tells of it what its receiver compares and stores: one pass over
   memory that is in the cache. What came stored stays in the source. */
void expand_items(struct item *items, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct item *item = &items[i];
        const void *source = (const void *)(uintptr_t)item->source, *data = source;
        size_t source_size = (size_t)item->source_size, target_size = (size_t)item->target_size;
        uint32_t codec = item->codec;
        item->codec = DECODE_GOOD;
        if (codec == CODEC_NONE) {
            if (source_size != target_size) item->codec = DECODE_DAMAGED;
        } else {
            data = (const void *)(uintptr_t)item->target;
            if (codec_decode(codec, source, source_size, (void *)(uintptr_t)item->target, target_size) != 0)
                item->codec = DECODE_DAMAGED;
        }
        if (item->codec != DECODE_GOOD) continue;
        item->word = walb_checksum(data, target_size, 0);
        item->slice_offset = codec == CODEC_NONE ? item->word : walb_checksum(source, source_size, 0);
        item->slice_size = item->word == 0 && walb_is_zero(data, target_size);
    }
}
