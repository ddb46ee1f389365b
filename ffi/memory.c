/* Memory of slabs, and the system's words for errors. */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Slab memory: anonymous pages, given back to the system (but not unmapped) by walb_memory_cool. Large slabs are of huge
 * pages where the system has them: what is read into them and written past the page cache is then looked up, pinned and
 * given to the disk by the 2 MiB instead of by the 4 KiB.
 */
WALB_EXPORT void *walb_memory_map(uint64_t size) {
    uint64_t huge = 2u << 20;
    uint64_t spare = size >= huge ? huge : 0; /* older kernels do not align by themselves */
    char *data = mmap(NULL, size + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return NULL;
    if (spare == 0) return data;
    uint64_t front = (huge - (uintptr_t)data % huge) % huge;
    if (front > 0) munmap(data, front);
    if (spare > front) munmap(data + front + size, spare - front);
    madvise(data + front, size, MADV_HUGEPAGE);
    return data + front;
}

WALB_EXPORT int walb_memory_cool(void *data, uint64_t size) {
    return madvise(data, size, MADV_DONTNEED) == 0 ? 0 : errno;
}

WALB_EXPORT int walb_error_text(int error, char *out, uint32_t size) {
    const char *text = strerror(error);
    return snprintf(out, size, "%s", text);
}
