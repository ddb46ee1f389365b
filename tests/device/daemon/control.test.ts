import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ControlChannel } from "../../../src/device/user/control/channel.ts";
import { connectUserDevice, deviceControlClient } from "../../../src/device/user/control/client.ts";
import {
  type ControlHandlers,
  type ControlServer,
  openControlServer,
} from "../../../src/device/user/control/server.ts";
import { WalbError } from "../../../src/errors.ts";
import type { Connection } from "../../../src/platform/net.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";

const platform = createPlatform({ memoryBudgetBytes: 64 * 1024 * 1024, threads: 2 });
afterAll(() => closePlatform(platform));

const uuid = "00112233445566778899aabbccddeeff";
const info = {
  name: "vol0",
  sizeLb: 2048,
  pbsBytes: 512,
  uuid,
  salt: 1,
  ringSizePb: 1000,
  ringOffsetPb: 10,
  logPath: "/x.log",
  dataPath: "/x.data",
};
const lsids = { oldest: 1, prevWritten: 2, written: 3, permanent: 4, flush: 5, completed: 6, latest: 7 };
const report = {
  name: "vol0",
  state: "running" as const,
  sizeBytes: 1024 * 1024,
  overflow: "stop" as const,
  dataPath: "/x.data",
  logPath: "/x.log",
  connections: 0,
  watchers: 0,
  uris: [],
};

function known(name: string): void {
  if (name !== "vol0") throw new WalbError("not-found", { what: "there is no such volume", where: { volume: name } });
}

/** Handlers that know one volume; `calls` tells what came. */
function fakeHandlers(calls: string[]): ControlHandlers {
  return {
    ping: async () => ({ nodeId: "node0", volumes: 1 }),
    list: async () => ({ volumes: [report] }),
    show: async ({ name }) => {
      known(name);
      return report;
    },
    create: async (volume) => {
      calls.push(`create ${volume.name} ${volume.overflow}`);
      return { ...report, name: volume.name };
    },
    delete: async ({ name, force }) => {
      calls.push(`delete ${name} ${force}`);
      return {};
    },
    start: async () => report,
    stop: async () => ({ ...report, state: "stopped" as const }),
    resize: async ({ sizeBytes }) => ({ ...info, sizeLb: sizeBytes / 512 }),
    checkpoint: async () => {
      await Bun.sleep(50);
      calls.push("checkpoint");
      return {};
    },
    freeze: async ({ timeoutMs }) => {
      calls.push(`freeze ${timeoutMs}`);
      return {};
    },
    melt: async () => {
      throw new Error("an unforeseen defect");
    },
    resetLog: async () => info,
    info: async () => info,
    status: async () => ({ lsids, isOverflow: true, readOnlyReason: "the log failed", uuid }),
    checkpointInterval: async ({ intervalMs }) => ({ intervalMs: intervalMs ?? 10_000 }),
    setOldest: async ({ name, lsid }) => {
      throw new WalbError("state", {
        what: `lsid ${lsid} is not between oldest and prevWritten`,
        where: { volume: name },
        hint: "ask for the status",
      });
    },
  };
}

