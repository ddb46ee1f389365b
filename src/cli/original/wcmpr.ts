/**
 * @module The container of the original's `wcmpr`: the string `walb-compressed`, the codec's name and number, then units
 * `00 originalBytes storedBytes data`, and `01 00 00` at the end. Integers and strings are those of its serializer.
 */
import { deflateSync, zstdCompressSync } from "node:zlib";
import type { DiffInput } from "../../diff/stream.ts";
import { checkAborted } from "../../diff/types.ts";
import { WalbError } from "../../errors.ts";
import { Codec, type CompressOption, codecNames, maxEncodedBytes } from "../../native/codec.ts";
import type { Memory } from "../../native/memory.ts";
import type { DiskFile } from "../../platform/disk.ts";
import { checkRange, mib } from "../../units.ts";
import type { Tool } from "../files/lib/tool.ts";

const magic = "walb-compressed";
const unitBytesMax = 32 * mib;

/** Compresses an input unit by unit. */
export async function compressUnits(
  tool: Tool,
  input: DiffInput,
  output: DiskFile,
  option: CompressOption,
  unitBytes: number,
): Promise<void> {
  checkRange(unitBytes, 1, unitBytesMax, "s");
  const { memory, compute } = tool.platform;
  const source = await memory.lease(unitBytes);
  const target = await memory.lease(maxEncodedBytes(unitBytes) + 64);
  const headBytes = 32;
  try {
    const name = codecNames[option.codec];
    const head = [...stringBytes(magic), ...stringBytes(name), option.codec];
    target.bytes.set(head);
    await output.write(0, target.slice(0, head.length));
    let at = head.length;
    for (;;) {
      checkAborted(tool.signal, "compressing");
      const gotBytes = await input.read(source.slice(0, unitBytes));
      if (gotBytes === 0) break;
      const unit = source.slice(0, gotBytes);
      const room = target.slice(headBytes, maxEncodedBytes(gotBytes));
      const [encoded] = await compute.encodeAlways([{ source: unit, target: room }], option);
      const isRaw = encoded!.codec === Codec.none;
      const data = encoded!.isZero
        ? zeroesEncoded(gotBytes, option)
        : isRaw
          ? unit.bytes
          : room.bytes.subarray(0, encoded!.storedBytes);
      const unitHead = [0, ...intBytes(gotBytes), ...intBytes(data.length)];
      room.bytes.set(data);
      target.bytes.set(unitHead, headBytes - unitHead.length);
      const piece = target.slice(headBytes - unitHead.length, unitHead.length + data.length);
      await output.write(at, piece);
      at += piece.sizeBytes;
      tool.progress(at);
    }
    target.bytes.set([1, 0, 0]);
    await output.write(at, target.slice(0, 3));
  } finally {
    target.release();
    source.release();
  }
}

/** Expands such a container. @throws WalbError `bad-format`, `damaged` naming the offset. */
export async function expandUnits(tool: Tool, input: DiffInput, output: DiskFile): Promise<void> {
  const { memory, compute } = tool.platform;
  const reader = new ContainerReader(tool, input);
  try {
    if ((await reader.string(magic.length)) !== magic) throw reader.bad("magic", "this is no wcmpr file");
    const name = await reader.string(16);
    const codec = await reader.byte();
    if (codecNames[codec] === undefined || codecNames[codec] !== name) {
      throw reader.bad("codec", `compression ${JSON.stringify(name)} with number ${codec} is not known`);
    }
    let at = 0;
    for (;;) {
      checkAborted(tool.signal, "expanding");
      const control = await reader.byte();
      const originalBytes = await reader.int();
      const storedBytes = await reader.int();
      if (control === 1) return;
      if (control !== 0) throw reader.bad("control", `a unit begins with ${control}`);
      if (originalBytes === 0 || originalBytes > unitBytesMax || storedBytes > maxEncodedBytes(originalBytes)) {
        throw reader.bad("size", `a unit of ${originalBytes} bytes is stored in ${storedBytes}`);
      }
      const lease = await memory.lease(Math.max(originalBytes, 1));
      const storedLease = await memory.lease(Math.max(storedBytes, 1));
      try {
        const stored = storedLease.slice(0, storedBytes);
        await reader.fill(stored);
        const target = lease.slice(0, originalBytes);
        const checksum = compute.checksumNow(stored.bytes, 0);
        const [result] = await compute.decode([{ source: stored, codec: codec as Codec, checksum, target }]);
        if (result !== 0) throw reader.bad("data", "a unit does not expand to its size");
        await output.write(at, target);
        at += originalBytes;
      } finally {
        storedLease.release();
        lease.release();
      }
      tool.progress(at);
    }
  } finally {
    reader.release();
  }
}

