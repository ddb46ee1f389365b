/*
 * SipHash-2-4 of a stream with the key 00 01 … 0f, from the public description of the algorithm by Aumasson and
 * Bernstein. The 128-bit result is the original tool's (docs/formats.md, "Tool hash"), not the standard variant: after
 * the ordinary 64-bit finalisation it is v0 ^ v1, then v2 ^ v3.
 */
#include "walb.h"
#include <string.h>

struct siphash {
    uint64_t v[4];
    uint64_t size;
    uint8_t tail[8];
};

static inline uint64_t rotate(uint64_t value, int bits) { return (value << bits) | (value >> (64 - bits)); }

static inline uint64_t load64(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, 8);
    return value;
}

static inline void rounds(uint64_t v[4], int count) {
    for (int i = 0; i < count; i++) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static inline void absorb(uint64_t v[4], uint64_t word) {
    v[3] ^= word;
    rounds(v, 2);
    v[0] ^= word;
}

WALB_EXPORT void walb_siphash_begin(struct siphash *state) {
    static const uint8_t key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint64_t k0 = load64(key);
    uint64_t k1 = load64(key + 8);
    state->v[0] = k0 ^ 0x736f6d6570736575ULL;
    state->v[1] = k1 ^ 0x646f72616e646f6dULL;
    state->v[2] = k0 ^ 0x6c7967656e657261ULL;
    state->v[3] = k1 ^ 0x7465646279746573ULL;
    state->size = 0;
}

WALB_EXPORT void walb_siphash_update(struct siphash *state, const void *data, size_t size) {
    const uint8_t *bytes = data;
    size_t held = state->size & 7;
    state->size += size;
    if (held != 0) {
        size_t take = 8 - held < size ? 8 - held : size;
        memcpy(state->tail + held, bytes, take);
        if (held + take < 8) return;
        absorb(state->v, load64(state->tail));
        bytes += take;
        size -= take;
    }
    uint64_t v[4];
    memcpy(v, state->v, sizeof v);
    for (; size >= 8; bytes += 8, size -= 8) absorb(v, load64(bytes));
    memcpy(state->v, v, sizeof v);
    memcpy(state->tail, bytes, size);
}

/* Writes 16 bytes. The state must be begun anew afterwards. */
WALB_EXPORT void walb_siphash_end(struct siphash *state, uint8_t *out) {
    uint8_t last[8] = {0};
    memcpy(last, state->tail, state->size & 7);
    last[7] = (uint8_t)state->size;
    uint64_t *v = state->v;
    absorb(v, load64(last));
    v[2] ^= 0xff;
    rounds(v, 4);
    uint64_t result[2] = {v[0] ^ v[1], v[2] ^ v[3]};
    memcpy(out, result, 16);
}
