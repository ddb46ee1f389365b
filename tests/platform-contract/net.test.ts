import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Address, abstractAddress, type Connection, type Listener } from "../../src/platform/net.ts";
import { ServerCertificates } from "../../src/secure/authority.ts";
import { codeOf } from "../helpers/errors.ts";
import { context, testKeys } from "../secure/fixture.ts";
import { type Backend, backends } from "./backends.ts";

const kib = 1024;
const mib = 1024 * kib;

/** Keeps what a connection reads and how it ends. */
class Sink {
  readonly chunks: Uint8Array[] = [];
  /** What `closed` was called with, each time. */
  readonly closes: (Error | undefined)[] = [];
  sizeBytes = 0;
  ends = 0;
  afterEnd = 0;

  constructor(
    readonly connection: Connection,
    private readonly onEnd: () => void = () => {},
  ) {}

  start(): this {
    this.connection.setReader({
      data: (chunk) => this.data(chunk),
      end: () => {
        this.ends++;
        this.onEnd();
      },
      closed: (error) => void this.closes.push(error),
    });
    return this;
  }

  private data(chunk: Uint8Array): void {
    if (this.closes.length > 0 || this.ends > 0) this.afterEnd++;
    this.chunks.push(chunk);
    this.sizeBytes += chunk.length;
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.chunks);
  }
}

const certificates = new ServerCertificates(testKeys(1), ["localhost"], context);

/** Everything a connection does, it does under TLS too. */
const kinds = backends.flatMap((backend) => [
  { ...backend, isTls: false },
  { ...backend, name: `${backend.name} TLS`, isTls: true },
]);

