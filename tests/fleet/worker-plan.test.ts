import { describe, expect, test } from "bun:test";
import { parseSize } from "../../src/cli/text/size.ts";
import { parseDuration } from "../../src/cli/text/time.ts";
import { parseKeep } from "../../src/fleet/worker/keep.ts";
import {
  planWorker,
  type ReplicaView,
  startable,
  type VolumeView,
  type WorkerTask,
} from "../../src/fleet/worker/plan.ts";
import { type WorkerTable, workerPolicy } from "../../src/fleet/worker/policy.ts";

const hour = 3_600_000;
const now = Date.UTC(2026, 10, 21, 12);
const policy = (table: WorkerTable = {}) => workerPolicy(table, { duration: parseDuration, size: parseSize });

/** A volume with a point an hour, gid 0 the oldest, all of 100 bytes. */
function view(change: Partial<VolumeView> & { readonly count?: number } = {}): VolumeView {
  const { count = 6, ...rest } = change;
  const at = (gid: number) => ({ gidB: BigInt(gid), gidE: BigInt(gid) });
  return {
    archive: "a0",
    volume: "vol0",
    state: "Archived",
    archiveUuid: "u",
    baseGid: 0n,
    diffs: Array.from({ length: count }, (_, i) => ({
      from: at(i),
      to: at(i + 1),
      isMergeable: true,
      isCompared: false,
      timestampS: 0,
      dataSizeBytes: 100,
    })),
    points: Array.from({ length: count + 1 }, (_, i) => ({
      gid: BigInt(i),
      timeMs: now - (count - i) * hour,
      isProtected: false,
    })),
    running: [],
    keep: undefined,
    replicas: [],
    lastReplicateMs: new Map(),
    ...rest,
  };
}
const replica = (change: Partial<ReplicaView> = {}): ReplicaView => ({
  server: "a1",
  state: "Archived",
  latestGid: 2n,
  archiveUuid: "u",
  isSynchronizing: false,
  ...change,
});
const plan = (views: readonly VolumeView[], table: WorkerTable = {}) => planWorker(views, policy(table), now);
const only = (one: VolumeView, table: WorkerTable = {}): WorkerTask | undefined => plan([one], table).tasks[0];

