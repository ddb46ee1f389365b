import { expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Address, Connection, Listener, Net } from "../../src/platform/net.ts";
import { createNet } from "../../src/platform/real/net.ts";
import { mib } from "../../src/units.ts";
import { failureOf } from "../helpers/errors.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const net: Net = createNet();
const loopback: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };

/** A reader that keeps what it hears. */
class Recorder {
  readonly chunks: Uint8Array[] = [];
  sizeBytes = 0;
  events: string[] = [];
  error: Error | undefined;
  readonly done: Promise<void>;
  #finish: () => void = () => undefined;

  constructor() {
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }
  data(chunk: Uint8Array): void {
    this.chunks.push(chunk);
    this.sizeBytes += chunk.length;
    if (this.events.at(-1) !== "data") this.events.push("data");
  }
  end(): void {
    this.events.push("end");
  }
  closed(error: Error | undefined): void {
    this.events.push("closed");
    this.error = error;
    this.#finish();
  }
}

interface Pair {
  readonly client: Connection;
  readonly server: Connection;
  readonly listener: Listener;
}

async function withPair(address: Address, use: (pair: Pair) => Promise<void>): Promise<void> {
  let accepted: (connection: Connection) => void = () => undefined;
  const incoming = new Promise<Connection>((resolve) => {
    accepted = resolve;
  });
  const listener = await net.listen(address, (connection) => accepted(connection));
  const client = await net.connect(listener.address, { timeoutMs: 5000 });
  const server = await incoming;
  try {
    await use({ client, server, listener });
  } finally {
    client.close();
    server.close();
    await listener.close();
  }
}

function pattern(sizeBytes: number): Uint8Array {
  const words = new Uint32Array(sizeBytes / 4);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 2654435761);
  return new Uint8Array(words.buffer);
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));

for (const kind of ["tcp", "unix"]) {
  test(`${kind}: 64 MiB written at once arrive whole and in order at a reader that keeps pausing`, async () => {
    await withTemporaryDirectory(async (directory) => {
      const address: Address = kind === "tcp" ? loopback : { kind: "unix", path: join(directory, "s") };
      await withPair(address, async ({ client, server }) => {
        const data = pattern(64 * mib);
        const recorder = new Recorder();
        let chunks = 0;
        server.setReader({
          data: (chunk) => {
            recorder.data(chunk);
            if (++chunks % 16 !== 0) return;
            server.pause();
            setTimeout(() => server.resume(), 1);
          },
          end: () => recorder.end(),
          closed: (error) => recorder.closed(error),
        });
        const clientSide = new Recorder();
        client.setReader(clientSide);
        expect(client.write(data.subarray(0, 32 * mib))).toBe(false);
        const sent = client.send(data.subarray(32 * mib, 48 * mib));
        client.write(data.subarray(48 * mib));
        client.end();
        await sent;
        while (!recorder.events.includes("end")) await turn();
        expect(Buffer.compare(Buffer.concat(recorder.chunks), data)).toBe(0);
        server.end();
        await Promise.all([recorder.done, clientSide.done]);
        expect(recorder.events).toEqual(["data", "end", "closed"]);
        expect([recorder.error, clientSide.error]).toEqual([undefined, undefined]);
      });
    });
  });
}

test("bytes given to write may be reused at once", async () => {
  await withPair(loopback, async ({ client, server }) => {
    const recorder = new Recorder();
    const chunk = new Uint8Array(8 * mib).fill(1);
    client.write(chunk);
    chunk.fill(2);
    client.end();
    server.setReader(recorder);
    while (!recorder.events.includes("end")) await turn();
    expect(Buffer.compare(Buffer.concat(recorder.chunks), new Uint8Array(8 * mib).fill(1))).toBe(0);
  });
});

test("a paused reader hears nothing and its peer is stopped", async () => {
  await withPair(loopback, async ({ client, server }) => {
    const recorder = new Recorder();
    server.setReader(recorder);
    server.pause();
    let isSent = false;
    const sent = client.send(new Uint8Array(64 * mib)).then(() => {
      isSent = true;
    });
    for (let i = 0; i < 10; i++) await turn();
    expect(isSent).toBe(false);
    // What the event loop had read when pause was called may still come, no more.
    expect(recorder.sizeBytes).toBeLessThanOrEqual(mib);
    server.resume();
    await sent;
    client.end();
    while (!recorder.events.includes("end")) await turn();
    expect(recorder.sizeBytes).toBe(64 * mib);
  });
});

test("nothing is lost when the peer closes while the reader is paused", async () => {
  await withPair(loopback, async ({ client, server }) => {
    client.write(new Uint8Array(100000).fill(7));
    client.end();
    client.close();
    await turn();
    const recorder = new Recorder();
    server.setReader(recorder);
    while (!recorder.events.includes("end")) await turn();
    expect(recorder.sizeBytes).toBe(100000);
    server.end();
    await recorder.done;
    expect(recorder.events).toEqual(["data", "end", "closed"]);
  });
});

for (const kind of ["tcp", "unix"]) {
  test(`${kind}: who waits for a peer to take something hears that it is gone, although nothing is read`, async () => {
    await withTemporaryDirectory(async (directory) => {
      const address: Address = kind === "tcp" ? loopback : { kind: "unix", path: join(directory, "s") };
      await withPair(address, async ({ client, server }) => {
        const recorder = new Recorder();
        server.setReader(recorder);
        client.write(new Uint8Array([1, 2, 3]));
        while (recorder.sizeBytes < 3) await turn();
        server.pause();
        client.close();
        await turn();
        expect((await failureOf(server.send(new Uint8Array(8 * mib)))).code).toBe("unreachable");
        expect((await failureOf(server.drained())).code).toBe("unreachable");
        expect(server.write(new Uint8Array(1))).toBe(false);
      });
    });
  });
}

