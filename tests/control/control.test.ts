import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { archiveCommands } from "../../src/control/archive.ts";
import type { JobInfo } from "../../src/control/job.ts";
import { proxyCommands } from "../../src/control/proxy.ts";
import { ProgressMeter } from "../../src/control/rate.ts";
import { addressTextSchema, compressionSchema, gidSchema, toJson, volumeSchema } from "../../src/control/schemas.ts";
import { storageCommands } from "../../src/control/storage.ts";
import { failureOf } from "../helpers/errors.ts";
import { createTestControl } from "./fixtures.ts";

function ended(watch: (changed: (job: JobInfo) => void) => void): Promise<JobInfo> {
  return new Promise((resolve) => watch((job) => job.state !== "running" && resolve(job)));
}

describe("schemas", () => {
  test("a gid goes through JSON unchanged up to 2^53 - 1", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: BigInt(Number.MAX_SAFE_INTEGER) }), (gid) => {
        expect(gidSchema.parse(JSON.parse(toJson(gid)))).toBe(gid);
        expect(gidSchema.parse(gid)).toBe(gid);
      }),
    );
  });

  test("a gid beyond 2^53 - 1 is refused, never rounded", () => {
    expect(() => toJson({ gid: 2n ** 53n })).toThrow("9007199254740992");
    expect(gidSchema.safeParse(2 ** 53).success).toBe(false);
    expect(gidSchema.safeParse(2n ** 64n - 1n).success).toBe(false);
    expect(gidSchema.safeParse(1.5).success).toBe(false);
    expect(gidSchema.safeParse(-1).success).toBe(false);
    expect(gidSchema.safeParse("5").success).toBe(false);
  });

  test("a volume id cannot leave its directory", () => {
    for (const bad of ["", ".", "..", "a/b", "a b", "a\0", "é", "v".repeat(65), "vol0\n"]) {
      expect(volumeSchema.safeParse(bad).success).toBe(false);
    }
    for (const good of ["vol0", "0", "A-b-9", "v".repeat(64)]) expect(volumeSchema.safeParse(good).success).toBe(true);
  });

  test("addresses are host:port with a port that exists", () => {
    for (const good of ["127.0.0.1:1", "backup.example.com:10200", "[::1]:65535"]) {
      expect(addressTextSchema.safeParse(good).success).toBe(true);
    }
    for (const bad of ["host", ":1", "host:", "host:65536", "::1:5", "a b:1", "host:1:2"]) {
      expect(addressTextSchema.safeParse(bad).success).toBe(false);
    }
  });

  test("compressions are those of the formats", () => {
    for (const good of ["none", "zstd:3", "snappy:0:1", "lzma:9:4"]) {
      expect(compressionSchema.safeParse(good).success).toBe(true);
    }
    for (const bad of ["", "zip", "zstd:", "zstd:-1", "zstd:3:1:1"]) {
      expect(compressionSchema.safeParse(bad).success).toBe(false);
    }
  });

  test("a restore takes a gid or a time, not both, and an absolute path", () => {
    const { params } = archiveCommands.restore;
    expect(params.safeParse({ volume: "v", gid: 1, to: "/x" }).success).toBe(true);
    expect(params.safeParse({ volume: "v", atMs: 1, to: "/x" }).success).toBe(true);
    expect(params.safeParse({ volume: "v", gid: 1, atMs: 1, to: "/x" }).success).toBe(false);
    expect(params.safeParse({ volume: "v", to: "x" }).success).toBe(false);
  });

  test("every command of every role refuses parameters that it does not know", () => {
    for (const commands of [storageCommands, proxyCommands, archiveCommands]) {
      for (const command of Object.values(commands)) {
        const parsed = command.params.safeParse({ volume: "v", surprise: 1 });
        expect(parsed.success).toBe(false);
        expect(JSON.stringify(parsed.error?.issues)).toContain("unrecognized_keys");
      }
    }
  });
});

