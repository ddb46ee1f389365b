/*
 * Our snappy decoder beside the library's: the same verdict on every input, valid or damaged, and the same data. Built
 * with the sanitizers, and every buffer has exactly the size that is told: a byte too far ends the program.
 * Arguments: number of cases, seed. Prints how many were good and bad.
 */
#include "../../ffi/walb.h"
#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { size_max = 70000 };
static uint64_t state;

static uint32_t below(uint32_t bound) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16) % bound;
}

/* Stretches of noise, of short patterns and of what came before. */
static void fill(uint8_t *data, size_t size) {
    uint32_t stretch_max = below(4) == 0 ? 40 : 300;
    for (size_t at = 0; at < size;) {
        size_t length = 1 + below(stretch_max), kind = below(3);
        if (length > size - at) length = size - at;
        size_t back = kind == 0 || at == 0 ? 0 : 1 + below((uint32_t)(kind == 1 && at > 40 ? 40 : at));
        for (size_t i = 0; i < length; i++, at++) data[at] = back == 0 ? (uint8_t)below(256) : data[at - back];
    }
}

static void damage(uint8_t *data, size_t *size) {
    for (uint32_t left = 1 + below(3); left > 0 && *size > 0; left--) {
        size_t at = below((uint32_t)(below(3) == 0 && *size > 8 ? 8 : *size));
        switch (below(3)) {
        case 0:
            data[at] ^= (uint8_t)(1 << below(8));
            break;
        case 1:
            data[at] = (uint8_t)below(256);
            break;
        default:
            *size -= below(*size < 6 ? (uint32_t)*size : 6);
        }
    }
}

static void *exactly(size_t size) { return malloc(size == 0 ? 1 : size); }

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long cases = atol(argv[1]), good = 0, bad = 0;
    state = strtoull(argv[2], NULL, 10) * 2 + 88172645463325253u;
    uint8_t *data = malloc(size_max);
    for (long i = 0; i < cases; i++) {
        size_t size = below(8) == 0 ? below(size_max) : below(600), stored = snappy_max_compressed_length(size);
        fill(data, size);
        uint8_t *encoded = malloc(stored);
        snappy_compress((char *)data, size, (char *)encoded, &stored);
        if (below(2) == 0) damage(encoded, &stored);
        uint8_t *source = exactly(stored), *theirs = exactly(size), *ours = exactly(size);
        memcpy(source, encoded, stored);
        size_t told = 0;
        int is_good = snappy_uncompressed_length((char *)source, stored, &told) == SNAPPY_OK && told == size &&
                      snappy_uncompress((char *)source, stored, (char *)theirs, &told) == SNAPPY_OK && told == size;
        if ((snappy_decode(source, stored, ours, size) == 0) != is_good) {
            printf("case %ld: the library says %s\n", i, is_good ? "good" : "bad");
            return 1;
        }
        if (is_good && memcmp(theirs, ours, size) != 0) {
            printf("case %ld: other data\n", i);
            return 1;
        }
        if (is_good) good++;
        else bad++;
        free(encoded);
        free(source);
        free(theirs);
        free(ours);
    }
    free(data);
    printf("%ld good, %ld bad\n", good, bad);
    return 0;
}