test("after our end the peer still answers", async () => {
  await withPair(loopback, async ({ client, server }) => {
    const asked = new Recorder();
    const answered = new Recorder();
    client.setReader(answered);
    client.write(new Uint8Array([1, 2, 3]));
    client.end();
    expect(client.write(new Uint8Array([4]))).toBe(false);
    server.setReader(asked);
    while (!asked.events.includes("end")) await turn();
    expect(asked.sizeBytes).toBe(3);
    const sent = server.send(new Uint8Array(4 * mib).fill(9));
    server.end();
    await sent;
    await Promise.all([answered.done, asked.done]);
    expect(answered.sizeBytes).toBe(4 * mib);
    expect(answered.error).toBeUndefined();
    expect(client.isClosed && server.isClosed).toBe(true);
  });
});

test("close drops the queue, fails waiting sends and tells closed exactly once", async () => {
  await withPair(loopback, async ({ client, server }) => {
    const recorder = new Recorder();
    client.setReader(recorder);
    const sending = failureOf(client.send(new Uint8Array(64 * mib)));
    const draining = failureOf(client.drained());
    client.close();
    expect(recorder.events).toEqual([]);
    client.close();
    expect((await sending).code).toBe("unreachable");
    expect((await draining).where.peer).toBe(client.peer);
    await recorder.done;
    await turn();
    expect(recorder.events).toEqual(["closed"]);
    expect((await failureOf(client.send(new Uint8Array(1)))).code).toBe("unreachable");
    expect(server.peer).toStartWith("127.0.0.1:");
  });
});

test("drained resolves when the socket took all", async () => {
  await withPair(loopback, async ({ client, server }) => {
    await client.drained();
    expect(client.write(new Uint8Array(32 * mib))).toBe(false);
    server.setReader(new Recorder());
    await client.drained();
    expect(client.write(new Uint8Array(10))).toBe(true);
  });
});

test("a reader that throws loses its connection and nothing else", async () => {
  await withPair(loopback, async ({ client, server }) => {
    const told = console.error;
    const lines: unknown[] = [];
    console.error = (...words: unknown[]) => lines.push(words.join(" "));
    try {
      const recorder = new Recorder();
      client.setReader(recorder);
      server.setReader({
        data: () => {
          throw new Error("bad reader");
        },
        end: () => undefined,
        closed: () => undefined,
      });
      client.write(new Uint8Array(1));
      while (!recorder.events.includes("end") && !recorder.events.includes("closed")) await turn();
      expect(server.isClosed).toBe(true);
      expect(lines.join()).toContain("bad reader");
    } finally {
      console.error = told;
    }
  });
});

test("a port in use is told with its address", async () => {
  const listener = await net.listen(loopback, (connection) => connection.close());
  const error = await failureOf(net.listen(listener.address, () => undefined));
  expect(error.code).toBe("port-in-use");
  if (listener.address.kind === "tcp") expect(error.message).toContain(`127.0.0.1:${listener.address.port}`);
  await listener.close();
  await listener.close();
  await (await net.listen(listener.address, () => undefined)).close();
});

test("a refused connection and an unknown host are unreachable with the reason", async () => {
  const listener = await net.listen(loopback, () => undefined);
  await listener.close();
  const refused = await failureOf(net.connect(listener.address, { timeoutMs: 5000 }));
  expect(refused.code).toBe("unreachable");
  expect(refused.message).toContain("ECONNREFUSED");
  const unknown = await failureOf(net.connect({ kind: "tcp", host: "host.invalid", port: 1 }, { timeoutMs: 5000 }));
  expect(unknown.code).toBe("unreachable");
});

test("a peer that does not answer is given up after the timeout", async () => {
  await withTemporaryDirectory(async (directory) => {
    // A listener whose backlog is full neither accepts nor refuses.
    const script = join(directory, "full.py");
    writeFileSync(
      script,
      "import socket,sys,time\ns=socket.socket()\ns.bind(('127.0.0.1',0))\ns.listen(0)\n" +
        "p=s.getsockname()[1]\nc=[]\nfor i in range(4):\n k=socket.socket()\n k.setblocking(False)\n" +
        " k.connect_ex(('127.0.0.1',p))\n c.append(k)\ntime.sleep(0.2)\nprint(p,flush=True)\ntime.sleep(60)\n",
    );
    const child = Bun.spawn(["python3", script], { stdout: "pipe" });
    try {
      const { value } = await child.stdout.getReader().read();
      const port = Number(new TextDecoder().decode(value));
      const error = await failureOf(net.connect({ kind: "tcp", host: "127.0.0.1", port }, { timeoutMs: 200 }));
      expect(error.code).toBe("unreachable");
      expect(error.message).toContain("200 ms");
    } finally {
      child.kill("SIGKILL");
      await child.exited;
    }
  });
});

test("a stale unix socket is replaced, a live one and other files are not", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "s");
    const address: Address = { kind: "unix", path };
    const stale = Bun.spawnSync(["python3", "-c", `import socket; socket.socket(1).bind(${JSON.stringify(path)})`]);
    expect([stale.exitCode, existsSync(path)]).toEqual([0, true]);
    const listener = await net.listen(address, (connection) => connection.close());
    expect((await failureOf(net.listen(address, () => undefined))).code).toBe("port-in-use");
    await listener.close();
    expect(existsSync(path)).toBe(false);
    writeFileSync(path, "mine");
    expect((await failureOf(net.listen(address, () => undefined))).code).toBe("already-exists");
  });
});