for (const { name, make, isTls } of kinds) {
  describe(`the network of the ${name} platform`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await make();
    });
    afterAll(() => backend.close());
    const check = (what: string, work: () => Promise<void>) => test(what, () => backend.run(work));
    const until = async (predicate: () => boolean) => {
      for (let i = 0; i < 2000; i++) {
        if (predicate()) return;
        await backend.platform.clock.sleep(2);
      }
      throw new Error(`did not come true: ${predicate}`);
    };
    const anyPort: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };
    const pair = async (
      use: (client: Connection, server: Connection, listener: Listener) => Promise<void>,
      address: Address = anyPort,
    ) => {
      const { net } = backend.platform;
      const accepted: Connection[] = [];
      const listener = await net.listen(address, (connection) => void accepted.push(connection));
      const client = await net.connect(listener.address, { timeoutMs: 2000 });
      await until(() => accepted.length === 1);
      if (isTls) await turnToTls(client, accepted[0]!);
      try {
        await use(client, accepted[0]!, listener);
      } finally {
        client.close();
        for (const connection of accepted) connection.close();
        await listener.close();
      }
    };
    const turnToTls = async (client: Connection, server: Connection): Promise<void> => {
      const limit = { timeoutMs: 10_000 };
      const [one, two] = await Promise.all([
        server.startTls({ isServer: true, certificate: certificates.current(), ...limit }),
        client.startTls({ isServer: false, ...limit }),
      ]);
      const [here, there] = [one, two].map((session) => session.exportKeyingMaterial("EXPORTER-test", 32));
      expect(Buffer.compare(here!, there!)).toBe(0);
    };
    const pattern = (sizeBytes: number, salt: number) => {
      const bytes = new Uint8Array(sizeBytes);
      for (let i = 0; i < sizeBytes; i++) bytes[i] = (i * 31 + (i >> 8) + salt) & 0xff;
      return bytes;
    };

    check("carries megabytes both ways in order, by write and by send", async () => {
      await pair(async (client, server) => {
        const [there, back] = [new Sink(server).start(), new Sink(client).start()];
        const bytes = pattern(3 * mib, 1);
        const answer = pattern(2 * mib, 2);
        const sent = server.send(answer);
        for (let at = 0; at < bytes.length; at += 100_000) {
          const part = bytes.slice(at, at + 100_000);
          const isRoom = client.write(part);
          part.fill(0);
          if (!isRoom) await client.drained();
        }
        await sent;
        await until(() => there.sizeBytes === bytes.length && back.sizeBytes === answer.length);
        expect(Bun.hash(there.bytes)).toBe(Bun.hash(bytes));
        expect(Bun.hash(back.bytes)).toBe(Bun.hash(answer));
      });
    });

    check("reads again first what its reader gives back, by a reader that another one has set", async () => {
      await pair(async (client, server) => {
        const sink = new Sink(server);
        server.setReader({
          data: (chunk) => {
            server.pause();
            server.putBack(chunk.subarray(2));
            sink.start();
          },
          end() {},
          closed() {},
        });
        client.write(pattern(1000, 3));
        await until(() => sink.sizeBytes === 998);
        client.write(pattern(10, 4));
        await until(() => sink.sizeBytes === 1008);
        const expected = Buffer.concat([pattern(1000, 3).subarray(2), pattern(10, 4)]);
        expect(Buffer.compare(sink.bytes, expected)).toBe(0);
      });
    });

    check("asks the writer to wait above 1 MiB, and stops the sender of a reader that pauses", async () => {
      await pair(async (client, server) => {
        const sink = new Sink(server).start();
        server.pause();
        let isRoom = true;
        let written = 0;
        while (isRoom && written < 256 * mib) {
          isRoom = client.write(pattern(256 * kib, 0));
          written += 256 * kib;
        }
        expect(isRoom).toBe(false);
        let isDrained = false;
        const drained = client.drained().then(() => {
          isDrained = true;
        });
        await backend.platform.clock.sleep(50);
        expect(isDrained).toBe(false);
        expect(sink.sizeBytes).toBe(0);
        server.resume();
        await drained;
        await until(() => sink.sizeBytes === written);
      });
    });

    check("keeps early bytes for a reader that is set later", async () => {
      await pair(async (client, server) => {
        client.write(pattern(1000, 3));
        await backend.platform.clock.sleep(20);
        const sink = new Sink(server).start();
        await until(() => sink.sizeBytes === 1000);
        expect(sink.bytes).toEqual(Buffer.from(pattern(1000, 3)));
      });
    });

    check("half-closes: the other side can still answer, then both are closed without an error", async () => {
      await pair(async (client, server) => {
        const there: Sink = new Sink(server, () => {
          server.write(pattern(500_000, 4));
          server.end();
        }).start();
        const back = new Sink(client).start();
        client.write(pattern(10, 1));
        client.end();
        expect(await codeOf(client.send(new Uint8Array(1)))).toBe("unreachable");
        await until(() => there.closes.length > 0 && back.closes.length > 0);
        expect(there.sizeBytes).toBe(10);
        expect(back.sizeBytes).toBe(500_000);
        expect([there.ends, back.ends]).toEqual([1, 1]);
        expect([there.closes, back.closes]).toEqual([[undefined], [undefined]]);
        expect([client.isClosed, server.isClosed]).toEqual([true, true]);
      });
    });

    check("close is final, tells both readers once, and fails what waits", async () => {
      await pair(async (client, server) => {
        const there: Sink = new Sink(server, () => server.end()).start();
        const back = new Sink(client).start();
        server.pause();
        const stuck = codeOf(client.send(pattern(64 * mib, 0)));
        const waiting = codeOf(client.drained());
        client.close();
        client.close();
        expect(client.isClosed).toBe(true);
        expect([await stuck, await waiting]).toEqual(["unreachable", "unreachable"]);
        expect(await codeOf(client.send(new Uint8Array(1)))).toBe("unreachable");
        expect(await codeOf(client.drained())).toBe("unreachable");
        client.write(new Uint8Array(1));
        server.resume();
        await until(() => back.closes.length > 0 && there.closes.length > 0);
        await backend.platform.clock.sleep(20);
        expect([there.closes.length, back.closes]).toEqual([1, [undefined]]);
        expect(there.afterEnd).toBe(0);
      });
    });

    check("a peer that closes with unread bytes or is written to afterwards resets the connection", async () => {
      await pair(async (client, server) => {
        const there = new Sink(server).start();
        const back = new Sink(client).start();
        client.close();
        await until(() => there.ends === 1 || there.closes.length === 1);
        for (let i = 0; i < 100 && !server.isClosed; i++) {
          server.write(pattern(1000, 0));
          await backend.platform.clock.sleep(2);
        }
        await until(() => there.closes.length === 1);
        expect(await codeOf(server.send(new Uint8Array(1)))).toBe("unreachable");
        expect(back.sizeBytes).toBe(0);
      });
    });

    check("refuses a second listener, refuses where nobody listens", async () => {
      const { net } = backend.platform;
      const listener = await net.listen(anyPort, () => {});
      const { address } = listener;
      expect(address.kind === "tcp" && address.port > 0).toBe(true);
      expect(await codeOf(net.listen(address, () => {}))).toBe("port-in-use");
      await listener.close();
      await listener.close();
      expect(await codeOf(net.connect(address, { timeoutMs: 2000 }))).toBe("unreachable");
      await (await net.listen(address, () => {})).close();
    });

    check("keeps connections when their listener closes", async () => {
      await pair(async (client, server, listener) => {
        const sink = new Sink(server).start();
        await listener.close();
        client.write(pattern(10, 0));
        await until(() => sink.sizeBytes === 10);
      });
    });

    check("connects over unix sockets by path", async () => {
      const address: Address = { kind: "unix", path: `${backend.root}/socket` };
      expect(await codeOf(backend.platform.net.connect(address, { timeoutMs: 1000 }))).toBe("unreachable");
      await pair(async (client, server) => {
        const sink = new Sink(server).start();
        await client.send(pattern(300_000, 0));
        await until(() => sink.sizeBytes === 300_000);
        expect(await codeOf(backend.platform.net.listen(address, () => {}))).toBe("port-in-use");
      }, address);
    });

    check("a socket of an abstract name has one holder at a time, and connects", async () => {
      const { net } = backend.platform;
      const address = abstractAddress(`walb-test-${process.pid}-${name}-${isTls}`);
      await pair(async (client, server) => {
        const sink = new Sink(server).start();
        await client.send(pattern(100_000, 0));
        await until(() => sink.sizeBytes === 100_000);
        expect(await codeOf(net.listen(address, () => {}))).toBe("port-in-use");
      }, address);
      await (await net.listen(address, () => {})).close();
      expect(await codeOf(net.connect(address, { timeoutMs: 1000 }))).toBe("unreachable");
    });
  });
}
