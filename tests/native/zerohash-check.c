/*
 * Every way in which this processor can hash zeroes of many seeds, beside the hash of one run of zeroes after the other.
 * Built with the sanitizers. Prints the ways that agree.
 */
#include "../../ffi/zerohash.c"
#include <stdio.h>
#include <stdlib.h>

static void check(const char *name, void (*rounds)(uint64_t, uint64_t *, uint64_t *), uint32_t lanes) {
    static const uint8_t zeroes[70000];
    static const size_t sizes[] = {0, 1, 15, 16, 17, 512, 3584, 65536, 69999};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        uint64_t h1[lanes_max], h2[lanes_max];
        for (uint32_t i = 0; i < lanes; i++) h1[i] = h2[i] = i * 0x01234567u;
        rounds(sizes[s] / 16, h1, h2);
        for (uint32_t i = 0; i < lanes; i++) {
            uint64_t hash[2] = {h1[i], h2[i]};
            uint8_t wanted[16];
            murmur3_finish(hash, sizes[s]);
            walb_murmur3_x64_128(zeroes, sizes[s], i * 0x01234567u, wanted);
            if (memcmp(hash, wanted, 16) != 0) {
                printf("%s differs: %zu bytes, seed %u\n", name, sizes[s], i * 0x01234567u);
                exit(1);
            }
        }
    }
    printf("%s\n", name);
}

int main(void) {
    check("any", rounds_any, groups * 16 / 8);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) check("avx2", rounds_avx2, groups * 32 / 8);
    if (__builtin_cpu_supports("avx512f")) check("avx512", rounds_avx512, groups * 64 / 8);
#endif
    return 0;
}
