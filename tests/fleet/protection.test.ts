import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ArchiveVolume } from "../../src/control/archive-schemas.ts";
import type { ProxyVolume } from "../../src/control/proxy.ts";
import type { StorageVolume } from "../../src/control/storage.ts";
import { judgeProtection, measurePath, type Protection, type VolumePath } from "../../src/fleet/protection.ts";

const hourMs = 3_600_000;
const nowMs = 1_800_000_000_000;
const limits = { warningMs: 600_000, criticalMs: hourMs };
const common = { volume: "vol0", stopState: "not-stopping" as const, running: [] };
const trouble = (code: string) => ({ code, message: `it is ${code}`, atMs: nowMs });

interface Changes {
  readonly storage?: Partial<StorageVolume> | string | null;
  readonly proxy?: Partial<ProxyVolume> | string;
  readonly entry?: Partial<ProxyVolume["archives"][number]>;
  readonly archive?: Partial<ArchiveVolume> | string;
  readonly ageMs?: number;
}

/** A healthy path, but for the changes; a text is the error of a server that said nothing. */
function path(changes: Changes = {}): VolumePath {
  const heard = <Status>(server: string, status: Status, change: Partial<Status> | string | undefined) =>
    typeof change === "string" ? { server, error: change } : { server, status: { ...status, ...change } };
  const storage: StorageVolume = {
    ...common,
    state: "Target",
    lagBytes: 0,
    lagMs: 0,
    logUsagePb: 1,
    logCapacityPb: 10,
  };
  const entry: ProxyVolume["archives"][number] = {
    archiveName: "a0",
    address: "a:1",
    compression: "snappy",
    delayS: 0,
    pendingCount: 0,
    pendingBytes: 0,
    isSending: false,
    ...changes.entry,
  };
  const newestPoint = { gid: 9n, timeMs: nowMs - (changes.ageMs ?? 1000) };
  const archive: ArchiveVolume = { ...common, state: "Archived", oldestPoint: { gid: 1n, timeMs: 0 }, newestPoint };
  return {
    volume: "vol0",
    storage: changes.storage === null ? undefined : heard("s0", storage, changes.storage ?? {}),
    proxies: [heard<ProxyVolume>("p0", { ...common, state: "Started", archives: [entry] }, changes.proxy)],
    primary: heard("a0", archive, changes.archive),
    replicas: [],
  };
}

const judge = (changes: Changes): Protection => judgeProtection(path(changes), limits, nowMs);
const good = { isProtected: true, reasons: [], warnings: [], isOnlyLate: false };

describe("a volume is protected", () => {
  test("when all is well", () => {
    expect(judge({})).toEqual(good);
  });

  test("when it is idle, however old its newest point is", () => {
    expect(judge({ ageMs: 400 * 24 * hourMs })).toEqual(good);
  });

  test("with a warning while the newest point grows old and writes wait", () => {
    for (const changes of [
      { storage: { lagBytes: 512, lagMs: 1 } },
      { entry: { pendingBytes: 512, pendingCount: 1 } },
    ]) {
      expect(judge({ ...changes, ageMs: limits.warningMs - 1 })).toEqual(good);
      expect(judge({ ...changes, ageMs: limits.warningMs })).toEqual({
        ...good,
        warnings: ["the newest point is 10m old while 512B of writes wait"],
      });
    }
  });

  test("with a warning while a hop has a trouble that may pass", () => {
    const stuck = judge({
      entry: { pendingBytes: 2048, pendingCount: 2, lagMs: 60_000, trouble: trouble("unreachable") },
      ageMs: 60_000,
    });
    expect(stuck).toEqual({
      ...good,
      warnings: ["proxy p0: 2.00K wait for archive a0: it is unreachable"],
    });
    expect(judge({ storage: { trouble: trouble("timed-out") } }).warnings).toEqual(["storage s0: it is timed-out"]);
    expect(judge({ archive: { trouble: trouble("no-space") } }).warnings).toEqual(["archive a0: it is no-space"]);
  });

  test("with a warning when the log is filling up, a spare proxy is down, or a replica does not take part", () => {
    expect(judge({ storage: { logUsagePb: 8 } }).warnings).toEqual([
      expect.stringContaining("the log is 80% full; when it overflows"),
    ]);
    const whole = path();
    const spare = { ...whole, proxies: [...whole.proxies, { server: "p1", error: "cannot reach it" }] };
    expect(judgeProtection(spare, limits, nowMs)).toEqual({ ...good, warnings: ["proxy p1: cannot reach it"] });
    const replicated = { ...whole, replicas: [{ server: "a1", error: "cannot reach it" }] };
    expect(judgeProtection(replicated, limits, nowMs)).toEqual({ ...good, warnings: ["archive a1: cannot reach it"] });
  });

  test("during a hash backup that keeps the points there are", () => {
    expect(judge({ storage: { state: "HashSync" }, archive: { state: "HashSync" } })).toEqual(good);
  });
});

