/** @module A small NBD client: what the demo writes to and reads from the volume with. */
import { WalbError } from "../../errors.ts";
import type { Address, Connection, Net } from "../../platform/net.ts";

const serverMagic = 0x4e42444d41474943n;
const optionMagic = 0x49484156454f5054n;
const optionReplyMagic = 0x3e889045565a9n;
const requestMagic = 0x25609513;
const replyMagic = 0x67446698;
const goOption = 7;
const replyAck = 1;
const replyInfo = 3;
const infoExport = 0;
const flagFixedNewstyle = 1;
const flagNoZeroes = 2;
const command = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;

interface Pending {
  readonly readBytes: number;
  resolve(data: Uint8Array): void;
  reject(error: WalbError): void;
}

/** A connection to one export. Requests may overlap; a promise settles when the server has answered. */
export class NbdClient {
  readonly #connection: Connection;
  readonly #input = new Input();
  readonly #pending = new Map<bigint, Pending>();
  #nextHandle = 1n;
  #sizeBytes = 0;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Connects and negotiates. @throws WalbError `unreachable`, `protocol`. */
  static async connect(net: Net, address: Address, exportName: string): Promise<NbdClient> {
    const client = new NbdClient(await net.connect(address, { timeoutMs: 5000 }));
    client.#connection.setReader({
      data: (chunk) => client.#input.push(chunk),
      end: () => client.#input.end(),
      closed: () => client.#input.end(),
    });
    client.#connection.resume();
    await client.#negotiate(exportName);
    void client.#readReplies();
    return client;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async read(offsetBytes: number, sizeBytes: number): Promise<Uint8Array> {
    return this.#request(command.read, offsetBytes, sizeBytes, undefined, sizeBytes);
  }

  async write(offsetBytes: number, data: Uint8Array): Promise<void> {
    await this.#request(command.write, offsetBytes, data.length, data, 0);
  }

  /** Everything written before is durable when it returns. */
  async flush(): Promise<void> {
    await this.#request(command.flush, 0, 0, undefined, 0);
  }

  async trim(offsetBytes: number, sizeBytes: number): Promise<void> {
    await this.#request(command.trim, offsetBytes, sizeBytes, undefined, 0);
  }

  async writeZeroes(offsetBytes: number, sizeBytes: number): Promise<void> {
    await this.#request(command.writeZeroes, offsetBytes, sizeBytes, undefined, 0);
  }

  close(): void {
    if (!this.#connection.isClosed) this.#connection.write(requestBytes(command.disconnect, 0n, 0, 0));
    this.#connection.end();
    this.#connection.close();
  }

  async #negotiate(exportName: string): Promise<void> {
    const greeting = viewOf(await this.#input.take(18));
    if (greeting.getBigUint64(0) !== serverMagic || greeting.getBigUint64(8) !== optionMagic) {
      throw new WalbError("protocol", {
        what: "the server does not speak NBD",
        where: { peer: this.#connection.peer },
      });
    }
    const name = Buffer.from(exportName);
    const hello = Buffer.alloc(4 + 16 + 4 + name.length + 2);
    hello.writeUInt32BE(flagFixedNewstyle | flagNoZeroes, 0);
    hello.writeBigUInt64BE(optionMagic, 4);
    hello.writeUInt32BE(goOption, 12);
    hello.writeUInt32BE(4 + name.length + 2, 16);
    hello.writeUInt32BE(name.length, 20);
    name.copy(hello, 24);
    await this.#connection.send(hello);
    for (;;) {
      const head = viewOf(await this.#input.take(20));
      const type = head.getUint32(12);
      const body = await this.#input.take(head.getUint32(16));
      if (head.getBigUint64(0) !== optionReplyMagic || type >= 0x8000_0000) {
        const text = Buffer.from(body).toString();
        throw new WalbError("protocol", { what: `export ${exportName} was refused: ${text || type.toString(16)}` });
      }
      if (type === replyInfo && viewOf(body).getUint16(0) === infoExport) {
        this.#sizeBytes = Number(viewOf(body).getBigUint64(2));
      }
      if (type === replyAck) return;
    }
  }

  #request(
    type: number,
    offsetBytes: number,
    sizeBytes: number,
    data: Uint8Array | undefined,
    readBytes: number,
  ): Promise<Uint8Array> {
    const handle = this.#nextHandle;
    this.#nextHandle += 1n;
    return new Promise((resolve, reject) => {
      this.#pending.set(handle, { readBytes, resolve, reject });
      const sending = [this.#connection.send(requestBytes(type, handle, offsetBytes, sizeBytes))];
      if (data !== undefined) sending.push(this.#connection.send(data));
      // A failed send is told to every pending request by the reader of replies.
      Promise.all(sending).catch(() => this.#input.end());
    });
  }

  async #readReplies(): Promise<void> {
    try {
      for (;;) {
        const head = viewOf(await this.#input.take(16));
        const pending = this.#pending.get(head.getBigUint64(8));
        if (head.getUint32(0) !== replyMagic || pending === undefined) throw new Error("unexpected reply");
        this.#pending.delete(head.getBigUint64(8));
        const errno = head.getUint32(4);
        if (errno !== 0) pending.reject(new WalbError("io", { what: `the volume answered with NBD error ${errno}` }));
        else pending.resolve(await this.#input.take(pending.readBytes));
      }
    } catch (cause) {
      const error = new WalbError("unreachable", { what: "the NBD server went away", cause });
      for (const pending of this.#pending.values()) pending.reject(error);
      this.#pending.clear();
    }
  }
}

function requestBytes(type: number, handle: bigint, offsetBytes: number, sizeBytes: number): Uint8Array {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(requestMagic, 0);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(handle, 8);
  bytes.writeBigUInt64BE(BigInt(offsetBytes), 16);
  bytes.writeUInt32BE(sizeBytes, 24);
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Chunks of the socket as exact pieces. */
class Input {
  readonly #chunks: Uint8Array[] = [];
  #sizeBytes = 0;
  #isOver = false;
  #wake: (() => void) | undefined;

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#sizeBytes += chunk.length;
    this.#wake?.();
  }

  end(): void {
    this.#isOver = true;
    this.#wake?.();
  }

  async take(sizeBytes: number): Promise<Uint8Array> {
    while (this.#sizeBytes < sizeBytes) {
      if (this.#isOver) throw new WalbError("unreachable", { what: "the NBD server closed the connection" });
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = new Uint8Array(sizeBytes);
    for (let done = 0; done < sizeBytes; ) {
      const chunk = this.#chunks[0]!;
      const count = Math.min(chunk.length, sizeBytes - done);
      bytes.set(chunk.subarray(0, count), done);
      done += count;
      if (count === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(count);
    }
    this.#sizeBytes -= sizeBytes;
    return bytes;
  }
}