describe("the control socket", () => {
  let directory: string;
  let socketPath: string;
  let server: ControlServer;
  let calls: string[];
  const start = async (): Promise<void> => {
    const address = { kind: "unix", path: socketPath } as const;
    const { net, clock } = platform;
    server = await openControlServer({ net, clock, address, nodeId: "node0", handlers: fakeHandlers(calls) });
  };
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "walb-control-"));
    socketPath = join(directory, "control.sock");
    calls = [];
    await start();
  });
  afterEach(async () => {
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test("carries every verb with its parameters, defaults and results", async () => {
    const client = await deviceControlClient(platform, socketPath);
    expect(client.nodeId).toBe("node0");
    expect(await client.list()).toEqual([report]);
    expect(await client.show("vol0")).toEqual(report);
    expect((await client.create({ name: "vol1", sizeBytes: 4096 })).name).toBe("vol1");
    await client.delete("vol1", { force: true });
    await client.freeze("vol0", { timeoutMs: 500 });
    await client.freeze("vol0");
    expect((await client.resize("vol0", 8192)).sizeLb).toBe(16);
    expect(await client.resetLog("vol0")).toEqual(info);
    expect(calls).toEqual(["create vol1 keep-writing", "delete vol1 true", "freeze 500", "freeze undefined"]);
    await client.close();
  });

  test("carries errors with their code, place and hint", async () => {
    const client = await deviceControlClient(platform, socketPath);
    const error = await client.show("nobody").catch((e: unknown) => e);
    expect(error).toBeInstanceOf(WalbError);
    expect(error).toMatchObject({ code: "not-found", where: { volume: "nobody" } });
    expect(await client.create({ name: "a/b" }).catch((e: unknown) => e)).toMatchObject({
      code: "bad-parameter",
      where: { field: "name" },
    });
    expect(await client.resize("vol0", 1000).catch((e: unknown) => e)).toMatchObject({ code: "bad-parameter" });
    expect(await client.melt("vol0").catch((e: unknown) => e)).toMatchObject({ code: "internal" });
    const device = connectUserDevice(platform, socketPath, "vol0");
    expect(await device.setOldest(9).catch((e: unknown) => e)).toMatchObject({
      code: "state",
      hint: "ask for the status",
    });
    expect(await device.info()).toEqual(info);
    expect(await device.status()).toEqual({ lsids, isOverflow: true, readOnlyReason: "the log failed", uuid });
    await device.close();
    await client.close();
  });

  test("answers garbage with an error and goes on, but not an endless line", async () => {
    const lines: string[] = [];
    let isOver = false;
    const raw = await platform.net.connect({ kind: "unix", path: socketPath }, { timeoutMs: 1000 });
    let text = "";
    raw.setReader({
      data: (chunk) => {
        text += new TextDecoder().decode(chunk);
        const parts = text.split("\n");
        text = parts.pop()!;
        lines.push(...parts);
      },
      end: () => {
        isOver = true;
      },
      closed: () => {
        isOver = true;
      },
    });
    const say = (line: string): boolean => raw.write(new TextEncoder().encode(`${line}\n`));
    say("not json");
    say('{"id": 1}');
    say('{"id": 2, "op": "__proto__"}');
    say('{"id": 3, "op": "show", "params": {"name": "vol0", "surplus": 1}}');
    say('{"id": 4, "op": "ping"}');
    while (lines.length < 6) await Bun.sleep(2);
    const answers = lines.slice(1).map((line) => JSON.parse(line) as { id: number | null; error?: { code: string } });
    expect(answers.map((answer) => answer.error?.code).sort()).toEqual(
      ["bad-parameter", "protocol", "protocol", "unsupported", undefined].sort(),
    );
    expect(answers.find((answer) => answer.id === 4)!.error).toBeUndefined();
    for (let i = 0; i < 20; i++) raw.write(new Uint8Array(65536).fill(97));
    while (!isOver) await Bun.sleep(2);
    expect(JSON.parse(lines.at(-1)!)).toMatchObject({ id: null, error: { code: "protocol" } });
    raw.close();
  });

  test("a client that asks without reading the answers holds bounded memory, hinders nobody, and gets them all", async () => {
    const raw = await platform.net.connect({ kind: "unix", path: socketPath }, { timeoutMs: 1000 });
    raw.pause();
    const asked = 30_000;
    let received = 0;
    let tail = "";
    raw.setReader({
      data: (chunk) => {
        const text = tail + new TextDecoder().decode(chunk);
        const lines = text.split("\n");
        tail = lines.pop()!;
        received += lines.filter((line) => line.includes('"ok"')).length;
      },
      end: () => undefined,
      closed: () => undefined,
    });
    let stuckAt = 0;
    const line = (id: number): Uint8Array =>
      new TextEncoder().encode(`{"id":${id},"op":"show","params":{"name":"vol0"}}\n`);
    for (let id = 0; id < asked; id++) {
      if (!raw.write(line(id)) && stuckAt === 0) {
        // The server has stopped reading: what it was asked since is not in its memory.
        await Bun.sleep(100);
        stuckAt = id;
      }
    }
    expect(stuckAt).toBeGreaterThan(0);
    // Nor do events pile up for it.
    const other = await deviceControlClient(platform, socketPath);
    for (let i = 0; i < 20; i++) {
      server.changed("vol0");
      expect(await other.show("vol0")).toEqual(report);
    }
    await other.close();
    raw.resume();
    while (received < asked) await Bun.sleep(5);
    expect(received).toBe(asked);
    raw.close();
  }, 300_000);

  test("a client that ends its side behind a request still gets its answer; one that vanishes leaves nothing", async () => {
    let text = "";
    let isOver = false;
    const raw = await platform.net.connect({ kind: "unix", path: socketPath }, { timeoutMs: 1000 });
    raw.setReader({
      data: (chunk) => {
        text += new TextDecoder().decode(chunk);
      },
      end: () => {
        isOver = true;
      },
      closed: () => {
        isOver = true;
      },
    });
    raw.write(new TextEncoder().encode('{"id":1,"op":"checkpoint","params":{"name":"vol0"}}\n'));
    raw.end();
    while (!isOver) await Bun.sleep(5);
    expect(JSON.parse(text.split("\n")[1]!)).toMatchObject({ id: 1, ok: {} });
    const gone = await ControlChannel.open(platform, socketPath, { changed: () => undefined, closed: () => undefined });
    await gone.call("watch", { name: "vol0" });
    gone.close();
    while (server.watchersOf("vol0") > 0) await Bun.sleep(2);
  });

  test("finishes what runs before it stops, and fails what comes after with unreachable", async () => {
    const client = await deviceControlClient(platform, socketPath);
    const running = client.checkpoint("vol0");
    await Bun.sleep(10);
    await server.close();
    await running;
    expect(calls).toEqual(["checkpoint"]);
    await Bun.sleep(10);
    expect(await client.list().catch((e: unknown) => e)).toMatchObject({ code: "unreachable" });
    expect(await deviceControlClient(platform, socketPath).catch((e: unknown) => e)).toMatchObject({
      code: "unreachable",
      hint: expect.stringContaining("walb device"),
    });
  });

  test("gathers events: at once, then at most each 20 ms, and never forgets the last", async () => {
    const times: number[] = [];
    const channel = await ControlChannel.open(platform, socketPath, {
      changed: () => times.push(performance.now()),
      closed: () => undefined,
    });
    await channel.call("watch", { name: "vol0" });
    expect(server.watchersOf("vol0")).toBe(1);
    const end = performance.now() + 100;
    let last = 0;
    while (performance.now() < end) {
      server.changed("vol0");
      server.changed("other");
      last = performance.now();
      await Bun.sleep(1);
    }
    await Bun.sleep(60);
    expect(times.at(-1)!).toBeGreaterThanOrEqual(last);
    expect(times.length).toBeLessThanOrEqual(7);
    await channel.call("unwatch", { name: "vol0" });
    const count = times.length;
    server.changed("vol0");
    await Bun.sleep(30);
    expect(times.length).toBe(count);
    expect(await channel.call("watch", { name: "nobody" }).catch((e: unknown) => e)).toMatchObject({
      code: "not-found",
    });
    channel.close();
  });

  test("a device comes back by itself when its daemon does, and its watchers hear of both", async () => {
    const device = connectUserDevice(platform, socketPath, "vol0");
    let told = 0;
    const stop = device.watch(() => told++);
    await device.status();
    await server.close();
    while (!(await isUnreachable(device.status()))) await Bun.sleep(5);
    const before = told;
    await Bun.sleep(120);
    expect(await isUnreachable(device.info())).toBe(true);
    await start();
    while (await isUnreachable(device.status())) await Bun.sleep(5);
    while (server.watchersOf("vol0") === 0) await Bun.sleep(5);
    while (told === before) await Bun.sleep(5);
    const afterReturn = told;
    await Bun.sleep(60);
    const settled = told;
    server.changed("vol0");
    while (told === settled) await Bun.sleep(5);
    expect(afterReturn).toBeGreaterThan(before);
    stop();
    await device.close();
    expect(await device.info().catch((e: unknown) => e)).toMatchObject({ code: "state" });
  });

  test("a daemon of another version is refused by name", async () => {
    const path = join(directory, "other.sock");
    const connections: Connection[] = [];
    const listener = await platform.net.listen({ kind: "unix", path }, (connection) => {
      connections.push(connection);
      connection.write(new TextEncoder().encode('{"walbDevice": 99, "nodeId": "x"}\n'));
    });
    expect(await deviceControlClient(platform, path).catch((e: unknown) => e)).toMatchObject({ code: "protocol" });
    for (const connection of connections) connection.close();
    await listener.close();
  });
});

async function isUnreachable(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return false;
  } catch (error) {
    if (error instanceof WalbError && error.code === "unreachable") return true;
    throw error;
  }
}