/** Reads the container's fields. */
class ContainerReader {
  readonly #tool: Tool;
  readonly #input: DiffInput;
  #lease: Awaited<ReturnType<Tool["platform"]["memory"]["lease"]>> | undefined;
  #at = 0;

  constructor(tool: Tool, input: DiffInput) {
    this.#tool = tool;
    this.#input = input;
  }

  async byte(): Promise<number> {
    return (await this.#take(1)).getUint8(0);
  }

  /** A non-negative integer below 2^32. */
  async int(): Promise<number> {
    const head = await this.byte();
    if (head < 0x80) return head;
    if (head === 0x80) return this.byte();
    if (head === 0x81) return (await this.#take(2)).getUint16(0, true);
    if (head === 0x82) return (await this.#take(4)).getUint32(0, true);
    throw this.bad("integer", `an integer begins with ${head}`);
  }

  async string(maxBytes: number): Promise<string> {
    const sizeBytes = await this.int();
    if (sizeBytes > maxBytes) throw this.bad("string", `a string of ${sizeBytes} bytes`);
    if (sizeBytes === 0) return "";
    const view = await this.#take(sizeBytes);
    return new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset, sizeBytes).slice());
  }

  async fill(target: Memory): Promise<void> {
    if ((await this.#input.read(target)) < target.sizeBytes) throw this.#cut();
    this.#at += target.sizeBytes;
  }

  async #take(sizeBytes: number): Promise<DataView> {
    this.#lease ??= await this.#tool.platform.memory.lease(64);
    const part = this.#lease.slice(0, sizeBytes);
    await this.fill(part);
    return part.view;
  }

  #cut(): WalbError {
    return new WalbError("damaged", {
      what: "the input ends before its end mark",
      where: { file: this.#input.name, offsetBytes: this.#at },
    });
  }

  bad(field: string, what: string): WalbError {
    return new WalbError("bad-format", { what, where: { file: this.#input.name, offsetBytes: this.#at, field } });
  }

  release(): void {
    this.#lease?.release();
    this.#lease = undefined;
  }
}

function stringBytes(text: string): number[] {
  return [...intBytes(text.length), ...new TextEncoder().encode(text)];
}

/** The serializer's shortest form. */
function intBytes(value: number): number[] {
  if (value < 0x80) return [value];
  if (value < 0x100) return [0x80, value];
  if (value < 0x1_0000) return [0x81, value & 0xff, value >>> 8];
  return [0x82, value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

/** Zeroes in a codec's coding: the shim, which stores zeroes as nothing, does not give it. */
function zeroesEncoded(sizeBytes: number, option: CompressOption): Uint8Array {
  const name = codecNames[option.codec];
  const zeroes = new Uint8Array(sizeBytes);
  if (name === "none") return zeroes;
  if (name === "gzip") return deflateSync(zeroes);
  if (name === "zstd") return zstdCompressSync(zeroes);
  if (name === "snappy") return snappyZeroes(sizeBytes);
  if (name === "lz4") return lz4Zeroes(sizeBytes);
  throw new WalbError("unsupported", {
    what: "units of zeroes cannot be written with lzma",
    hint: "use -m zstd",
  });
}

/** Length, one literal zero, copies from one byte back of up to 64 bytes each. */
function snappyZeroes(sizeBytes: number): Uint8Array {
  const bytes: number[] = [];
  let rest = sizeBytes;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest, 0, 0);
  for (let left = sizeBytes - 1; left > 0; left -= 64) bytes.push(((Math.min(64, left) - 1) << 2) | 2, 1, 0);
  return Uint8Array.from(bytes);
}

/** One literal, one match from one byte back, and the five literals every block ends with. */
function lz4Zeroes(sizeBytes: number): Uint8Array {
  if (sizeBytes < 18) {
    const head = sizeBytes < 15 ? [sizeBytes << 4] : [0xf0, sizeBytes - 15];
    return Uint8Array.from([...head, ...new Array<number>(sizeBytes).fill(0)]);
  }
  const matchRest = sizeBytes - 6 - 4 - 15;
  if (matchRest < 0) return Uint8Array.from([0x10 | (sizeBytes - 10), 0, 1, 0, 0x50, 0, 0, 0, 0, 0]);
  const extra = [...new Array<number>(Math.floor(matchRest / 255)).fill(255), matchRest % 255];
  return Uint8Array.from([0x1f, 0, 1, 0, ...extra, 0x50, 0, 0, 0, 0, 0]);
}
