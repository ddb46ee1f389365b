/**
 * @module A relay between two daemons, as the original's packet repeater: passes TCP connections on, and cuts, delays,
 * limits, holds or corrupts what passes, or refuses to.
 */
import { createServer, connect as dial, type Server, type Socket } from "node:net";

/** `up` from whoever connects, `down` back to it. */
export type Direction = "up" | "down";

interface Hold {
  restBytes: number;
  readonly reached: () => void;
}

/** One way: what happens to the bytes that pass. */
class Lane {
  passedBytes = 0;
  hold: Hold | undefined;
  /** A byte is changed when so many more have passed. */
  corruptAfterBytes: number | undefined;
}

/** Listens on a port of its own, towards a port of this machine. */
export class Relay {
  /** Added to the way of each chunk. */
  delayMs = 0;
  /** Limit over all connections and both ways; 0 for none. */
  rateBytesPerS = 0;
  readonly #server: Server;
  readonly #targetPort: number;
  readonly #lanes = { up: new Lane(), down: new Lane() } as const;
  readonly #sockets = new Set<Socket>();
  #isRefusing = false;
  #freeAtMs = 0;
  /** Connections that were passed on. */
  connections = 0;
  /** Bytes that were changed. */
  corrupted = 0;

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    this.#targetPort = targetPort;
    server.on("connection", (socket) => this.#accept(socket));
  }

  static async start(targetPort: number): Promise<Relay> {
    const server = createServer({ allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", () => resolve());
    });
    return new Relay(server, targetPort);
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  passedBytes(direction: Direction): number {
    return this.#lanes[direction].passedBytes;
  }

  /** Breaks all connections that are open. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Breaks all connections, and new ones as soon as they are made, until `accept`. */
  refuse(): void {
    this.#isRefusing = true;
    this.cut();
  }

  accept(): void {
    this.#isRefusing = false;
  }

  /** Lets so many more bytes pass, then none of that direction until `release`. Resolves when they have passed. */
  hold(direction: Direction, afterBytes: number): Promise<void> {
    return new Promise((resolve) => {
      this.#lanes[direction].hold = { restBytes: afterBytes, reached: resolve };
    });
  }

  release(): void {
    for (const lane of Object.values(this.#lanes)) lane.hold = undefined;
  }

  /** Changes one byte when so many more have passed. */
  corrupt(direction: Direction, afterBytes: number): void {
    this.#lanes[direction].corruptAfterBytes = afterBytes;
  }

  close(): void {
    this.refuse();
    this.#server.close();
  }

  #accept(client: Socket): void {
    if (this.#isRefusing) {
      client.destroy();
      return;
    }
    this.connections += 1;
    const server = dial({ host: "127.0.0.1", port: this.#targetPort, allowHalfOpen: true });
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    this.#pass(client, server, this.#lanes.up);
    this.#pass(server, client, this.#lanes.down);
  }

  #pass(from: Socket, to: Socket, lane: Lane): void {
    const work = async (): Promise<void> => {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        if (this.delayMs > 0) await Bun.sleep(this.delayMs);
        await this.#keepRate(chunk.length);
        await this.#write(to, this.#changed(chunk, lane), lane);
      }
      to.end();
    };
    work().catch(() => from.destroy());
  }

  async #keepRate(bytes: number): Promise<void> {
    if (this.rateBytesPerS <= 0) return;
    const nowMs = performance.now();
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + (bytes / this.rateBytesPerS) * 1000;
    await Bun.sleep(this.#freeAtMs - nowMs);
  }

  #changed(chunk: Buffer, lane: Lane): Buffer {
    const at = lane.corruptAfterBytes;
    if (at === undefined) return chunk;
    if (at >= chunk.length) {
      lane.corruptAfterBytes = at - chunk.length;
      return chunk;
    }
    lane.corruptAfterBytes = undefined;
    this.corrupted += 1;
    const copy = Buffer.from(chunk);
    copy[at]! ^= 0x10;
    return copy;
  }

  /** Writes what a hold lets pass; the rest when it is released. */
  async #write(to: Socket, chunk: Buffer, lane: Lane): Promise<void> {
    let at = 0;
    while (at < chunk.length) {
      const { hold } = lane;
      const end = hold === undefined ? chunk.length : Math.min(chunk.length, at + hold.restBytes);
      if (end > at) {
        const isRoom = to.write(chunk.subarray(at, end));
        lane.passedBytes += end - at;
        if (hold !== undefined) hold.restBytes -= end - at;
        at = end;
        if (!isRoom && !to.destroyed) await new Promise<void>((resolve) => onceEither(to, "drain", "close", resolve));
      }
      if (hold !== undefined && hold.restBytes === 0) {
        hold.reached();
        while (lane.hold === hold) {
          if (to.destroyed) return;
          await Bun.sleep(10);
        }
      }
      if (to.destroyed) return;
    }
  }
}

function onceEither(socket: Socket, one: string, other: string, callback: () => void): void {
  const done = (): void => {
    socket.off(one, done);
    socket.off(other, done);
    callback();
  };
  socket.on(one, done);
  socket.on(other, done);
}
