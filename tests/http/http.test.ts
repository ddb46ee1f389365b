import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Control } from "../../src/control/control.ts";
import type { JobInfo } from "../../src/control/job.ts";
import { silentLogger } from "../../src/control/logger.ts";
import type { HttpService } from "../../src/control/role.ts";
import type { WalbError } from "../../src/errors.ts";
import { createApp } from "../../src/http/app.ts";
import { Client } from "../../src/http/client.ts";
import { Exchange, leastMissed } from "../../src/http/exchange.ts";
import { createHttpFactory } from "../../src/http/server.ts";
import { type Address, addressText, type Listener } from "../../src/platform/net.ts";
import { createNet } from "../../src/platform/real/net.ts";
import { createTestControl, testCommands } from "../control/fixtures.ts";
import { failureOf } from "../helpers/errors.ts";

const net = createNet();
let control: Control;
let service: HttpService;
let listener: Listener;
let address: string;
let client: Client<typeof testCommands>;

beforeAll(async () => {
  control = createTestControl();
  service = createHttpFactory(net)(control, silentLogger);
  // What the wire server does: read some, decide, hand over.
  listener = await net.listen({ kind: "tcp", host: "127.0.0.1", port: 0 } satisfies Address, (connection) => {
    connection.setReader({
      data: (chunk) => service.accept(connection, chunk),
      end() {},
      closed() {},
    });
  });
  address = addressText(listener.address);
  client = new Client({ name: "a0", address }, testCommands);
});

afterAll(async () => {
  await control.close();
  await service.close();
  await listener.close();
});

function post(command: string, body: string, headers: Record<string, string> = {}): Promise<Response> {
  const all = { "content-type": "application/json", ...headers };
  return fetch(`http://${address}/api/${command}`, { method: "POST", body, headers: all });
}

