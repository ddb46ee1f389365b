/** @module A small NBD client: many requests in flight on one connection, whose order is the order of the log. */
import type { Address, Connection, ConnectionReader, Net } from "../../platform/net.ts";

/** How a request ended: an NBD error number (0 for none), or `lost` when the connection went away before the reply. */
export type NbdReply =
  | { readonly kind: "done"; readonly error: number; readonly data: Buffer }
  | { readonly kind: "lost" };

/** NBD error of a volume whose log is full. */
export const enospc = 28;
/** Requests of the protocol. */
export const nbdRead = 0;
export const nbdWrite = 1;
export const nbdFlush = 3;
export const nbdTrim = 4;
export const nbdWriteZeroes = 6;

interface Pending {
  readonly readBytes: number;
  readonly resolve: (reply: NbdReply) => void;
}

/** A connection in transmission. */
export class NbdClient implements ConnectionReader {
  isLost = false;
  #bytes: Buffer = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  readonly #pending = new Map<number, Pending>();
  #lastHandle = 0;

  private constructor(readonly connection: Connection) {}

  /** Connects and chooses an export. @throws when the server refuses or goes away. */
  static async open(net: Net, address: Address, name: string): Promise<NbdClient> {
    const client = new NbdClient(await net.connect(address, { timeoutMs: 5000 }));
    client.connection.setReader(client);
    client.connection.resume();
    const hello = await client.#take(18);
    if (hello.toString("latin1", 0, 16) !== "NBDMAGICIHAVEOPT") throw new Error("no NBD server answers");
    const data = Buffer.alloc(6 + name.length);
    data.writeUInt32BE(name.length, 0);
    data.write(name, 4, "latin1");
    const option = Buffer.alloc(20);
    option.writeUInt32BE(3, 0);
    option.write("IHAVEOPT", 4, "latin1");
    option.writeUInt32BE(7, 12);
    option.writeUInt32BE(data.length, 16);
    client.connection.write(Buffer.concat([option, data]));
    for (;;) {
      const head = await client.#take(20);
      const type = head.readUInt32BE(12);
      await client.#take(head.readUInt32BE(16));
      if (type === 1) break;
      if (type >= 0x8000_0000) throw new Error(`the NBD server refuses the export (${type})`);
    }
    void client.#readReplies();
    return client;
  }

  /** Sends a request. Sizes and offsets in bytes. Never rejects. */
  request(
    type: number,
    offsetBytes: number,
    sizeBytes: number,
    options: { readonly isFua?: boolean; readonly payload?: Uint8Array } = {},
  ): Promise<NbdReply> {
    if (this.isLost) return Promise.resolve({ kind: "lost" });
    this.#lastHandle += 1;
    const handle = this.#lastHandle;
    const head = Buffer.alloc(28);
    head.writeUInt32BE(0x2560_9513, 0);
    head.writeUInt16BE(options.isFua === true ? 1 : 0, 4);
    head.writeUInt16BE(type, 6);
    head.writeUInt32BE(handle, 12);
    head.writeBigUInt64BE(BigInt(offsetBytes), 16);
    head.writeUInt32BE(sizeBytes, 24);
    const readBytes = type === nbdRead ? sizeBytes : 0;
    return new Promise((resolve) => {
      this.#pending.set(handle, { readBytes, resolve });
      this.connection.write(options.payload === undefined ? head : Buffer.concat([head, options.payload]));
    });
  }

  /** Gives up: everything that waits is lost. */
  lose(): void {
    if (this.isLost) return;
    this.isLost = true;
    for (const { resolve } of this.#pending.values()) resolve({ kind: "lost" });
    this.#pending.clear();
    this.#wake?.();
  }

  data(chunk: Uint8Array): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    this.#wake?.();
  }

  end(): void {
    this.lose();
  }

  closed(): void {
    this.lose();
  }

  async #readReplies(): Promise<void> {
    try {
      for (;;) {
        const head = await this.#take(16);
        if (head.readUInt32BE(0) !== 0x6744_6698) throw new Error("no NBD reply");
        const handle = head.readUInt32BE(12);
        const error = head.readUInt32BE(4);
        const pending = this.#pending.get(handle);
        if (pending === undefined) throw new Error(`an NBD reply to ${handle}, which nobody asked`);
        const data = await this.#take(error === 0 ? pending.readBytes : 0);
        this.#pending.delete(handle);
        pending.resolve({ kind: "done", error, data });
      }
    } catch {
      this.lose();
    }
  }

  async #take(sizeBytes: number): Promise<Buffer> {
    while (this.#bytes.length < sizeBytes) {
      if (this.isLost) throw new Error("the NBD connection is gone");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = this.#bytes.subarray(0, sizeBytes);
    this.#bytes = this.#bytes.subarray(sizeBytes);
    return bytes;
  }
}
