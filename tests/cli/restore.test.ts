import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { choosePoint, oldestToKeep } from "../../src/cli/restore/point.ts";
import type { Io } from "../../src/cli/verb.ts";
import { type ArchiveCommands, archiveCommands } from "../../src/control/archive.ts";
import type { RestorablePoint } from "../../src/control/archive-schemas.ts";
import type { Handlers } from "../../src/control/command.ts";
import { createControl } from "../../src/control/control.ts";
import { silentLogger } from "../../src/control/logger.ts";
import { WalbError } from "../../src/errors.ts";
import { createHttpFactory } from "../../src/http/server.ts";
import { Codec } from "../../src/native/codec.ts";
import { addressText } from "../../src/platform/net.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { lbBytes, mib } from "../../src/units.ts";
import { readParameters } from "../../src/wire/commands.ts";
import { type BulkToScan, serveVirtualScan } from "../../src/wire/scan.ts";
import { serveWire, type WireServer } from "../../src/wire/server.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { testClock, testRandom } from "../control/fixtures.ts";
import { runIn } from "./fleet-fixture.ts";

const minuteMs = 60_000;
const firstMs = Date.UTC(2026, 0, 1);
const nowMs = firstMs + 60 * minuteMs;
const point = (gid: number, sizeLb = 2048): RestorablePoint => ({
  gid: BigInt(gid),
  timeMs: firstMs + gid * minuteMs,
  isExplicit: false,
  isProtected: false,
  bytesToRestore: 0,
  sizeLb,
});

describe("the point that is meant", () => {
  const points = [point(1), point(3), point(7)];
  const chosen = (wish: Parameters<typeof choosePoint>[2]): number =>
    Number(choosePoint("vol0", points, wish, nowMs).gid);

  test("is the newest, the newest not after a time, or the one of a gid", () => {
    expect(chosen({})).toBe(7);
    expect(chosen({ atMs: firstMs + 3 * minuteMs })).toBe(3);
    expect(chosen({ atMs: firstMs + 7 * minuteMs - 1 })).toBe(3);
    expect(chosen({ gid: 1n })).toBe(1);
  });

  test("does not exist before the first point, between gids, or when there is none", () => {
    const refused = (work: () => unknown): string => {
      try {
        work();
      } catch (error) {
        if (error instanceof WalbError && error.code === "not-restorable") return `${error.what}; ${error.hint}`;
      }
      return "not refused";
    };
    expect(refused(() => chosen({ atMs: firstMs }))).toContain("there is no point before");
    expect(refused(() => chosen({ gid: 2n }))).toContain("2 is not a restorable point; the points are from");
    expect(refused(() => choosePoint("vol0", [], {}, nowMs))).toContain("walb status vol0");
  });
});

describe("points of a clock that was set back", () => {
  /** Gid 3 and 4 were written at the 20th minute. */
  const points = [
    point(1),
    point(19),
    { ...point(20), timeMs: firstMs },
    { ...point(21), timeMs: firstMs + 1 },
    point(22),
  ];

  test("are not taken for those of the time they say", () => {
    const wish = { atMs: firstMs + 5 * minuteMs };
    expect(() => choosePoint("vol0", points, wish, nowMs)).toThrow(expect.objectContaining({ code: "not-restorable" }));
    expect(() => choosePoint("vol0", points, wish, nowMs)).toThrow(/was twice: it stands for gid 1 .* and for gid 21 /);
    expect(choosePoint("vol0", points, { atMs: nowMs }, nowMs).gid).toBe(22n);
  });

  test("do not take along what is newer when old points are given up", () => {
    const kept = (minutes: number) => oldestToKeep("vol0", points, firstMs + minutes * minuteMs, nowMs).gid;
    expect([5, 18, 19, 22].map(kept)).toEqual([1n, 1n, 19n, 22n]);
  });
});