describe("HTTP API over a real port", () => {
  test("an answer that takes longer than the ten seconds of Bun's server comes all the same", async () => {
    expect(await client.call("wait", { delayMs: 13_000 })).toEqual({});
  }, 300_000);

  test("a command answers its result, gids as bigint", async () => {
    expect(await client.call("echo", { volume: "v", gid: 2n ** 53n - 3n })).toEqual({ gid: 2n ** 53n - 2n });
  });

  test("an error comes with its HTTP status and whole on the client's side", async () => {
    const response = await post("fail", '{"volume":"vol0"}');
    expect(response.status).toBe(409);
    expect(await response.json()).toEqual({
      error: {
        code: "state",
        what: "cannot fail in state Clear",
        where: { host: "a0", volume: "vol0" },
        hint: "init it first",
      },
    });
    const error = await failureOf(client.call("fail", { volume: "vol0" }));
    expect([error.code, error.where.volume, error.hint]).toEqual(["state", "vol0", "init it first"]);
  });

  test("each kind of wrong request has its own answer", async () => {
    expect((await post("echo", "{")).status).toBe(400);
    expect((await post("echo", '{"volume":"v"}')).status).toBe(400);
    expect((await post("echo", '{"volume":"v","gid":1,"x":2}')).status).toBe(400);
    expect((await post("nope", "{}")).status).toBe(404);
    expect((await fetch(`http://${address}/nope`)).status).toBe(404);
    expect((await fetch(`http://${address}/api/jobs/nope`)).status).toBe(404);
    expect((await post("echo", JSON.stringify({ volume: "v".repeat(2_000_000) }))).status).toBe(400);
  });

  test("a page in a browser cannot use the daemon: by a rebound name, across origins, with a plain form", async () => {
    const body = '{"volume":"v","gid":1}';
    expect((await post("echo", body, { host: "evil.example.com" })).status).toBe(400);
    expect((await post("echo", body, { origin: "http://evil.example.com" })).status).toBe(400);
    expect((await post("echo", body, { origin: "null" })).status).toBe(400);
    expect((await post("echo", body, { "content-type": "text/plain" })).status).toBe(400);
    expect((await post("echo", body, { origin: `http://${address}` })).status).toBe(200);
    expect((await post("echo", body, { host: "localhost:10200" })).status).toBe(200);
    expect((await post("echo", body, { host: "[::1]:10200" })).status).toBe(200);
  });

  test("health, metrics and status answer", async () => {
    expect(await (await fetch(`http://${address}/health`)).json()).toEqual({ ok: { role: "archive", nodeId: "a0" } });
    const metrics = await fetch(`http://${address}/metrics`);
    expect(metrics.headers.get("content-type")).toStartWith("text/plain");
    expect(await metrics.text()).toContain('walb_info{role="archive",node="a0",version="');
    const status = (await (await fetch(`http://${address}/api/status`)).json()) as { ok: Record<string, unknown> };
    expect(Object.keys(status.ok)).toEqual(["server", "status", "jobs"]);
  });

  test("several requests go through one connection, and large answers arrive whole", async () => {
    const text = await rawRequests([
      `GET /health HTTP/1.1\r\nhost: ${address}\r\n\r\n`,
      `GET /health HTTP/1.1\r\nhost: ${address}\r\nconnection: close\r\n\r\n`,
    ]);
    expect(text.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
    const sizeBytes = 24 * 1024 * 1024;
    const { text: large } = await client.call("large", { sizeBytes });
    expect(large === "walb".repeat(sizeBytes / 4)).toBe(true);
  });

  test("a job is followed to its end with progress", async () => {
    const seen: JobInfo[] = [];
    const result = await client.run("work", { volume: "v", steps: 25 }, { onProgress: (job) => seen.push(job) });
    expect(result).toEqual({ gid: 2n ** 53n - 1n });
    expect(seen[0]?.state).toBe("running");
    expect(seen.at(-1)?.state).toBe("done");
    expect(seen.some((job) => job.state === "running" && job.progress.totalBytes === 25_000)).toBe(true);
  });

  test("a job that fails throws its error at the follower", async () => {
    const error = await failureOf(client.run("work", { volume: "v", steps: 5, failAt: 2 }));
    expect([error.code, error.where.volume, error.where.host]).toEqual(["damaged", "v", "a0"]);
  });

  test("a job that is gone because the daemon was restarted is said to be lost", async () => {
    const progress = { doneBytes: 0, rateBytesPerS: 0, step: "working" };
    const job = { id: "gone-1", command: "work", volume: "v", state: "running" as const, startedMs: 0, progress };
    const error = await failureOf(client.follow("work", job));
    expect([error.code, error.what]).toEqual(["not-found", "the work was lost: the daemon was restarted while it ran"]);
    expect([error.where.host, error.where.volume]).toEqual(["a0", "v"]);
    expect(error.hint).toContain("repeat the command");
  });

  test("a job goes on when its follower's time is over, and can be cancelled later", async () => {
    const error = await failureOf(client.run("work", { volume: "v", steps: 100_000 }, { timeoutMs: 100 }));
    expect(error.code).toBe("timed-out");
    const job = (await client.jobs()).find((candidate) => candidate.state === "running");
    expect(job?.command).toBe("work");
    expect((await client.cancel(job!.id)).state).toBe("cancelled");
  });

  test("a follower that is interrupted says so", async () => {
    const abort = new AbortController();
    const work = failureOf(client.run("work", { volume: "v", steps: 100_000 }, { signal: abort.signal }));
    await Bun.sleep(50);
    abort.abort();
    expect((await work).code).toBe("cancelled");
    for (const job of await client.jobs()) if (job.state === "running") await client.cancel(job.id);
  });

  test("a server that is not there is unreachable, one that never answers times out", async () => {
    const silent = await net.listen({ kind: "tcp", host: "127.0.0.1", port: 0 }, () => undefined);
    const silentAddress = addressText(silent.address);
    const call = (at: string, timeoutMs: number): Promise<WalbError> =>
      failureOf(new Client({ name: "x", address: at }, testCommands).call("status", {}, { timeoutMs }));
    expect((await call(silentAddress, 200)).code).toBe("timed-out");
    await silent.close();
    const error = await call("127.0.0.1:1", 5000);
    expect(error.code).toBe("unreachable");
    expect(error.message).toContain("127.0.0.1:1");
    expect(error.hint).toContain("running");
  });

  test("something else than walb on the port is told apart", async () => {
    const other = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("<html>hello") });
    const wrong = new Client({ name: "x", address: `127.0.0.1:${other.port}` }, testCommands);
    expect((await failureOf(wrong.call("status", {}))).code).toBe("protocol");
    await other.stop(true);
  });
});

test("every POST of the documentation is one that a daemon takes", () => {
  const directory = join(import.meta.dir, "../../docs/operations");
  const posts = readdirSync(directory).flatMap((name) =>
    readFileSync(join(directory, name), "utf8")
      .split("\n")
      .filter((line) => /curl .*(?:-d|--data)\b/.test(line)),
  );
  expect(posts.length).toBeGreaterThan(0);
  for (const line of posts) expect(line).toContain("-H 'content-type: application/json'");
});

test("when there are too many connections, one goes that hardly comes to an end or has had its answer, never one that waits", () => {
  const request = Buffer.from("POST /api/x HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}");
  const made = (nowMs: number, bytes: Uint8Array, answeredMs?: number) => {
    const exchange = new Exchange(nowMs);
    exchange.asked(bytes, nowMs);
    if (answeredMs !== undefined) exchange.answered(answeredMs);
    return { exchange };
  };
  const slow = made(0, request.subarray(0, -1));
  const waiting = made(0, request);
  const answered = made(10, request, 500);
  const later = made(10, request, 600);
  const asking = made(900, request.subarray(0, 20));
  expect([slow, waiting, asking].map(({ exchange }) => exchange.state)).toEqual(["asking", "working", "asking"]);
  expect(leastMissed([waiting, later, answered, slow, asking], 1000)).toBe(slow);
  // One that has just come is not taken for one that will not.
  expect(leastMissed([waiting, later, answered, asking], 1000)).toBe(answered);
  expect(leastMissed([waiting, asking], 1000)).toBe(asking);
  expect(leastMissed([waiting], 1000)).toBeUndefined();
});

