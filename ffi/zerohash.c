/*
 * MurmurHash3 x64 128-bit of many runs of zeroes, each with a seed of its own: what holes hash to, without memory to read.
 * A zero word mixes to zero, so that a round depends on the state alone, but on all of it: it cannot be shortened, only be
 * done for many seeds at once.
 */
#include "walb.h"
#include <string.h>

enum { groups = 4, bytes_max = 64, lanes_max = groups * bytes_max / 8 };

#define ROTATE(value, bits) (((value) << (bits)) | ((value) >> (64 - (bits))))

/* `width` bytes of a vector; `groups` of them, since the rounds of one wait for each other. */
#define DEFINE_ROUNDS(name, width, attributes)                                                                         \
    attributes static void name(uint64_t rounds, uint64_t *h1, uint64_t *h2) {                                         \
        typedef uint64_t lanes __attribute__((vector_size(width)));                                                    \
        lanes a[groups], b[groups];                                                                                    \
        memcpy(a, h1, sizeof(a));                                                                                      \
        memcpy(b, h2, sizeof(b));                                                                                      \
        for (uint64_t round = 0; round < rounds; round++)                                                              \
            for (int g = 0; g < groups; g++) {                                                                         \
                lanes next = ROTATE(a[g], 27) + b[g];                                                                  \
                a[g] = (next << 2) + (next + 0x52dce729);                                                              \
                next = ROTATE(b[g], 31) + a[g];                                                                        \
                b[g] = (next << 2) + (next + 0x38495ab5);                                                              \
            }                                                                                                          \
        memcpy(h1, a, sizeof(a));                                                                                      \
        memcpy(h2, b, sizeof(b));                                                                                      \
    }

DEFINE_ROUNDS(rounds_any, 16, )
#if defined(__x86_64__)
DEFINE_ROUNDS(rounds_avx2, 32, __attribute__((target("avx2"))))
DEFINE_ROUNDS(rounds_avx512, 64, __attribute__((target("avx512f"))))
#endif

void hash_zeroes(size_t size, uint32_t seed, uint32_t count, uint8_t sum[16]) {
    void (*rounds)(uint64_t, uint64_t *, uint64_t *) = rounds_any;
    uint32_t lanes = groups * 16 / 8;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        rounds = rounds_avx512;
        lanes = groups * 64 / 8;
    } else if (__builtin_cpu_supports("avx2")) {
        rounds = rounds_avx2;
        lanes = groups * 32 / 8;
    }
#endif
    uint64_t h1[lanes_max], h2[lanes_max], sums[2] = {0, 0};
    for (uint64_t done = 0; done < count; done += lanes) {
        for (uint32_t i = 0; i < lanes; i++) h1[i] = h2[i] = (uint32_t)(seed + done + i);
        rounds(size / 16, h1, h2);
        for (uint32_t i = 0; i < lanes && i < count - done; i++) {
            uint64_t hash[2] = {h1[i], h2[i]};
            murmur3_finish(hash, size);
            sums[0] ^= hash[0];
            sums[1] ^= hash[1];
        }
    }
    memcpy(sum, sums, 16);
}