describe("a volume is not protected", () => {
  const refused = (changes: Changes): string => {
    const { isProtected, reasons, isOnlyLate } = judge(changes);
    expect([isProtected, isOnlyLate]).toEqual([false, false]);
    return reasons.join("\n");
  };

  test("when it was never backed up", () => {
    const empty: ArchiveVolume = { ...common, state: "SyncReady" };
    const never = path({ storage: { state: "SyncReady" } });
    const { reasons } = judgeProtection({ ...never, primary: { server: "a0", status: empty } }, limits, nowMs);
    expect(reasons).toEqual([
      "storage s0: state SyncReady, writes are not shipped; back it up: walb backup vol0",
      "archive a0: state SyncReady, it has no backup; make one: walb backup vol0",
    ]);
    const first = { ...never, primary: { server: "a0", status: { ...empty, state: "FullSync" } } };
    expect(judgeProtection(first, limits, nowMs).reasons).toContain("archive a0: there is no restorable point yet");
    expect(refused({ storage: null })).toBe("no storage server has it");
  });

  test("when it is stopped anywhere, with the way out", () => {
    expect(refused({ storage: { state: "Stopped" } })).toEndWith("start it: walb start vol0");
    expect(refused({ proxy: { state: "Stopped" } })).toEndWith("start it: walb start vol0 --server p0");
    expect(refused({ archive: { state: "Stopped" } })).toEndWith("start it: walb start vol0 --server a0");
    expect(refused({ storage: { stopState: "stopping" } })).toBe("storage s0: it is being stopped");
    expect(refused({ proxy: { stopState: "waiting-for-empty" } })).toContain("it takes nothing");
  });

  test("when its log has overflowed or was replaced, even while it is stopped for that", () => {
    expect(refused({ storage: { isOverflow: true, state: "Stopped", logUsagePb: 20 } })).toBe(
      "storage s0: the log has overflowed, writes are missing; back it up anew: " +
        "walb reset vol0 --server s0; walb backup vol0",
    );
    expect(refused({ storage: { isOverflow: true } })).toEndWith(
      "walb stop vol0 --server s0; walb reset vol0 --server s0; walb backup vol0",
    );
    expect(refused({ storage: { trouble: trouble("different-uuid") } })).toBe("storage s0: it is different-uuid");
    expect(refused({ archive: { trouble: trouble("damaged") } })).toBe("archive a0: it is damaged");
    const told = { ...trouble("damaged"), hint: "walb verify vol0" };
    expect(refused({ archive: { trouble: told } })).toBe("archive a0: it is damaged; walb verify vol0");
    expect(refused({ storage: { state: "Broken", trouble: trouble("io") } })).toEndWith("not shipped: it is io");
  });

  test("when the proxy delivers nothing: nowhere to send, or refused for good", () => {
    expect(refused({ proxy: { archives: [] } })).toBe("proxy p0: it sends the volume to no archive");
    expect(refused({ entry: { pendingBytes: 1, pendingCount: 1, trouble: trouble("different-uuid") } })).toContain(
      "1B wait for archive a0: it is different-uuid",
    );
    expect(judgeProtection({ ...path(), proxies: [] }, limits, nowMs).reasons).toEqual(["no proxy has it"]);
  });

  test("when the archive misses diffs before those that wait and nobody brings them, with the way out", () => {
    const waits = (entry: Changes["entry"]): Changes => ({
      entry: {
        pendingBytes: 1,
        pendingCount: 1,
        trouble: { ...trouble("state"), message: "the diff was refused: too-new-diff" },
        ...entry,
      },
    });
    const wayOut = "walb stop vol0 --server s0; walb reset vol0 --server s0; walb backup vol0";
    // The archive is at gid 9.
    const gap = refused(waits({ oldestGid: 10n, latestGid: 12n, lagMs: 0 }));
    expect(gap).toStartWith("proxy p0: diffs are missing before the 1B that wait for archive a0");
    expect(gap).toEndWith(wayOut);
    expect(refused(waits({ oldestGid: 9n, lagMs: 60_001 }))).toEndWith(wayOut);
    // Another proxy may bring what is missing, for a moment.
    const short = judge(waits({ oldestGid: 9n, lagMs: 60_000 }));
    expect([short.isProtected, short.warnings.length]).toEqual([true, 1]);
    expect(judge(waits({ oldestGid: 9n, lagMs: 100_000, delayS: 60 })).isProtected).toBe(true);
    const two = path(waits({ oldestGid: 10n, lagMs: 0 }));
    const other = path().proxies[0]!;
    expect(judgeProtection({ ...two, proxies: [...two.proxies, other] }, limits, nowMs).isProtected).toBe(true);
  });

  test("when a server cannot open it, with what that server says to do", () => {
    const broken = { state: "Broken", trouble: { ...trouble("damaged"), hint: "do this" } };
    expect(refused({ storage: broken })).toBe(
      "storage s0: state Broken, writes are not shipped: it is damaged; do this",
    );
    expect(refused({ proxy: broken })).toBe("proxy p0: state Broken, it takes nothing: it is damaged; do this");
    expect(refused({ archive: broken })).toBe("archive a0: state Broken: it is damaged; do this");
  });

  test("when a server it needs cannot be reached: what is not known is not safe", () => {
    expect(refused({ storage: "cannot reach it" })).toBe("storage s0: cannot reach it");
    expect(refused({ proxy: "cannot reach it" })).toBe("proxy p0: cannot reach it");
    expect(refused({ archive: "cannot reach it" })).toBe("archive a0: cannot reach it");
    expect(judgeProtection({ ...path(), primary: undefined }, limits, nowMs).reasons).toEqual(["no archive has it"]);
  });

  test("when the newest point is too old while writes wait, and that is told apart", () => {
    const late = judge({ storage: { lagBytes: 3 * 1024 ** 3, lagMs: 5 }, ageMs: hourMs });
    expect(late).toEqual({
      isProtected: false,
      reasons: ["the newest point is 1h old while 3.00G of writes wait"],
      warnings: [],
      isOnlyLate: true,
    });
    expect(refused({ storage: { lagBytes: 1, state: "Stopped" }, ageMs: hourMs })).toContain("1h old");
    // The snapshot that ends a hash backup, while nothing is written.
    const snapshot = { storage: { lagMs: 600_000 }, ageMs: hourMs };
    expect(judge(snapshot).reasons).toEqual(["the newest point is 1h old while a snapshot waits"]);
    expect(judge({ ...snapshot, storage: { lagMs: 1000 } })).toEqual(good);
    const stuck = { entry: { pendingBytes: 1, pendingCount: 1, trouble: trouble("unreachable") }, ageMs: hourMs };
    expect(judge(stuck)).toMatchObject({ isProtected: false, warnings: [expect.stringContaining("unreachable")] });
  });
});

