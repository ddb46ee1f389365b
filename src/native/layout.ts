/** @module Numbers and layouts shared with the shim, mirrored from `ffi/walb.h`. */

/** Operations of a job. */
export const Op = {
  nop: 0,
  pread: 1,
  pwrite: 2,
  pwritev: 3,
  fdatasync: 4,
  fsyncPath: 5,
  zero: 6,
  truncate: 7,
  ficlone: 8,
  copyRange: 9,
  nextData: 10,
  open: 11,
  close: 12,
  size: 13,
  statvfs: 14,
  unlink: 15,
  rename: 16,
  ioctl: 17,
  discard: 18,
  encode: 19,
  decode: 20,
  verify: 21,
  checksum: 22,
  hash: 23,
  readEncode: 24,
  readHash: 25,
  writeDecoded: 26,
  sleep: 27,
  writeMany: 28,
  allocate: 29,
  readMany: 30,
  expand: 31,
  transfer: 32,
  recode: 33,
  startWriteback: 34,
  writeBack: 35,
  frame: 36,
  readPacks: 37,
  readLogPacks: 38,
  hashZeroes: 39,
  commitFile: 40,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

/** Flags of a job. */
export const JobFlag = { always: 1, blockDevice: 2, verified: 4, sync: 8, summed: 16, gentle: 32 } as const;
export const OpenFlag = { direct: 1, lock: 2, write: 4, create: 8, exclusive: 16, lockShared: 32 } as const;

/** Result of a read that met the end of the file. */
export const endOfFile = -100000;

/** What `recode` is asked of an item, and answers, in the place of its file offset. */
export const Recode = { anew: 0, keep: 1, zero: 2 } as const;

/** Bytes of a job slot. Words: op, fd, count, flags; doubles from byte 16 on. */
export const slotBytes = 128;
/** Indexes of a slot's doubles. */
export const SlotF64 = { offset: 2, size: 3, address: 4, table: 5, extra: 6, result: 7, result2: 8 } as const;
/** Indexes of a slot's 32-bit words. */
export const SlotU32 = { op: 0, fd: 1, count: 2, flags: 3, lane: 19, answerSent: 23 } as const;
/** Most bytes that a job sends when it has succeeded. */
export const answerBytesMax = 32;

/** Bytes of a batch item. */
export const itemBytes = 64;
export const itemF64 = itemBytes / 8;
export const itemU32 = itemBytes / 4;
/** Indexes of an item's doubles. */
export const ItemF64 = {
  source: 0,
  sourceSize: 1,
  target: 2,
  targetSize: 3,
  sliceOffset: 5,
  sliceSize: 6,
  fileOffset: 7,
} as const;
/** Indexes of an item's 32-bit words. */
export const ItemU32 = { code: 8, word: 9 } as const;
/** Where `expand` leaves its results among the doubles; the checksum of the data is in the word. */
export const ExpandedF64 = { storedChecksum: 5, isZero: 6 } as const;
/** Where `encode` leaves its results among the doubles. */
export const EncodedF64 = { storedBytes: 5, codec: 6 } as const;
