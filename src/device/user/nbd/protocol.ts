/**
 * @module Numbers and layouts of the NBD protocol (fixed newstyle), as in doc/proto.md of the NetworkBlockDevice
 * project. All integers are big-endian. 64-bit values are pairs of u32 here: handles are opaque, offsets are checked.
 */

/** "NBDMAGIC", "IHAVEOPT" as pairs of u32. */
export const initMagic = [0x4e42444d, 0x41474943] as const;
export const optionMagic = [0x49484156, 0x454f5054] as const;
/** Start of an option reply: 0x0003e889045565a9. */
export const optionReplyMagic = [0x0003e889, 0x045565a9] as const;
export const requestMagic = 0x25609513;
export const simpleReplyMagic = 0x67446698;
export const structuredReplyMagic = 0x668e33ef;

export const requestBytes = 28;
export const simpleReplyBytes = 16;
export const chunkHeaderBytes = 20;
export const optionHeaderBytes = 16;

/** Server's greeting flags and the client's answer: the same two bits. */
export const handshakeFlags = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const options = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const optionReplies = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: 0x8000_0001,
  errPolicy: 0x8000_0002,
  errInvalid: 0x8000_0003,
  errTlsReqd: 0x8000_0005,
  errUnknown: 0x8000_0006,
  errShutdown: 0x8000_0007,
  errTooBig: 0x8000_0009,
} as const;

export const infoTypes = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const transmissionFlags = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendFua: 8,
  sendTrim: 32,
  sendWriteZeroes: 64,
  sendDf: 128,
  canMultiConn: 256,
  sendCache: 1024,
  sendFastZero: 2048,
} as const;

export const commands = {
  read: 0,
  write: 1,
  disc: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const commandFlags = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const;

/** Chunk flag: the last chunk of an answer. */
export const chunkDone = 1;
export const chunkTypes = { none: 0, offsetData: 1, blockStatus: 5, error: 0x8001 } as const;

/** Error numbers on the wire (Linux's). */
export const errors = {
  none: 0,
  perm: 1,
  io: 5,
  noMemory: 12,
  invalid: 22,
  noSpace: 28,
  notSupported: 95,
  shutdown: 108,
} as const;

/** base:allocation descriptor: a hole that reads as zeroes (NBD_STATE_HOLE | NBD_STATE_ZERO). */
export const statusHoleZero = 3;
export const allocationContext = "base:allocation";
export const allocationContextId = 1;

/** Limits the server keeps and announces. */
export const minBlockBytes = 512;
export const maxPayloadBytes = 32 * 1024 * 1024;
/** Longest export name or context name of the protocol. */
export const maxStringBytes = 4096;

/** Reads a big-endian u32 without making a view. */
export function u32At(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** Reads a big-endian u16. */
export function u16At(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** Writes a big-endian u32. */
export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes a big-endian u16. */
export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Writes a safe integer as a big-endian u64. */
export function putU64(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, Math.floor(value / 0x1_0000_0000));
  putU32(bytes, at + 4, value >>> 0);
}