test("one broken hop is enough, whatever the others say", () => {
  const hops: readonly Changes[] = [
    { storage: { state: "Stopped" } },
    { storage: { isOverflow: true } },
    { proxy: "down" },
    { proxy: { state: "Stopped" } },
    { archive: "down" },
    { archive: { state: "SyncReady" } },
  ];
  fc.assert(
    fc.property(fc.subarray([...hops]), fc.nat(2 * hourMs), fc.nat(4096), (broken, ageMs, lagBytes) => {
      const changes = Object.assign({ ageMs, storage: { lagBytes } }, ...broken) as Changes;
      const { isProtected, reasons } = judge(changes);
      expect(isProtected).toBe(reasons.length === 0);
      expect(isProtected).toBe(broken.length === 0 && (lagBytes === 0 || ageMs < hourMs));
    }),
  );
});

test("the measure of a path says what waits at each hop", () => {
  expect(
    measurePath(
      path({ storage: { lagBytes: 7, lagMs: 8 }, entry: { pendingBytes: 5, pendingCount: 1, lagMs: 6 } }),
      nowMs,
    ),
  ).toEqual({
    newest: { gid: 9n, timeMs: nowMs - 1000 },
    ageMs: 1000,
    windowMs: nowMs - 1000,
    toProxy: { bytes: 7, ms: 8 },
    toArchive: { bytes: 5, ms: 6 },
    logUsage: 0.1,
  });
  // The clock was set back behind the oldest point.
  const back = path({ archive: { oldestPoint: { gid: 1n, timeMs: nowMs + 5000 } } });
  expect(measurePath(back, nowMs).windowMs).toBe(0);
  expect(measurePath({ ...path(), storage: undefined, proxies: [], primary: undefined }, nowMs)).toEqual({});
});
