import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type ClientLease, type ClientMemory, MemoryShares } from "../../../src/device/user/nbd/shares.ts";
import type { Lease } from "../../../src/native/memory.ts";
import { PlainPool } from "./doubles.ts";

const mib = 1024 * 1024;
const unit = 16 * 1024;

function sharesOf(budgetBytes: number, ...names: string[]): { pool: PlainPool; shares: MemoryShares } {
  const pool = new PlainPool(budgetBytes);
  return { pool, shares: new MemoryShares(pool, () => names) };
}

/** Takes leases of a size for a client until there is none. */
function takeAll(memory: ClientMemory, sizeBytes: number): ClientLease[] {
  const leases: ClientLease[] = [];
  for (let lease = memory.tryLease(sizeBytes); lease !== undefined; lease = memory.tryLease(sizeBytes)) {
    leases.push(lease);
  }
  return leases;
}

/** The same for the volume as a whole, which keeps what its clients have given it. */
function takeAllOf(shares: MemoryShares, name: string, sizeBytes: number): ClientLease[] {
  const memory = shares.of(name);
  const leases: ClientLease[] = [];
  for (let lease = memory.tryLease(sizeBytes); lease !== undefined; lease = memory.tryLease(sizeBytes)) {
    lease.handOver();
    leases.push(lease);
  }
  return leases;
}

describe("memory shared out by volume", () => {
  test("a volume that gives nothing back leaves room for the longest request of each other one", () => {
    const { shares } = sharesOf(512 * mib, "a", "b", "c", "d");
    const held = takeAllOf(shares, "a", mib).length;
    expect(held).toBeGreaterThan(100);
    for (const name of ["b", "c", "d"]) expect(shares.of(name).tryLease(32 * mib)).toBeDefined();
  });

  test("however many volumes hang, one has what it is owed", () => {
    const names = Array.from({ length: 20 }, (_, i) => `v${i}`);
    const { shares } = sharesOf(512 * mib, ...names);
    for (const name of names.slice(1)) takeAllOf(shares, name, mib);
    expect(takeAllOf(shares, "v0", mib).length).toBeGreaterThanOrEqual(12);
  });

  test("a single volume has three quarters of it all, and a request as long as the rest waits for its own", async () => {
    const { shares } = sharesOf(64 * mib, "a");
    const memory = shares.of("a");
    const leases = takeAllOf(shares, "a", mib);
    expect(leases).toHaveLength(48);
    let got: Lease | undefined;
    memory.lease(32 * mib).then((lease) => {
      got = lease;
    });
    // It was first: what is smaller waits behind it.
    expect(memory.tryLease(4096)).toBeUndefined();
    for (const lease of leases.slice(0, 31)) lease.release();
    await Promise.resolve();
    expect(got).toBeUndefined();
    leases[31]!.release();
    await Bun.sleep(0);
    expect(got?.sizeBytes).toBe(32 * mib);
  });

  test("of many clients of a volume that give nothing back, each leaves as much to the others as it has", () => {
    const { shares } = sharesOf(256 * mib, "a", "b");
    const held = Array.from({ length: 8 }, () => takeAll(shares.of("a"), 64 * 1024).length);
    expect(held.slice(0, 4)).toEqual([1024, 512, 256, 128]);
    const last = shares.of("a");
    expect(last.tryLease(16 * 1024)).toBeDefined();
    expect(last.isWanted).toBe(false);
  });

  test("a client that waits for its own leases stands in nobody's way; one that has none is wanted for", async () => {
    const { shares } = sharesOf(64 * mib, "a");
    const [greedy, other, third] = [shares.of("a"), shares.of("a"), shares.of("a")];
    const leases = takeAll(greedy, mib);
    const first = leases[0]!;
    let got: ClientLease | undefined;
    greedy.lease(mib).then((lease) => {
      got = lease;
    });
    const mine = other.tryLease(8 * mib);
    expect(mine).toBeDefined();
    expect(other.isWanted).toBe(false);
    // The volume has no more for a third.
    let wanted: ClientLease | undefined;
    third.lease(32 * mib).then((lease) => {
      wanted = lease;
    });
    expect([greedy.isWanted, other.isWanted, third.isWanted]).toEqual([true, true, false]);
    first.release();
    await Bun.sleep(0);
    expect([got, wanted]).toEqual([undefined, undefined]);
    for (const lease of leases.slice(1)) lease.release();
    await Bun.sleep(0);
    expect(wanted?.sizeBytes).toBe(32 * mib);
    mine!.release();
    wanted!.release();
    await Bun.sleep(0);
    expect(got?.sizeBytes).toBe(mib);
  });

  test("the longest request is never hopeless, however many volumes there are", async () => {
    const names = Array.from({ length: 16 }, (_, i) => `v${i}`);
    const { shares } = sharesOf(64 * mib, ...names);
    const first = await shares.of("v0").lease(32 * mib);
    const second = shares.of("v1").lease(32 * mib);
    expect(shares.of("v2").tryLease(2 * mib)).toBeDefined();
    first.release();
    expect((await second).sizeBytes).toBe(32 * mib);
  });

  test("whatever is taken and given back, the pool is never exceeded, and at the end it is whole", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ volume: fc.nat(3), sizeBytes: fc.nat(31), give: fc.boolean() }), { maxLength: 200 }),
        async (steps) => {
          const { pool, shares } = sharesOf(64 * unit, "v0", "v1", "v2", "v3");
          const leases: Lease[] = [];
          const waiting: Promise<void>[] = [];
          for (const { volume, sizeBytes, give } of steps) {
            const wanted = shares.of(`v${volume}`).lease((sizeBytes + 1) * unit);
            waiting.push(
              wanted.then((lease) => {
                leases.push(lease);
              }),
            );
            await Promise.resolve();
            if (give) leases.pop()?.release();
          }
          // Whoever waits is served once the others have given back.
          const all = Promise.all(waiting);
          let isOver = false;
          void all.then(() => {
            isOver = true;
          });
          for (let round = 0; round < 1000 && !isOver; round++) {
            leases.pop()?.release();
            for (let i = 0; i < 5; i++) await Promise.resolve();
          }
          await all;
          for (const lease of leases) lease.release();
          expect(pool.leasedBytes).toBe(0);
          expect(pool.highestBytes).toBeLessThanOrEqual(64 * unit);
          expect(takeAllOf(shares, "v0", unit)).toHaveLength(32 / 4 + 16);
        },
      ),
      { numRuns: 100, seed: 4 },
    );
  });
});
