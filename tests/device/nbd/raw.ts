/** @module A bare NBD client for tests: says exactly what it is told, also what no decent client would. */
import type { Address, Connection, ConnectionReader, Net } from "../../../src/platform/net.ts";

export const requestMagic = 0x25609513;

/** A reply in transmission, simple or one structured chunk. */
export interface Reply {
  readonly handle: number;
  readonly error: number;
  /** 0 for simple replies, else the chunk type. */
  readonly type: number;
  readonly payload: Uint8Array;
}

/** An open connection, byte by byte. */
export class RawNbd implements ConnectionReader {
  isClosed = false;
  hasEnded = false;
  private chunks: Buffer = Buffer.alloc(0);
  private wake: (() => void) | undefined;
  private readonly replies = new Map<number, Reply>();

  private constructor(readonly connection: Connection) {}

  static async open(net: Net, address: Address): Promise<RawNbd> {
    const client = new RawNbd(await net.connect(address, { timeoutMs: 5000 }));
    client.connection.setReader(client);
    client.connection.resume();
    return client;
  }

  /** Connects, and negotiates up to GO. */
  static async go(net: Net, address: Address, name: string, options: { structured?: boolean } = {}): Promise<RawNbd> {
    const client = await RawNbd.open(net, address);
    await client.greet();
    if (options.structured === true) {
      await client.option(8);
      await client.option(10, metaData(name, ["base:allocation"]));
    }
    const replies = await client.option(7, goData(name));
    if (replies.at(-1)?.type !== 1) throw new Error("GO was refused");
    return client;
  }

  /** Reads the greeting and answers it. */
  async greet(flags = 3): Promise<number> {
    const hello = await this.take(18);
    if (hello.toString("latin1", 0, 16) !== "NBDMAGICIHAVEOPT") throw new Error("no greeting");
    this.send(u32(flags));
    return hello.readUInt16BE(16);
  }

  /** Sends an option and reads its replies up to the last. */
  async option(option: number, data: Uint8Array = new Uint8Array(0)): Promise<{ type: number; data: Buffer }[]> {
    this.send(optionBytes(option, data));
    const replies: { type: number; data: Buffer }[] = [];
    for (;;) {
      const head = await this.take(20);
      if (head.readBigUInt64BE(0) !== 0x3e889045565a9n || head.readUInt32BE(8) !== option) throw new Error("bad reply");
      const type = head.readUInt32BE(12);
      replies.push({ type, data: await this.take(head.readUInt32BE(16)) });
      if (type === 1 || type >= 0x8000_0000) return replies;
    }
  }

  send(bytes: Uint8Array): void {
    this.connection.write(bytes);
  }

  /** The reply of a handle, whatever the order they come in. */
  async reply(handle: number, readBytes = 0): Promise<Reply> {
    for (;;) {
      const known = this.replies.get(handle);
      if (known !== undefined) {
        this.replies.delete(handle);
        return known;
      }
      const reply = await this.nextReply(readBytes);
      this.replies.set(reply.handle, reply);
    }
  }

  /** The next reply; a simple one that succeeded is followed by `readBytes` of data. */
  async nextReply(readBytes = 0): Promise<Reply> {
    const magic = (await this.take(4)).readUInt32BE(0);
    if (magic === 0x67446698) {
      const head = await this.take(12);
      const error = head.readUInt32BE(0);
      const payload = error === 0 ? await this.take(readBytes) : Buffer.alloc(0);
      return { error, handle: head.readUInt32BE(8), type: 0, payload };
    }
    if (magic !== 0x668e33ef) throw new Error(`bad reply magic ${magic.toString(16)}`);
    const head = await this.take(16);
    if (head.readUInt16BE(0) !== 1) throw new Error("not the last chunk");
    const type = head.readUInt16BE(2);
    const payload = await this.take(head.readUInt32BE(12));
    return { error: type >= 0x8000 ? payload.readUInt32BE(0) : 0, handle: head.readUInt32BE(8), type, payload };
  }

  /** Reads exactly so many bytes. @throws when the connection ends before. */
  async take(sizeBytes: number): Promise<Buffer> {
    while (this.chunks.length < sizeBytes) {
      if (this.isClosed || this.hasEnded) throw new Error("the server closed the connection");
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    const bytes = this.chunks.subarray(0, sizeBytes);
    this.chunks = this.chunks.subarray(sizeBytes);
    return bytes;
  }

  /** Resolves when the server has ended or closed the connection. */
  async gone(): Promise<void> {
    while (!this.isClosed && !this.hasEnded) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    this.connection.close();
  }

  data(chunk: Uint8Array): void {
    this.chunks = Buffer.concat([this.chunks, chunk]);
    this.wake?.();
  }

  end(): void {
    this.hasEnded = true;
    this.wake?.();
  }

  closed(): void {
    this.isClosed = true;
    this.wake?.();
  }
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** An option with its header. */
export function optionBytes(option: number, data: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from("IHAVEOPT"), u32(option), u32(data.length), data]);
}

/** Data of INFO and GO. */
export function goData(name: string, infos: readonly number[] = []): Buffer {
  const asked = Buffer.alloc(2 + 2 * infos.length);
  asked.writeUInt16BE(infos.length, 0);
  infos.forEach((info, i) => {
    asked.writeUInt16BE(info, 2 + 2 * i);
  });
  return Buffer.concat([u32(Buffer.byteLength(name)), Buffer.from(name), asked]);
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function metaData(name: string, queries: readonly string[]): Buffer {
  const parts = [u32(Buffer.byteLength(name)), Buffer.from(name), u32(queries.length)];
  for (const query of queries) parts.push(u32(Buffer.byteLength(query)), Buffer.from(query));
  return Buffer.concat(parts);
}

/** A request; the payload of a write follows it. */
export function request(
  type: number,
  handle: number,
  offsetBytes: number | bigint,
  sizeBytes: number,
  flags = 0,
  payload: Uint8Array = new Uint8Array(0),
): Buffer {
  const head = Buffer.alloc(28);
  head.writeUInt32BE(requestMagic, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(type, 6);
  head.writeUInt32BE(0xabcdef01, 8);
  head.writeUInt32BE(handle, 12);
  head.writeBigUInt64BE(BigInt(offsetBytes), 16);
  head.writeUInt32BE(sizeBytes, 24);
  return Buffer.concat([head, payload]);
}