describe("control", () => {
  test("a command gets checked parameters and gives its result", async () => {
    const control = createTestControl();
    expect(await control.call("echo", { volume: "v", gid: 41 })).toEqual({ kind: "result", result: { gid: 42n } });
  });

  test("a wrong parameter is named", async () => {
    const error = await failureOf(createTestControl().call("echo", { volume: "v", gid: -1 }));
    expect(error.code).toBe("bad-parameter");
    expect(error.where.field).toBe("gid");
  });

  test("an unknown command is not found, also when it is the name of something every object has", async () => {
    for (const name of ["nope", "constructor", "toString", "__proto__"]) {
      const error = await failureOf(createTestControl().call(name, {}));
      expect(error.code).toBe("not-found");
      expect(error.hint).toContain("echo");
    }
  });

  test("an error tells the host and the volume", async () => {
    const error = await failureOf(createTestControl().call("fail", { volume: "vol0" }));
    expect(error.code).toBe("state");
    expect(error.where).toEqual({ host: "a0", volume: "vol0" });
    expect(error.hint).toBe("init it first");
  });

  test("version answers for the daemon, shutdown tells the process how", async () => {
    const modes: string[] = [];
    const control = createTestControl((mode) => modes.push(mode));
    const outcome = await control.call("version", {});
    expect(outcome).toMatchObject({ kind: "result", result: { role: "archive", nodeId: "a0", security: "loopback" } });
    await control.call("shutdown", {});
    await control.call("shutdown", { mode: "force" });
    expect(modes).toEqual(["graceful", "force"]);
  });

  test("a job answers at once, reports progress, and keeps its result", async () => {
    const control = createTestControl();
    const outcome = await control.call("work", { volume: "v", steps: 20 });
    if (outcome.kind !== "job") throw new Error("no job");
    expect(outcome.job).toMatchObject({ state: "running", command: "work", volume: "v" });
    const seen: JobInfo[] = [];
    const end = await ended((changed) =>
      control.watchJob(outcome.job.id, (job) => {
        seen.push(job);
        changed(job);
      }),
    );
    expect(end.state).toBe("done");
    expect(end.result).toEqual({ gid: 9_007_199_254_740_991n });
    expect(end.progress).toMatchObject({ doneBytes: 20_000, totalBytes: 20_000, step: "working" });
    expect(seen.some((job) => job.state === "running" && job.progress.doneBytes > 0)).toBe(true);
    expect(control.job(outcome.job.id).state).toBe("done");
    expect(control.listJobs()).toHaveLength(1);
  });

  test("a watcher of a job that has ended hears its end", async () => {
    const control = createTestControl();
    const outcome = await control.call("work", { volume: "v", steps: 0 });
    if (outcome.kind !== "job") throw new Error("no job");
    await control.cancelJob(outcome.job.id);
    expect((await ended((changed) => control.watchJob(outcome.job.id, changed))).state).toBe("done");
  });

  test("a job that fails keeps its error with the volume", async () => {
    const control = createTestControl();
    const outcome = await control.call("work", { volume: "v", steps: 5, failAt: 1 });
    if (outcome.kind !== "job") throw new Error("no job");
    const end = await ended((changed) => control.watchJob(outcome.job.id, changed));
    expect(end).toMatchObject({ state: "failed", error: { code: "damaged", where: { volume: "v" } } });
  });

  test("a cancelled job ends as cancelled, and closing cancels the rest and refuses new work", async () => {
    const control = createTestControl();
    const start = async (): Promise<string> => {
      const outcome = await control.call("work", { volume: "v", steps: 100_000 });
      if (outcome.kind !== "job") throw new Error("no job");
      return outcome.job.id;
    };
    const first = await start();
    const second = await start();
    expect(await control.cancelJob(first)).toMatchObject({ state: "cancelled", error: { code: "cancelled" } });
    expect(control.job(second).state).toBe("running");
    await control.close();
    expect(control.job(second).state).toBe("cancelled");
    expect((await failureOf(control.call("echo", { volume: "v", gid: 1 }))).code).toBe("busy");
  });

  test("too many jobs at once are refused", async () => {
    const control = createTestControl();
    for (let count = 0; count < 64; count += 1) await control.call("work", { volume: "v", steps: 100_000 });
    expect((await failureOf(control.call("work", { volume: "v", steps: 1 }))).code).toBe("busy");
    await control.close();
  });
});

describe("rate", () => {
  test("a steady rate is measured exactly and gives the time left", () => {
    const meter = new ProgressMeter(0);
    for (let second = 1; second <= 20; second += 1) {
      meter.report({ doneBytes: second * 5_000_000, totalBytes: 200_000_000 }, second * 1000);
    }
    expect(meter.progress(20_000)).toEqual({
      doneBytes: 100_000_000,
      totalBytes: 200_000_000,
      rateBytesPerS: 5_000_000,
      etaS: 20,
      step: "",
    });
  });

  test("work that stands still becomes slower by the second, and its end moves away", () => {
    const meter = new ProgressMeter(0);
    for (let second = 1; second <= 20; second += 1) {
      meter.report({ doneBytes: second * 5_000_000, totalBytes: 200_000_000 }, second * 1000);
    }
    const later = [0, 5, 20, 120].map((seconds) => meter.progress((20 + seconds) * 1000));
    const rates = later.map(({ rateBytesPerS }) => rateBytesPerS);
    expect(rates).toEqual(rates.toSorted((a, b) => b - a));
    expect(rates.at(-1)).toBeLessThan(5_000_000 / 1000);
    expect(later.at(-1)!.etaS).toBeGreaterThan(3600);
  });

  test("the rate is finite and not negative whatever is reported", () => {
    const reports = fc.array(
      fc.record({
        doneBytes: fc.nat(),
        elapsedMs: fc.nat(5000),
        step: fc.option(fc.constantFrom("a", "b"), { nil: undefined }),
      }),
    );
    fc.assert(
      fc.property(reports, (all) => {
        let nowMs = 0;
        const meter = new ProgressMeter(nowMs);
        for (const { doneBytes, elapsedMs, step } of all) {
          nowMs += elapsedMs;
          meter.report({ doneBytes, totalBytes: 1_000_000, ...(step === undefined ? {} : { step }) }, nowMs);
          const { rateBytesPerS, etaS } = meter.progress(nowMs);
          expect(rateBytesPerS).toBeGreaterThanOrEqual(0);
          expect(Number.isFinite(rateBytesPerS)).toBe(true);
          expect(etaS === undefined || Number.isFinite(etaS)).toBe(true);
        }
      }),
    );
  });
});
