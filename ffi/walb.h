/* Shared declarations of the shim. Layouts here are mirrored by src/native/layout.ts. */
#ifndef WALB_H
#define WALB_H
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define WALB_EXPORT __attribute__((visibility("default")))
/* Result for end of file inside a read: not an errno. */
#define WALB_EOF (-100000)

/* All 64-bit numbers are doubles that hold safe integers: JavaScript writes them exactly and without bigint. */
struct job {
    int32_t op;
    int32_t fd;
    uint32_t count;
    uint32_t flags;
    double offset;
    double size;
    double address;
    double table;
    double extra;
    double result;  /* >= 0, or -errno, or WALB_EOF */
    double result2; /* bytes done before a failure, or a second value */
    uint32_t next;
    uint32_t lane;
    /* What is sent to a socket when the job has succeeded, before JavaScript hears of it: see walb_pool_entrust. */
    int32_t answer_fd;
    uint32_t answer_size;
    uint32_t answer_state;
    int32_t answer_sent; /* bytes that the socket took, or -1 when nothing was tried */
    uint8_t answer[32];
};
_Static_assert(sizeof(struct job) == 128, "job slot is 128 bytes");

/* One unit of a batch. Input fields are overwritten by results where noted. */
struct item {
    double source;
    double source_size;
    double target;
    double target_size; /* decode: exact size of the expanded image */
    uint32_t codec;     /* encode: codec; result: 1 = all zero. decode, verify: result code */
    uint32_t word;      /* encode: level, result: checksum. decode, verify: expected checksum. expand: result: checksum */
    double slice_offset; /* result of encode: stored bytes; of expand: checksum of the stored bytes */
    double slice_size;   /* result of encode: codec used; of expand: 1 = all zero */
    double file_offset;
};
_Static_assert(sizeof(struct item) == 64, "batch item is 64 bytes");

enum op {
    OP_NOP = 0,
    OP_PREAD,
    OP_PWRITE,
    OP_PWRITEV,
    OP_FDATASYNC,
    OP_FSYNC_PATH,
    OP_ZERO,
    OP_TRUNCATE,
    OP_FICLONE,
    OP_COPY_RANGE,
    OP_NEXT_DATA,
    OP_OPEN,
    OP_CLOSE,
    OP_SIZE,
    OP_STATVFS,
    OP_UNLINK,
    OP_RENAME,
    OP_IOCTL,
    OP_DISCARD,
    OP_ENCODE,
    OP_DECODE,
    OP_VERIFY,
    OP_CHECKSUM,
    OP_HASH,
    OP_READ_ENCODE,
    OP_READ_HASH,
    OP_WRITE_DECODED,
    OP_SLEEP,
    OP_WRITE_MANY,
    OP_ALLOCATE,
    OP_READ_MANY,
    OP_EXPAND,
    OP_TRANSFER,
    OP_RECODE,
    OP_START_WRITEBACK,
    OP_WRITE_BACK,
    OP_FRAME,
    OP_READ_PACKS,
    OP_READ_LOG_PACKS,
    OP_HASH_ZEROES,
    OP_COMMIT_FILE,
};

enum { FLAG_ALWAYS = 1, FLAG_BLOCK_DEVICE = 2, FLAG_VERIFIED = 4, FLAG_SYNC = 8, FLAG_SUMMED = 16, FLAG_GENTLE = 32 };
enum { RECODE_KEEP = 1, RECODE_ZERO = 2, PACK_HEADER = 4096 };
enum { DECODE_GOOD = 0, DECODE_CHECKSUM = 1, DECODE_DAMAGED = 2 };
enum { OPEN_DIRECT = 1, OPEN_LOCK = 2, OPEN_WRITE = 4, OPEN_CREATE = 8, OPEN_EXCLUSIVE = 16, OPEN_LOCK_SHARED = 32 };

void walb_run_job(struct job *job);

uint32_t walb_checksum(const void *data, size_t size, uint32_t salt);
int walb_is_zero(const void *data, size_t size);
void walb_murmur3_x64_128(const void *data, size_t size, uint32_t seed, uint8_t out[16]);
/* Of the state behind the last round the hash. */
void murmur3_finish(uint64_t hash[2], size_t size);
/* The exclusive or of `count` hashes of `size` zeroes, with the seeds from `seed` on, which begin at 0 again. */
void hash_zeroes(size_t size, uint32_t seed, uint32_t count, uint8_t sum[16]);

void encode_items(struct item *items, uint32_t count, int always);
void decode_items(struct item *items, uint32_t count);
void expand_items(struct item *items, uint32_t count);
/* Expands to exactly target_size bytes. 0 = good. Never writes beyond the target. */
int codec_decode(uint32_t codec, const void *source, size_t source_size, void *target, size_t target_size);

/* snappy.c. Expands to exactly target_size bytes: 0 = good. */
int snappy_decode(const void *source, size_t source_size, void *target, size_t target_size);

/* Memory of the calling thread, 4096-aligned, at least `size` bytes; NULL when there is none. Valid until the next
   call with the same index; given back by scratch_trim(). */
void *scratch(int index, size_t size);
void scratch_trim(void);

/* Largest image that is expanded. */
enum { DECODED_MAX = 64 << 20 };

/* window.c: items of io_transfer and io_recode, a few at a time. `stored_max` is at least 64 KiB. */
enum { WINDOW_ITEMS = 512 };
/* End of the window that begins at `first`: never empty, else with at most `stored_max` bytes to read and `images_max`
   to expand. */
uint32_t window_end(const struct item *items, uint32_t count, uint32_t first, size_t stored_max, size_t images_max);
/* Memory that reading a window takes. */
size_t window_room(const struct item *items, uint32_t count, size_t stored_max);
/* Reads the stored bytes of a window's items, what lies close together at once, and puts their addresses in. `failed`
   as io_transfer has it. */