describe("the worker's plan", () => {
  test("without any policy touches nothing", () => {
    expect(plan([view()])).toEqual({ tasks: [], waiting: [] });
  });

  test("finishes an apply that was cut off before all else", () => {
    const cut = view({ volume: "cut", applyingGid: 3n });
    const { tasks } = plan([view(), cut], { apply: { keep: "2h" } });
    expect(tasks[0]).toMatchObject({ kind: "apply", volume: "cut", gid: 3n, reason: "an apply to gid 3 was cut off" });
  });

  test("applies the newest point that is old enough, the volume with most to apply first", () => {
    const { tasks } = plan([view(), view({ volume: "big", count: 30 })], { apply: { keep: "2h", every: "1d" } });
    expect(tasks.map(({ volume, kind }) => [volume, kind])).toEqual([
      ["big", "apply"],
      ["vol0", "apply"],
    ]);
    expect(tasks[1]).toMatchObject({ gid: 4n });
    expect(only(view({ lastApplyMs: now - 23 * hour }), { apply: { keep: "2h", every: "1d" } })).toBeUndefined();
  });

  test("waits for no time that a clock has gone back behind", () => {
    const table = { apply: { keep: "2h", every: "1d" } };
    expect(only(view({ lastApplyMs: now + 23 * hour }), table)).toMatchObject({ kind: "apply", gid: 4n });
    const merge = { merge: { every: "1h" } };
    const diffs = view().diffs.map((diff, i) => ({ ...diff, isMergeable: i !== 4 }));
    expect(only(view({ diffs, lastMergeMs: now + 23 * hour }), merge)).toMatchObject({ kind: "merge" });
    const lastReplicateMs = new Map([["a1", now + 23 * hour]]);
    expect(only(view({ replicas: [replica()], lastReplicateMs }))).toMatchObject({ kind: "replicate" });
  });

  test("gives up no points of the last hours because a clock was a day behind for a while", () => {
    const points = view().points.map((point) => (point.gid === 5n ? { ...point, timeMs: now - 25 * hour } : point));
    const table = { apply: { keep: "150m", every: "1d" } };
    expect(only(view({ points }), table)).toMatchObject({ kind: "apply", gid: 3n });
  });

  test("never applies over a protected point", () => {
    const points = view().points.map((point) => ({ ...point, isProtected: point.gid === 2n }));
    expect(only(view({ points }), { apply: { keep: "2h" } })).toMatchObject({ kind: "apply", gid: 2n });
  });

  test("merges at once from the threshold on, else by the clock", () => {
    const explicit = view().diffs.map((diff, i) => ({ ...diff, isMergeable: i !== 4 }));
    const merge = { every: "1h", threshold: 6 };
    const just = view({ diffs: explicit, lastMergeMs: now });
    expect(only(just, { merge })).toMatchObject({ kind: "merge", fromGid: 0n, toGid: 4n });
    expect(only(view({ diffs: explicit.slice(0, 5), lastMergeMs: now - hour / 2 }), { merge })).toBeUndefined();
    expect(only(view({ diffs: explicit.slice(0, 5), lastMergeMs: now - hour }), { merge })).toMatchObject({
      kind: "merge",
    });
  });

  test("keeps the gid of a replica out of a merge", () => {
    const explicit = view().diffs.map((diff, i) => ({ ...diff, isMergeable: i !== 4 }));
    const task = only(
      view({ diffs: explicit, replicas: [replica({ latestGid: 2n })], lastReplicateMs: new Map([["a1", now]]) }),
      {
        merge: { every: "1h" },
      },
    );
    expect(task).toMatchObject({ kind: "merge", fromGid: 0n, toGid: 2n });
  });

  test("replicates to an empty archive whole, to another one as far as it lacks, in parts if so asked", () => {
    expect(only(view({ replicas: [replica({ state: "SyncReady" })] }))).toMatchObject({
      kind: "replicate",
      to: "a1",
      gid: undefined,
      reason: "a1 has no copy yet",
    });
    expect(only(view({ replicas: [replica()] }))).toMatchObject({ kind: "replicate", gid: undefined });
    expect(only(view({ replicas: [replica()] }), { replicate: { "max-send": 200 } })).toMatchObject({ gid: 5n });
    expect(only(view({ replicas: [replica({ latestGid: 6n })] }))).toBeUndefined();
    expect(only(view({ replicas: [replica({ isSynchronizing: true })] }))).toBeUndefined();
  });

  test("goes on with the others when one replica does not answer, and says so", () => {
    const dead = replica({ server: "a2", state: undefined, failure: "connection refused" });
    const { tasks, waiting } = plan([view({ replicas: [dead, replica()] })]);
    expect(tasks).toMatchObject([{ kind: "replicate", to: "a1" }]);
    expect(waiting).toEqual([{ archive: "a0", volume: "vol0", reason: "a2 does not answer: connection refused" }]);
  });

  test("does not replicate over another backup, and names the way out", () => {
    const { tasks, waiting } = plan([view({ replicas: [replica({ archiveUuid: "other" })] })]);
    expect(tasks).toEqual([]);
    expect(waiting[0]?.reason).toContain("walb replicate vol0 --to a1 --resync");
  });

  test("thins a volume by its own rules in the place of the general ones", () => {
    const keep = parseKeep({ all: "2h" }, parseDuration, "keep");
    const task = only(view({ keep }), { apply: { keep: "1h" }, merge: { every: "1h" } });
    expect(task).toMatchObject({ kind: "apply", gid: 4n, reason: "keep: 4 points before gid 4, the oldest to keep" });
  });

  test("leaves volumes alone that are stopped or being worked on, and says why", () => {
    const { tasks, waiting } = plan([view({ state: "Stopped" }), view({ volume: "b", running: ["Restore"] })], {
      apply: { keep: "1h" },
    });
    expect(tasks).toEqual([]);
    expect(waiting.map(({ reason }) => reason)).toEqual(["it is Stopped", "Restore is under way"]);
  });
});

describe("what may start now", () => {
  const replication = (volume: string): WorkerTask => ({
    archive: "a0",
    volume,
    kind: "replicate",
    to: "a1",
    gid: undefined,
    reason: "",
  });
  const apply = (volume: string): WorkerTask => ({ archive: "a0", volume, kind: "apply", gid: 1n, reason: "" });

  test("is one task a volume, within both limits; replications at their limit hold up no other work", () => {
    const limits = policy({ "max-tasks": 3, "max-replications": 1 });
    const tasks = [replication("b"), replication("c"), apply("a"), apply("d"), apply("e")];
    const chosen = startable({ tasks, waiting: [] }, [replication("a")], limits);
    expect(chosen.map(({ volume }) => volume)).toEqual(["d", "e"]);
  });
});

describe("the table of the worker", () => {
  test("that makes no sense names its field", () => {
    expect(() => policy({ apply: { keep: "soon" } })).toThrow(
      expect.objectContaining({ where: { field: "worker.apply.keep" } }),
    );
    expect(() => policy({ merge: { every: "1h", "max-size": "big" } })).toThrow(
      expect.objectContaining({ where: { field: "worker.merge.max-size" } }),
    );
  });
});
