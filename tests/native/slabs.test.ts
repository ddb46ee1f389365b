import { expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { createMemoryPool } from "../../src/native/index.ts";
import type { Lease } from "../../src/native/memory.ts";
import { kib, mib } from "../../src/units.ts";

test("a lease has the size asked for, is aligned, and shares its bytes with its slices", () => {
  const pool = createMemoryPool(64 * mib);
  for (const size of [0, 1, 4096, 4097, 100_000, mib, mib + 1]) {
    const lease = pool.tryLease(size);
    if (lease === undefined) throw new Error("no lease");
    expect([lease.sizeBytes, lease.bytes.length, lease.view.byteLength, lease.address % 4096]).toEqual([
      size,
      size,
      size,
      0,
    ]);
    if (size > 1000) {
      const slice = lease.slice(100, 200);
      slice.view.setUint32(0, 0x01020304);
      expect([...lease.bytes.subarray(100, 104)]).toEqual([1, 2, 3, 4]);
      expect(slice.slice(50, 10).address).toBe(lease.address + 150);
      expect(() => slice.slice(0, 201)).toThrow();
      expect(() => slice.slice(-1, 1)).toThrow();
      expect(() => slice.slice(0.5, 1)).toThrow();
    }
    lease.release();
    expect(() => lease.release()).toThrow("released twice");
  }
  expect(pool.leasedBytes).toBe(0);
});

test("leases never overlap and never exceed the budget, whatever the order of taking and giving back", () => {
  const sizes = fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 3 * mib }));
  const step = fc.oneof(
    sizes.map((size) => ({ size })),
    fc.nat(50).map((index) => ({ index })),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const pool = createMemoryPool(8 * mib);
      const held: Lease[] = [];
      for (const one of steps) {
        if ("size" in one) {
          const lease = pool.tryLease(one.size);
          if (lease !== undefined) held.push(lease);
        } else {
          held.splice(one.index, 1)[0]?.release();
        }
        const sorted = held.toSorted((a, b) => a.address - b.address);
        for (const [i, lease] of sorted.entries()) {
          const next = sorted[i + 1];
          if (next !== undefined) expect(lease.address + lease.sizeBytes).toBeLessThanOrEqual(next.address);
        }
        expect(pool.leasedBytes).toBeLessThanOrEqual(8 * mib);
        expect(pool.leasedBytes).toBeGreaterThanOrEqual(held.reduce((sum, lease) => sum + lease.sizeBytes, 0));
      }
      for (const lease of held) lease.release();
      expect(pool.leasedBytes).toBe(0);
    }),
    { numRuns: 50 },
  );
});

test("waiters are served in order and small leases do not overtake a large one", async () => {
  const pool = createMemoryPool(64 * kib);
  const first = await pool.lease(48 * kib);
  const order: string[] = [];
  const large = pool.lease(64 * kib).then((lease) => {
    order.push("large");
    return lease;
  });
  const small = pool.lease(4 * kib).then((lease) => {
    order.push("small");
    return lease;
  });
  expect(pool.tryLease(4 * kib)).toBeUndefined();
  first.release();
  (await large).release();
  (await small).release();
  expect(order).toEqual(["large", "small"]);
});

test("what can never fit is refused at once", async () => {
  const pool = createMemoryPool(mib);
  await expect(pool.lease(mib + 1)).rejects.toMatchObject({ code: "out-of-range" });
  expect(() => pool.tryLease(64 * mib + 1)).toThrow("at most");
  expect(() => pool.tryLease(-1)).toThrow();
  expect(() => pool.tryLease(1.5)).toThrow();
});

test("a carved pool takes its budget for good and refuses waiters that became hopeless", async () => {
  const pool = createMemoryPool(mib);
  const held = await pool.lease(4 * kib);
  const waiting = pool.lease(mib);
  const child = pool.carve(512 * kib);
  expect([pool.budgetBytes, child.budgetBytes]).toEqual([512 * kib, 512 * kib]);
  await expect(waiting).rejects.toMatchObject({ code: "out-of-range" });
  const lease = child.tryLease(512 * kib);
  expect([child.leasedBytes, pool.leasedBytes, child.tryLease(1)]).toEqual([512 * kib, 4 * kib, undefined]);
  lease?.release();
  held.release();
  expect(() => pool.carve(mib)).toThrow("cannot give away");
});

test("memory that is not leased any more goes back to the system when other sizes need it", () => {
  // In a process of its own: the pools of other tests count too.
  const program = `
    import { readFileSync } from "node:fs";
    import { createMemoryPool } from ${JSON.stringify(join(import.meta.dir, "../../src/native/index.ts"))};
    const rss = () => Number(/VmRSS:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
    // Far more than is in use at once: each size must not keep its own peak within it.
    const pool = createMemoryPool(1 << 30);
    const before = rss();
    for (let log2 = 12; log2 <= 26; log2++) {
      const leases = [];
      for (let count = 0; count < 2 ** (26 - log2); count++) {
        const lease = pool.tryLease(2 ** log2);
        for (let at = 0; at < lease.sizeBytes; at += 4096) lease.bytes[at] = 1;
        leases.push(lease);
      }
      for (const lease of leases) lease.release();
    }
    console.log(rss() - before);`;
  const done = Bun.spawnSync([process.execPath, "-e", program], { stderr: "inherit" });
  const grownKib = Number(done.stdout.toString());
  expect(grownKib).toBeGreaterThan(60 * kib);
  // Without giving back it would be 15 · 64 MiB; the rest is JavaScript objects.
  expect(grownKib).toBeLessThan(300 * kib);
});
