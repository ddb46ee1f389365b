import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createSimWorld } from "../../src/sim/sim.ts";
import type { LogPoint } from "../../src/snapshot/split.ts";
import { StorageStore } from "../../src/storage/store.ts";

const device = { kind: "user", name: "dev0", socket: "/d/control.sock" } as const;
const uuid = "00112233445566778899aabbccddeeff";
const point = (lsid: number, gid: bigint, isMergeable = true): LogPoint => ({
  lsid,
  gid,
  isMergeable,
  timestampS: lsid,
});

const seen = (store: StorageStore) => ({
  state: store.state,
  logUuid: store.logUuid,
  done: store.done,
  queue: [...store.queue],
  gidMax: store.gidMax,
  cutPb: store.cutPb,
  device: store.device,
});

describe("what a storage volume remembers", () => {
  test("is the same after a restart, whatever was done", () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant("push" as const), value: fc.integer({ min: 0, max: 50 }) }),
      fc.record({ kind: fc.constant("done" as const), value: fc.integer({ min: 1, max: 4 }) }),
      fc.record({ kind: fc.constant("drop" as const), value: fc.integer({ min: 0, max: 3 }) }),
      fc.record({ kind: fc.constant("cut" as const), value: fc.integer({ min: 0, max: 9 }) }),
      fc.record({ kind: fc.constant("state" as const), value: fc.integer({ min: 0, max: 3 }) }),
      fc.record({ kind: fc.constant("reset" as const), value: fc.integer({ min: 0, max: 99 }) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 30, size: "max" }), (actions) => {
        const world = createSimWorld(1);
        const host = world.host("a");
        let store = StorageStore.create(host.platform.databases, "/", "vol0", device);
        expect(seen(store)).toMatchObject({ state: "SyncReady", done: undefined, queue: [], gidMax: 0n });
        store.reset(uuid, 0n, 5);
        for (const { kind, value } of actions) {
          const last = store.queue.at(-1) ?? store.done!;
          const before = seen(store);
          if (kind === "push") store.push(point(last.lsid + value, last.gid + 1n, value % 2 === 0));
          if (kind === "done" && store.queue.length >= value) {
            store.setDone(store.queue[value - 1]!, store.queue.slice(value));
            expect(store.cutPb).toBeUndefined();
          }
          if (kind === "drop") store.setQueue(store.queue.slice(value));
          if (kind === "cut") store.setCutPb(value === 0 ? undefined : value);
          if (kind === "state") store.setState((["SyncReady", "Stopped", "Target", "Standby"] as const)[value]!);
          if (kind === "reset") {
            store.reset(uuid, BigInt(value), 7);
            expect(seen(store)).toMatchObject({ state: "SyncReady", queue: [], cutPb: undefined });
            expect(store.gidMax >= before.gidMax).toBe(true);
          }
          const after = seen(store);
          host.crash();
          store = StorageStore.open(host.restart().databases, "/", "vol0");
          expect(seen(store)).toEqual(after);
        }
        world.close();
      }),
      { numRuns: 60 },
    );
  });

  test("holds gids up to 2^63 − 1 exactly, and refuses larger ones", () => {
    const world = createSimWorld(1);
    const { databases } = world.host("a").platform;
    const store = StorageStore.create(databases, "/", "vol0", device);
    store.reset(uuid, 2n ** 63n - 2n, 5);
    store.push(point(1, 2n ** 63n - 1n));
    expect(StorageStore.open(databases, "/", "vol0").queue[0]!.gid).toBe(2n ** 63n - 1n);
    expect(() => store.push(point(2, 2n ** 63n))).toThrow("cannot be stored");
    // What failed left nothing behind, in memory neither.
    expect(store.queue).toHaveLength(1);
    expect(StorageStore.open(databases, "/", "vol0").queue).toHaveLength(1);
    world.close();
  });

  test("is refused when it is not there", () => {
    const world = createSimWorld(1);
    const { databases } = world.host("a").platform;
    expect(() => StorageStore.open(databases, "/", "vol0")).toThrow("no volume in it");
    world.close();
  });
});