int64_t window_read(struct item *items, uint32_t count, size_t stored_max, char *space, double *failed);

/* File jobs: io.c and block.c. They return >= 0, -errno or WALB_EOF. */
int64_t io_read(int fd, void *data, uint64_t size, uint64_t offset, double *done);
int64_t io_write(int fd, const void *data, uint64_t size, uint64_t offset, double *done);
/* Writes pieces one behind the other; they are used up. */
uint64_t io_pieces_size(const struct iovec *pieces, int count);
int64_t io_write_pieces(int fd, struct iovec *pieces, int count, uint64_t offset);
int64_t io_write_gather(int fd, const struct item *items, uint32_t count, uint64_t offset, double *done);
/* The walb checksum of each source, with the salt `word`, to its target; with `codec` the target is a part of the source
   that counts as zero: a block that holds its own checksum, and comes behind those it holds besides. */
void put_sums(const struct item *items, uint32_t count);
/* Items that follow each other in the file are gathered into one write. Gentle: others have their turn after each. */
int64_t io_write_many(int fd, const struct item *items, uint32_t count, int is_gentle, double *done);
/* Fills each item's target from its place in the file; what follows each other in both is read at once. */
int64_t io_read_many(int fd, const struct item *items, uint32_t count, double *done);
int64_t io_read_scatter(int fd, const struct item *items, uint32_t count, uint64_t offset, double *done);
int64_t io_write_zeroes(int fd, uint64_t offset, uint64_t size);
int64_t io_zero(int fd, uint64_t offset, uint64_t size, int is_block);
int64_t io_start_writeback(int fd, uint64_t offset, uint64_t size);
int64_t io_write_back(int fd, uint64_t offset, uint64_t size);
int64_t io_allocate(int fd, uint64_t offset, uint64_t size);
int64_t io_discard(int fd, uint64_t offset, uint64_t size, int is_block);
int64_t io_next_data(int fd, uint64_t offset, double *end);
int64_t io_copy_range(int source, int target, uint64_t offset, uint64_t size, double *next);
int64_t io_fsync_path(const char *path, int is_whole_file_system);
/* Makes a file durable and gives it another name in the same directory, durably. `step`: which of fdatasync, rename and
   fsync of the directory failed, from 0. */
int64_t io_commit_file(int fd, double size, const char *from, const char *to, const char *directory, double *step);
int64_t io_open(struct job *job);
int64_t io_size(int fd);
int64_t io_statvfs(const char *path, double *total);

/* receive.c: a large piece of memory that a socket's next bytes go to. The caller holds its lock. */
enum { FILL_END = 1, FILL_SPILL = 4096 };
struct fill {
    int is_taken, is_active, fd;
    uint32_t number;
    uint8_t *target;
    uint64_t size, done;
    int32_t status; /* 0, FILL_END behind the last byte, or -errno */
    uint32_t spilled;
    uint8_t spill[FILL_SPILL]; /* what came behind the target at once */
};
void fill_begin(struct fill *fill, int fd, uint32_t number, void *target, uint64_t size);
/* Reads what has arrived, a bounded amount of it. 1: over, it is full or the socket ended. */
int fill_turn(struct fill *fill);
int32_t walb_receive(int32_t fd, void *target, uint32_t size, void *spill, uint32_t spill_size);
/* Puts into the first item where a write failed, in file_offset, and how long it was, in slice_size. Returns -1: what
   `failed` is then. */
double item_failed_write(struct item *items, uint64_t offset, uint64_t size);
int64_t io_write_decoded(int fd, struct item *items, uint32_t count, uint64_t alignment, double *failed);
/* Reads each item's stored bytes (source: offset in the file whose descriptor is `target`; address in memory when that
   is negative), checks them unless verified, expands them and writes their slice. Items become results as those of
   io_write_decoded do. `failed` is the item whose read failed + 1,
   or -1 when a write did, see item_failed_write. Jobs of one `flow` (NULL: none)
   write in the order of their sequences, which count from 0 without gaps. A strict one writes nothing behind a bad item;
   -ECANCELED when something before failed. */
struct flow;
int64_t io_transfer(int fd, struct item *items, uint32_t count, int is_verified, struct flow *flow, uint64_t sequence,
                    double *failed);
/* The same input, but put one behind the other into `out`, with room for a header before every `pack_records` items:
   stored bytes as they are where file_offset is RECODE_KEEP, else the slice compressed anew. An item without file
   (`target` negative) has no bytes. Results: code as above, word, stored bytes and codec as those of encode_items;
   file_offset is RECODE_ZERO for a slice that is all zero and has no bytes. */
int64_t io_recode(struct item *items, uint32_t count, int is_verified, uint32_t codec, uint32_t level, char *out,
                  uint64_t room, uint32_t pack_records, double *failed);

/* Pack headers of a sorted diff from `offset` on, over the data between them: as many as `headers` takes, up to the end
   pack, the end of the file or one that cannot be a header. Returns how many; an error only when there is none. */
int64_t io_read_packs(int fd, uint8_t *headers, uint64_t size, uint64_t offset);

/* Where the next header is behind the one at `offset`; negative when there is none. */
int64_t pack_behind(const uint8_t *header, uint64_t offset);

/* cached.c. Whether files there are opened without asking anybody else. */
int is_local_file_system(int fd);

/* The same of a log of physical blocks: up to a block that is no header, or a pack without data. */
int64_t io_read_log_packs(int fd, uint8_t *headers, uint64_t size, uint64_t offset, uint32_t block);

int64_t frame_items(const struct item *items, uint32_t count, uint8_t *out, uint64_t room);

#endif
