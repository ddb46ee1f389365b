/*
 * Answers ioctl in place of the kernel, with the walb driver's structures as a C compiler lays them out. It follows the
 * pointers in the structure, so it finds out whether they lead to the buffers.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

struct walb_ctl_block {
    uint32_t wmajor, wminor, lmajor, lminor, dmajor, dminor;
    uint64_t buf_size;
    void *buf;
    void *kbuf;
} __attribute__((packed));

struct walb_ctl {
    int32_t command;
    int32_t val_int;
    uint64_t val_u64;
    uint32_t val_u32;
    int32_t error;
    struct walb_ctl_block u2k, k2u;
} __attribute__((packed));

struct walb_start_param {
    char name[32];
    uint32_t max_pending_mb, min_pending_mb, queue_stop_timeout_ms, max_logpack_kb;
    uint32_t log_flush_interval_ms, log_flush_interval_mb, n_pack_bulk, n_io_bulk;
} __attribute__((packed));

#define VERSION _IOR(0xfe, 0, uint32_t)
#define CONTROL _IOWR(0xfe, 1, struct walb_ctl)
#define WDEV _IOWR(0xfe, 2, struct walb_ctl)
_Static_assert(sizeof(struct walb_ctl) == 120, "walb_ctl");
_Static_assert(sizeof(struct walb_start_param) == 64, "walb_start_param");
_Static_assert(VERSION == 0x8004fe00 && CONTROL == 0xc078fe01 && WDEV == 0xc078fe02, "requests");

static int refuse(int error) {
    errno = error;
    return -1;
}

static int start(struct walb_ctl *ctl) {
    if (ctl->u2k.buf_size != sizeof(struct walb_start_param)) return ctl->error = -1, refuse(EFAULT);
    if (ctl->k2u.buf_size != sizeof(struct walb_start_param)) return ctl->error = -2, refuse(EFAULT);
    struct walb_start_param *in = ctl->u2k.buf, *out = ctl->k2u.buf;
    if (ctl->u2k.wminor != 0xffffffff || ctl->u2k.kbuf != NULL || in->n_io_bulk != 1024) return refuse(EINVAL);
    if (ctl->u2k.dmajor == 99) return ctl->error = -5, refuse(EFAULT);
    memcpy(out, in, sizeof(*out));
    memcpy(out->name + strlen(out->name), "-started", 9);
    ctl->k2u.wmajor = ctl->u2k.lmajor * 1000 + ctl->u2k.lminor;
    ctl->k2u.wminor = ctl->u2k.dmajor * 1000 + ctl->u2k.dminor;
    ctl->u2k.kbuf = ctl;
    return 0;
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (request == VERSION) return memcpy(argument, &(uint32_t){0x00010501}, 4), 0;
    struct walb_ctl *ctl = argument;
    if (request == CONTROL && ctl->command == 1) return start(ctl);
    if (request == WDEV && ctl->command == 7) {
        if (ctl->val_u64 != 0x123456789abcd) return refuse(EFAULT);
        return 0;
    }
    if (request == WDEV && ctl->command == 6) return ctl->val_u64 = 0x1fffffffffffff, 0;
    int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, argument);
}