describe("clients that hold a connection", () => {
  interface Holders {
    readonly openCount: () => number;
    /** Of those that are open, how many have had no answer. */
    readonly unansweredCount: () => number;
    readonly close: () => void;
  }

  /** Opens connections that begin a request, or ask one and stay. */
  async function holders(count: number, text: string): Promise<Holders> {
    const { hostname, port } = new URL(`http://${address}`);
    let openCount = 0;
    const unanswered = new Set<unknown>();
    const sockets = await Promise.all(
      Array.from({ length: count }, () => {
        openCount += 1;
        const close = (socket: Bun.Socket): void => {
          openCount -= 1;
          unanswered.delete(socket);
        };
        const open = (socket: Bun.Socket): void => {
          unanswered.add(socket);
          socket.write(text);
        };
        const data = (socket: Bun.Socket): void => void unanswered.delete(socket);
        return Bun.connect({
          hostname,
          port: Number(port),
          socket: { open, data, close, error() {} },
        });
      }),
    );
    return {
      openCount: () => openCount,
      unansweredCount: () => unanswered.size,
      close: () => sockets.forEach((socket) => void socket.end()),
    };
  }
  const head = "POST /api/echo HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";

  test("by requests that never come to an end keep no others out, and none that waits for its answer is cut", async () => {
    const waiting = client.call("wait", { delayMs: 2_000 });
    await Bun.sleep(100);
    // What was asked before this is with the service.
    await client.call("echo", { volume: "v", gid: 1n });
    const health = "GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    for (const text of ["GET /api/sta", head, `${head}content-length: 5000\r\n\r\n{`, health]) {
      const held = await holders(400, text);
      await Bun.sleep(50);
      // As long as they wait for their answers they are what the others wait for, too.
      while (text === health && held.unansweredCount() > 0) await Bun.sleep(10);
      expect(await client.call("echo", { volume: "v", gid: 1n })).toEqual({ gid: 2n });
      held.close();
    }
    expect(await waiting).toEqual({});
  }, 120_000);

  test("are cut when a request has not come completely in time, one byte now and then notwithstanding", async () => {
    const held = await holders(5, `${head}content-length: 5000\r\n\r\n{`);
    const { hostname, port } = new URL(`http://${address}`);
    const closed = Promise.withResolvers<void>();
    const slow = await Bun.connect({
      hostname,
      port: Number(port),
      socket: { open: (socket) => void socket.write("GET /"), data() {}, close: () => closed.resolve(), error() {} },
    });
    const trickle = setInterval(() => slow.write("a"), 500);
    await closed.promise;
    clearInterval(trickle);
    while (held.openCount() > 0) await Bun.sleep(100);
  }, 120_000);
});

test("closing finishes the answers under way and cuts idle connections", async () => {
  const own = createTestControl(() => closing.resolve());
  const closing = Promise.withResolvers<void>();
  const ownService = createHttpFactory(net)(own, silentLogger);
  const port = await net.listen({ kind: "tcp", host: "127.0.0.1", port: 0 }, (connection) => {
    connection.setReader({ data: (chunk) => ownService.accept(connection, chunk), end() {}, closed() {} });
  });
  const url = `http://${addressText(port.address)}`;
  const closed = closing.promise.then(() => ownService.close());
  await (await fetch(`${url}/health`)).text();
  const response = await fetch(`${url}/api/shutdown`, {
    method: "POST",
    body: "{}",
    headers: { "content-type": "application/json" },
  });
  expect(await response.json()).toEqual({ ok: {} });
  await closed;
  await port.close();
});

test("an answer of a role that is not what it declares is an internal error, not sent", async () => {
  const broken = createTestControl();
  const app = createApp(
    { ...broken, call: () => broken.call("echo", { volume: "v", gid: 2 ** 53 - 1 }) },
    silentLogger,
  );
  const response = await app.request("http://localhost/api/echo", {
    method: "POST",
    body: "{}",
    headers: { "content-type": "application/json", host: "localhost" },
  });
  expect(response.status).toBe(500);
});

test("a client that is gone before all of its request came is no error of the daemon", async () => {
  const errors: string[] = [];
  const app = createApp(createTestControl(), { ...silentLogger, error: (message) => void errors.push(message) });
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode("{"));
      controller.error(new Error("The connection was closed."));
    },
  });
  const headers = { "content-type": "application/json", "content-length": "10", host: "localhost" };
  const response = await app.request("http://localhost/api/echo", { method: "POST", body, headers });
  expect([response.status, errors]).toEqual([400, []]);
});

async function rawRequests(requests: readonly string[]): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_, chunk) {
        text += chunk.toString();
      },
      close() {
        resolve(text);
      },
    },
  });
  for (const request of requests) {
    socket.write(request);
    socket.flush();
  }
  return promise;
}