describe("restoring to standard output", () => {
  /** 5 MiB and a half: data, zeroes, data that does not compress, a short end. */
  const image = Buffer.alloc(5.5 * mib);
  image.fill("walb ", 0, mib);
  crypto.getRandomValues(image.subarray(2 * mib, 2 * mib + 65_536));
  image.fill(7, 5 * mib);
  const asked: string[][] = [];
  let fault: "none" | "garbage" | "cut" | "refuse" = "none";
  let platform: Platform;
  let server: WireServer;
  let address: string;

  async function* bulks(bulkLb: number): AsyncGenerator<BulkToScan> {
    for (let at = 0; at < image.length; at += bulkLb * lbBytes) {
      const bytes = image.subarray(at, at + bulkLb * lbBytes);
      const [source, target] = [await platform.memory.lease(bytes.length), await platform.memory.lease(2 * mib)];
      source.bytes.set(bytes);
      const item = { source: source.slice(0, bytes.length), target };
      const [encoded] = await platform.compute.encodeAlways([item], { codec: Codec.snappy, level: 0 });
      source.release();
      if (fault === "cut" && at > 2 * mib) throw new WalbError("io", { what: "the disk is gone" });
      if (fault === "garbage" && at > 0) target.bytes.fill(0xff, 0, 100);
      const data = encoded!.isZero && fault !== "garbage" ? undefined : target.slice(0, encoded!.storedBytes || 100);
      yield { data, release: () => target.release() };
    }
  }

  async function scan(stream: WireStream): Promise<void> {
    const parameters = await readParameters(stream);
    asked.push(parameters);
    if (fault === "refuse") throw new WalbError("state", { what: "the volume is being resized" });
    const bulkLb = Number(parameters[2]) / lbBytes;
    await serveVirtualScan(stream, Number(parameters[3]) / lbBytes, bulkLb, () => bulks(bulkLb));
  }

  beforeAll(async () => {
    platform = createPlatform();
    const points = { snapshots: [point(1, 8), point(5, image.length / lbBytes)] };
    const handlers = { snapshots: async () => points } as unknown as Handlers<ArchiveCommands>;
    const [clock, random, log] = [testClock, testRandom, silentLogger];
    const role = { role: "archive", nodeId: "a0", security: "loopback" } as const;
    const control = createControl({ ...role, commands: archiveCommands, handlers, clock, random, log });
    const http = createHttpFactory(platform.net)(control, log);
    server = await serveWire(
      platform.net,
      { kind: "tcp", host: "127.0.0.1", port: 0 },
      {
        nodeId: "a0",
        clock: platform.clock,
        handlers: new Map([["virt-full-scan", scan]]),
        http: (connection, firstBytes) => http.accept(connection, firstBytes),
      },
    );
    address = addressText(server.address);
  });
  afterAll(async () => {
    await server.shutdown(0);
    await closePlatform(platform);
  });

  async function restore(words: readonly string[] = [], io: Partial<Io> = {}) {
    const parts: Uint8Array[] = [];
    const outData = async (bytes: Uint8Array): Promise<void> => {
      parts.push(bytes.slice());
      await Bun.sleep(1);
    };
    const line = ["restore", "vol0", "--to", "-", "--server", address, ...words];
    const result = await runIn("/", line, { outData, ...io });
    return { ...result, data: Buffer.concat(parts) };
  }

  test("gives every byte of the newest point, in order, and says so on stderr", async () => {
    fault = "none";
    const { code, out, err, data } = await restore();
    expect([code, out, err]).toEqual([0, "", expect.stringContaining("(snapshot 5, 5.50M) to standard output in")]);
    expect(data.length).toBe(image.length);
    expect(data.equals(image)).toBe(true);
    expect(asked.at(-1)).toEqual(["vol0", "5", String(mib), String(image.length)]);
  });

  test("a dry run reads nothing", async () => {
    const count = asked.length;
    const { code, out } = await restore(["--dry-run", "--snapshot", "1"]);
    expect([code, out]).toEqual([0, expect.stringMatching(/^would restore vol0 as of .* \(snapshot 1, 4\.00K\)/)]);
    expect(out).toContain("data is read and checked only when restoring");
    const json = await restore(["--dry-run", "--json", "--at", "9000-01-01"]);
    expect(JSON.parse(json.out)).toMatchObject({ gid: 5, isVerified: false });
    expect(json.err).toContain("is in the future: taken is the newest point");
    expect(asked.length).toBe(count);
  });

  test("is refused where it makes no sense", async () => {
    expect((await restore([], { isOutTerminal: true })).code).toBe(2);
    expect((await restore(["--json"])).code).toBe(2);
    expect((await restore(["--overwrite"])).code).toBe(2);
    expect((await restore(["--snapshot", "9"])).code).toBe(6);
  });

  test("fails when the archive refuses, breaks off or sends garbage, and never says it is done", async () => {
    for (const [kind, text] of [
      ["refuse", "the volume is being resized"],
      ["garbage", "data that cannot be expanded"],
      ["cut", "walb"],
    ] as const) {
      fault = kind;
      const { code, err, data } = await restore();
      expect([kind, code === 0]).toEqual([kind, false]);
      expect(err).toContain(text);
      expect(err).not.toContain("restored");
      expect(image.subarray(0, data.length).equals(data)).toBe(true);
    }
    fault = "none";
  });

  test("fails when its reader goes away, and stops when it is interrupted or the time is over", async () => {
    const gone = await restore([], {
      outData: async () => {
        throw new WalbError("io", { what: "the reader of the output went away" });
      },
    });
    expect([gone.code, gone.err]).toEqual([1, expect.stringContaining("the reader of the output went away")]);
    const abort = new AbortController();
    const slow = async (): Promise<void> => {
      abort.abort(new WalbError("cancelled", { what: "interrupted by SIGINT" }));
      await Bun.sleep(20);
    };
    expect((await restore([], { outData: slow, signal: abort.signal })).code).toBe(130);
    expect((await restore(["--timeout", "50ms"], { outData: () => Bun.sleep(200) })).code).toBe(8);
  });
});
