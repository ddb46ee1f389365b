import { expect, test } from "bun:test";
import { Fate } from "../../log/doubles.ts";
import { settle } from "../../log/helpers.ts";
import { makeBench, openOn } from "./harness.ts";

/*
 * Reads run while writes are logged, applied and checkpointed in any order. Per block a read may give what was
 * acknowledged last before it began, or anything that was submitted since and before it ended.
 */
test("a read gives each block as acknowledged last, or as written meanwhile, whatever the stores do in between", async () => {
  const sizeLb = 64;
  let readCount = 0;
  for (let seed = 1; seed <= 60; seed += 1) {
    const pbsBytes = seed % 3 === 0 ? 4096 : 512;
    const bench = await makeBench({ seed, ringPb: 60 + (seed % 7) * 30, pbsBytes, sizeLb });
    const { random } = bench;
    const engine = await openOn(bench, { maxPackBytes: pbsBytes * random.between(1, 40) });
    const fate = new Fate(random);
    bench.disk.hooks.fate = fate;
    if (seed % 2 === 0) bench.disk.hooks.cached = () => random.chance(0.7);
    /** Per block: values with the step of submission and of acknowledgement, in log order. */
    const history = Array.from({ length: sizeLb }, () => [{ value: 0, ackedAt: -1 }]);
    let now = 0;
    let value = 1;
    let running = 0;
    const submit = (): void => {
      const wanted = random.between(1, random.chance(0.2) ? 40 : 6);
      const offsetLb = random.between(0, sizeLb - wanted);
      const kind = random.fraction();
      const number = kind < 0.75 ? value++ % 250 : 0;
      const entry = { value: number, ackedAt: Number.POSITIVE_INFINITY };
      for (let i = 0; i < wanted; i += 1) history[offsetLb + i]!.push(entry);
      running += 1;
      const done = (error: unknown): void => {
        expect(error).toBeUndefined();
        running -= 1;
        entry.ackedAt = now++;
      };
      const fua = random.chance(0.1);
      if (kind < 0.75) {
        const lease = bench.memory.tryLease(Math.ceil((wanted * 512) / pbsBytes) * pbsBytes)!;
        lease.bytes.fill(number);
        engine.write(offsetLb * 512, wanted * 512, lease, fua, done);
      } else if (kind < 0.9) engine.discard(offsetLb * 512, wanted * 512, fua, done);
      else engine.writeZeroes(offsetLb * 512, wanted * 512, fua, done);
    };
    const startRead = (): void => {
      const wanted = random.between(1, 30);
      const offsetLb = random.between(0, sizeLb - wanted);
      const lease = bench.memory.tryLease(wanted * 512)!;
      const beganAt = now++;
      running += 1;
      engine.read(offsetLb * 512, lease.slice(0, wanted * 512), (error) => {
        expect(error).toBeUndefined();
        running -= 1;
        readCount += 1;
        for (let i = 0; i < wanted; i += 1) {
          const entries = history[offsetLb + i]!;
          const newest = entries.findLastIndex((entry) => entry.ackedAt < beganAt);
          const allowed = entries.slice(newest).map((entry) => entry.value);
          const block = lease.bytes.subarray(i * 512, (i + 1) * 512);
          if (!allowed.includes(block[0]!) || block.some((byte) => byte !== block[0])) {
            throw new Error(`seed ${seed}: block ${offsetLb + i} is ${block[0]}, not one of ${allowed}`);
          }
        }
        lease.release();
      });
    };
    for (let step = 0; step < 160; step += 1) {
      const choice = random.fraction();
      if (choice < 0.25) submit();
      else if (choice < 0.45) startRead();
      else if (choice < 0.5) engine.flush((error) => expect(error).toBeUndefined());
      else if (choice < 0.53) engine.checkpoint().catch(() => {});
      else if (choice < 0.58) bench.clock.advance(random.between(1, 120));
      else if (choice < 0.595) engine.resetLog().catch(() => {});
      else if (choice < 0.61) engine.freeze({ timeoutMs: random.between(1, 100) }).catch(() => {});
      else if (choice < 0.63) engine.melt();
      else if (choice < 0.65) engine.setOldest(engine.deviceStatus().lsids.prevWritten).catch(() => {});
      else for (let n = random.between(1, 5); n > 0; n -= 1) fate.step();
      await settle(1);
    }
    bench.disk.hooks.fate = undefined;
    while (fate.step());
    await settle();
    for (let i = 0; i < 200 && running > 0; i += 1) {
      bench.clock.advance(100);
      await settle();
    }
    expect(running).toBe(0);
    await engine.close();
    const data = bench.disk.files.get("data")!;
    expect(history.map((_, block) => data[block * 512]!)).toEqual(history.map((entries) => entries.at(-1)!.value));
    expect(bench.memory.leasedBytes).toBe(0);
  }
  expect(readCount).toBeGreaterThan(1000);
}, 300_000);
