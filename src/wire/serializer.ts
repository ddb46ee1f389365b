/**
 * @module The canonical encoder and the lenient decoder of the serializer that all walb messages and metadata use.
 *
 * u8, u16 and bool are raw and little-endian; u32, u64 and i32 are variable-length; strings and vectors carry a count.
 * Source of the format: `docs/formats.md`, generic serializer.
 */
import { WalbError } from "../errors.ts";
import { hexOf, uuidBytes } from "../log/superblock.ts";
import { safeNumber } from "../units.ts";

/** Bounds of what is read from a peer before it is allocated. */
export const serializerLimits = {
  /** Bytes of an ordinary string. */
  stringBytes: 64 * 1024,
  /** Bytes of an error text or an answer string. */
  textBytes: 1024 * 1024,
  /** Elements of a vector. */
  elements: 1024 * 1024,
} as const;

const textEncoder = new TextEncoder();
const textDecoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Builds serialized bytes in one growing buffer. */
export class Encoder {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #used = 0;

  /** @param capacityBytes first size of the buffer; it doubles as needed. */
  constructor(capacityBytes = 256) {
    this.#bytes = new Uint8Array(new ArrayBuffer(Math.max(capacityBytes, 16)));
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Bytes written so far. */
  get sizeBytes(): number {
    return this.#used;
  }

  /** What was written, aliasing the buffer: valid until the next write or {@link clear}. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#used);
  }

  /** What was written, as a copy. */
  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#used);
  }

  /** Forgets what was written and keeps the buffer. */
  clear(): void {
    this.#used = 0;
  }

  u8(value: number): this {
    return this.#byte(checkWhole(value, 0, 0xff, "u8"));
  }

  /** Raw two bytes, never variable. */
  u16(value: number): this {
    checkWhole(value, 0, 0xffff, "u16");
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  bool(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  /** Variable-length u32. */
  u32(value: number): this {
    checkWhole(value, 0, 0xffff_ffff, "u32");
    return this.#varint32(value >>> 0, value | 0);
  }

  /** Variable-length i32. */
  i32(value: number): this {
    checkWhole(value, -0x8000_0000, 0x7fff_ffff, "i32");
    return this.#varint32(value >>> 0, value | 0);
  }

  /** Variable-length u64, from a safe integer or a bigint. */
  u64(value: number | bigint): this {
    if (typeof value === "number") {
      checkWhole(value, 0, Number.MAX_SAFE_INTEGER, "u64");
      if (value <= 0x7f) return this.#byte(value);
      if (value <= 0xffff_ffff) return this.#unsigned(value);
      return this.#wide(BigInt(value));
    }
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) {
      throw new WalbError("out-of-range", { what: `u64 value ${value} does not fit`, where: { field: "u64" } });
    }
    if (value <= 0xffff_ffffn) return this.u64(Number(value));
    const signed = BigInt.asIntN(64, value);
    if (signed < 0n && signed >= -0x8000_0000n) {
      const s = Number(signed);
      if (s >= -128) return this.#signedByte(s);
      if (s >= -0x8000) return this.#signed16(s);
      const at = this.#grow(5);
      this.#view.setUint8(at, 0x86);
      this.#view.setInt32(at + 1, s, true);
      return this;
    }
    return this.#wide(value);
  }

  /** Byte count, then UTF-8 bytes. */
  string(value: string): this {
    const bytes = textEncoder.encode(value);
    return this.u64(bytes.length).raw(bytes);
  }

  /** Count, then strings. */
  strings(values: readonly string[]): this {
    this.u64(values.length);
    for (const value of values) this.string(value);
    return this;
  }

  /** Bytes as they are: 16 bytes of a uuid or hash, payloads. */
  raw(bytes: Uint8Array): this {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** 32 hex digits as 16 raw bytes. */
  uuid(hex: string): this {
    return this.raw(uuidBytes(hex));
  }

  #varint32(unsigned: number, signed: number): this {
    if (signed >= -128 && signed <= 127) return this.#signedByte(signed);
    if (unsigned <= 0xffff) return this.#unsigned(unsigned);
    if (signed < 0 && signed >= -0x8000) return this.#signed16(signed);
    return this.#unsigned(unsigned);
  }

  #byte(value: number): this {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
    return this;
  }

