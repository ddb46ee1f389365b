#!/bin/sh
# Builds the C shim: ffi/build/libwalb.so. Does nothing when it is newer than every source.
set -eu
cd "$(dirname "$0")"
out=build/libwalb.so
if [ -f "$out" ] && [ -z "$(find . -maxdepth 1 \( -name '*.c' -o -name '*.h' -o -name build.sh \) -newer "$out")" ]; then
  exit 0
fi
mkdir -p build
temporary="build/.libwalb.$$.so"
trap 'rm -f "$temporary"' EXIT
"${CC:-gcc}" -std=gnu11 -O3 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -ffunction-sections -fdata-sections \
  -o "$temporary" checksum.c murmur3.c zerohash.c siphash.c codec.c snappy.c io.c cached.c window.c decoded.c transfer.c recode.c block.c job.c pool.c memory.c watch.c receive.c frame.c index.c nbd.c compat.c \
  -Wl,--wrap=pthread_create,--wrap=pthread_join,--wrap=pthread_once \
  -Wl,--exclude-libs,ALL -Wl,--gc-sections -Wl,-z,defs -s -static-libgcc \
  -Wl,-Bstatic -llz4 -lsnappy -llzma -lzstd -lz -Wl,-Bdynamic -lpthread
mv "$temporary" "$out"
