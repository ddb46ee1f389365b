import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { codeOf } from "../helpers/errors.ts";
import { type Backend, backends } from "./backends.ts";

const mib = 1024 * 1024;

for (const { name, make } of backends) {
  describe(`clock, chance and memory of the ${name} platform`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await make();
    });
    afterAll(() => backend.close());
    const check = (what: string, work: () => Promise<void>) => test(what, () => backend.run(work));

    check("a timer fires once, not before its time, and not when cancelled", async () => {
      const { clock } = backend.platform;
      const start = clock.monotonicMs();
      const fired: string[] = [];
      clock.timer(20, () => fired.push("late"));
      clock.timer(5, () => fired.push("early"));
      clock.timer(10, () => fired.push("never")).cancel();
      await clock.sleep(50);
      expect(fired).toEqual(["early", "late"]);
      expect(clock.monotonicMs() - start).toBeGreaterThanOrEqual(49);
    });

    check("a sleep ends as cancelled when its signal aborts, before or during it", async () => {
      const { clock } = backend.platform;
      const abort = new AbortController();
      const sleep = codeOf(clock.sleep(60_000, abort.signal));
      clock.timer(5, () => abort.abort());
      expect(await sleep).toBe("cancelled");
      expect(await codeOf(clock.sleep(60_000, abort.signal))).toBe("cancelled");
    });

    check("chance stays in its bounds", async () => {
      const { random } = backend.platform;
      expect(random.bytes(33).length).toBe(33);
      expect(random.bytes(16)).not.toEqual(random.bytes(16));
      for (let i = 0; i < 100; i++) {
        expect(random.u32()).toBeWithin(0, 2 ** 32);
        expect(random.fraction()).toBeWithin(0, 1);
      }
    });

    check("memory is leased within the budget, waiters are served in order, and twice released is told", async () => {
      const pool = backend.platform.memory.carve(4 * mib);
      const first = await pool.lease(3 * mib);
      expect(first.sizeBytes).toBe(3 * mib);
      expect(first.address % 4096).toBe(0);
      expect(pool.leasedBytes).toBe(4 * mib);
      expect(pool.tryLease(1)).toBeUndefined();
      const order: number[] = [];
      const waiters = [mib, 4 * mib, 4096].map(async (sizeBytes, i) => {
        const lease = await pool.lease(sizeBytes);
        order.push(i);
        return lease;
      });
      first.release();
      const second = await waiters[0]!;
      expect(pool.tryLease(4096)).toBeUndefined();
      second.release();
      (await waiters[1]!).release();
      (await waiters[2]!).release();
      expect(order).toEqual([0, 1, 2]);
      expect(pool.leasedBytes).toBe(0);
      expect(() => first.release()).toThrow();
      expect(() => pool.tryLease(65 * mib)).toThrow();
      expect(await codeOf(pool.lease(8 * mib))).not.toBe("no error");
      expect(() => second.slice(mib - 1, 2)).toThrow();
    });

    check("compute answers as its contract says", async () => {
      const { compute, memory } = backend.platform;
      const lease = await memory.lease(4096);
      lease.bytes.fill(1);
      expect(compute.isZeroNow(lease.bytes)).toBe(false);
      const [sum] = await compute.checksums([lease], 5);
      expect(sum).toBe(compute.checksumNow(lease.bytes, 5));
      const checksum = sum ?? 0;
      const items = [
        { source: lease, salt: 5, checksum },
        { source: lease, salt: 6, checksum },
      ];
      expect([...(await compute.verify(items))]).toEqual([1, 0]);
      lease.release();
    });
  });
}