  #signedByte(value: number): this {
    const byte = value & 0xff;
    if (byte < 0x80 || byte > 0x87) return this.#byte(byte);
    return this.#byte(0x84).#byte(byte);
  }

  #signed16(value: number): this {
    const at = this.#grow(3);
    this.#view.setUint8(at, 0x85);
    this.#view.setInt16(at + 1, value, true);
    return this;
  }

  #unsigned(value: number): this {
    if (value <= 0xff) {
      return this.#byte(0x80).#byte(value);
    }
    if (value <= 0xffff) {
      const at = this.#grow(3);
      this.#view.setUint8(at, 0x81);
      this.#view.setUint16(at + 1, value, true);
      return this;
    }
    const at = this.#grow(5);
    this.#view.setUint8(at, 0x82);
    this.#view.setUint32(at + 1, value, true);
    return this;
  }

  #wide(value: bigint): this {
    const at = this.#grow(9);
    this.#view.setUint8(at, 0x83);
    this.#view.setBigUint64(at + 1, value, true);
    return this;
  }

  /** Makes room, counts it as used and returns where it starts. Call it before `#view` is read: it may replace it. */
  #grow(sizeBytes: number): number {
    const at = this.#used;
    const needed = at + sizeBytes;
    if (needed > this.#bytes.length) {
      const bytes = new Uint8Array(new ArrayBuffer(Math.max(needed, this.#bytes.length * 2)));
      bytes.set(this.#bytes.subarray(0, at));
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer);
    }
    this.#used = needed;
    return at;
  }
}

/**
 * Thrown by a {@link Decoder} whose bytes end too early. A stream catches it, waits until it has `neededBytes` and
 * decodes again; over a complete buffer it means truncation. One shared object: it has no stack and costs nothing.
 */
export class ShortRead extends Error {
  override readonly name = "ShortRead";
  /** Bytes that must be there from the start of the value, at least. */
  neededBytes = 0;
}

const shortRead = new ShortRead("the bytes end inside a value");

/** Reads serialized bytes in any of the forms the original accepts. Values that cannot be are WalbError `protocol`. */
export class Decoder {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes consumed so far. */
  get offsetBytes(): number {
    return this.#offset;
  }

  /** Goes back, or on, to an offset: a stream undoes a value that was cut short. */
  seek(offsetBytes: number): void {
    this.#offset = offsetBytes;
  }

  /** Bytes not consumed. */
  get restBytes(): number {
    return this.#bytes.length - this.#offset;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  /** @throws WalbError `protocol` when the byte is neither 0 nor 1. */
  bool(field = "flag"): boolean {
    const byte = this.u8();
    if (byte > 1) throw badField(field, `is ${byte}, but must be 0 or 1`);
    return byte === 1;
  }

  /** @throws WalbError `protocol` for an 8-byte form. */
  u32(field = "u32"): number {
    return this.#small(field) >>> 0;
  }

  /** @throws WalbError `protocol` for an 8-byte form. */
  i32(field = "i32"): number {
    return this.#small(field) | 0;
  }

  /** The full 64 bits. */
  u64(): bigint {
    const head = this.u8();
    switch (head) {
      case 0x80:
        return BigInt(this.u8());
      case 0x81:
        return BigInt(this.u16());
      case 0x82:
        return BigInt(this.#view.getUint32(this.#take(4), true));
      case 0x83:
      case 0x87:
        return this.#view.getBigUint64(this.#take(8), true);
      case 0x84:
        return BigInt.asUintN(64, BigInt(this.#view.getInt8(this.#take(1))));
      case 0x85:
        return BigInt.asUintN(64, BigInt(this.#view.getInt16(this.#take(2), true)));
      case 0x86:
        return BigInt.asUintN(64, BigInt(this.#view.getInt32(this.#take(4), true)));
      default:
        return BigInt.asUintN(64, BigInt((head << 24) >> 24));
    }
  }

  /** A u64 as a safe integer in [0, max]. @throws WalbError `protocol` above it, naming `field`. */
  size(field: string, max = Number.MAX_SAFE_INTEGER): number {
    const head = this.#bytes[this.#offset];
    if (head !== undefined && head < 0x80) {
      this.#offset++;
      if (head > max) throw badField(field, `is ${head}, but at most ${max} is allowed`);
      return head;
    }
    const value = this.u64();
    if (value > BigInt(max)) throw badField(field, `is ${value}, but at most ${max} is allowed`);
    return safeNumber(value, field);
  }

  /** @throws WalbError `protocol` when longer than `maxBytes`. */
  string(field = "string", maxBytes: number = serializerLimits.stringBytes): string {
    const sizeBytes = this.size(`${field} length`, maxBytes);
    const at = this.#take(sizeBytes);
    return textDecoder.decode(this.#bytes.subarray(at, at + sizeBytes));
  }

  /** @throws WalbError `protocol` when there are more than `maxElements` or one is longer than `maxBytes`. */
  strings(field = "strings", maxElements: number = serializerLimits.elements, maxBytes?: number): string[] {
    const count = this.size(`${field} count`, maxElements);
    const values: string[] = [];
    for (let i = 0; i < count; i++) values.push(this.string(field, maxBytes));
    return values;
  }

  /** The next bytes, aliasing the input. */
  raw(sizeBytes: number): Uint8Array {
    const at = this.#take(sizeBytes);
    return this.#bytes.subarray(at, at + sizeBytes);
  }

  /** 16 raw bytes as 32 lower-case hex digits. */
  uuid(): string {
    return hexOf(this.raw(16));
  }

  /** @throws WalbError `protocol` unless every byte was consumed. */
  end(field = "message"): void {
    if (this.restBytes !== 0) throw badField(field, `is followed by ${this.restBytes} bytes that do not belong to it`);
  }

  #small(field: string): number {
    const head = this.u8();
    switch (head) {
      case 0x80:
        return this.u8();
      case 0x81:
        return this.u16();
      case 0x82:
      case 0x86:
        return this.#view.getInt32(this.#take(4), true);
      case 0x84:
        return this.#view.getInt8(this.#take(1));
      case 0x85:
        return this.#view.getInt16(this.#take(2), true);
      case 0x83:
      case 0x87:
        throw badField(field, "has 64 bits, but only 32 are allowed");
      default:
        return (head << 24) >> 24;
    }
  }

  #take(sizeBytes: number): number {
    const at = this.#offset;
    const end = at + sizeBytes;
    if (end > this.#bytes.length) {
      shortRead.neededBytes = end;
      throw shortRead;
    }
    this.#offset = end;
    return at;
  }
}

/** Serialized bytes of what `write` puts. */
export function encoded(write: (encoder: Encoder) => void): Uint8Array {
  const encoder = new Encoder();
  write(encoder);
  return encoder.bytes();
}

/**
 * Decodes one value that must fill `bytes` exactly.
 * @throws WalbError `bad-format` naming `field` when the bytes are short, long or cannot be.
 */
export function decodeAll<T>(bytes: Uint8Array, field: string, read: (decoder: Decoder) => T): T {
  try {
    const decoder = new Decoder(bytes);
    const value = read(decoder);
    decoder.end(field);
    return value;
  } catch (error) {
    if (!(error instanceof ShortRead)) throw error;
    throw new WalbError("bad-format", { what: `${field} is cut short at ${bytes.length} bytes`, where: { field } });
  }
}

/** A peer's value that cannot be: names the field. */
export function badField(field: string, problem: string): WalbError {
  return new WalbError("protocol", { what: `${field} ${problem}`, where: { field } });
}

function checkWhole(value: number, min: number, max: number, field: string): number {
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw new WalbError("out-of-range", { what: `${field} value ${value} does not fit`, where: { field } });
  }
  return value;
}
