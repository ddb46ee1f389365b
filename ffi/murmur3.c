/* MurmurHash3 x64 128-bit, from the public-domain description of the algorithm by Austin Appleby. */
#include "walb.h"
#include <string.h>

static inline uint64_t rotate(uint64_t value, int bits) { return (value << bits) | (value >> (64 - bits)); }

static inline uint64_t load64(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, 8);
    return value;
}

static inline uint64_t finish(uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdULL;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ULL;
    value ^= value >> 33;
    return value;
}

static const uint64_t c1 = 0x87c37b91114253d5ULL;
static const uint64_t c2 = 0x4cf5ad432745937fULL;

static inline uint64_t mix1(uint64_t k) { return rotate(k * c1, 31) * c2; }
static inline uint64_t mix2(uint64_t k) { return rotate(k * c2, 33) * c1; }

void murmur3_finish(uint64_t hash[2], size_t size) {
    hash[0] ^= size;
    hash[1] ^= size;
    hash[0] += hash[1];
    hash[1] += hash[0];
    hash[0] = finish(hash[0]);
    hash[1] = finish(hash[1]);
    hash[0] += hash[1];
    hash[1] += hash[0];
}

WALB_EXPORT void walb_murmur3_x64_128(const void *data, size_t size, uint32_t seed, uint8_t out[16]) {
    const uint8_t *bytes = data;
    uint64_t h1 = seed, h2 = seed;
    size_t blocks = size / 16;
    for (size_t i = 0; i < blocks; i++) {
        h1 ^= mix1(load64(bytes + 16 * i));
        h1 = (rotate(h1, 27) + h2) * 5 + 0x52dce729;
        h2 ^= mix2(load64(bytes + 16 * i + 8));
        h2 = (rotate(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    size_t rest = size & 15;
    if (rest != 0) {
        /* A zero word mixes to zero, so the tail may be padded to a whole block. */
        uint8_t tail[16] = {0};
        memcpy(tail, bytes + 16 * blocks, rest);
        h2 ^= mix2(load64(tail + 8));
        h1 ^= mix1(load64(tail));
    }
    uint64_t hash[2] = {h1, h2};
    murmur3_finish(hash, size);
    memcpy(out, hash, 16);
}
