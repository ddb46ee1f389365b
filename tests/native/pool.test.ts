import { expect, test } from "bun:test";
import { Codec } from "../../src/native/codec.ts";
import { createJobPool, createMemoryPool, createPoolCompute } from "../../src/native/index.ts";
import { endOfFile, Op } from "../../src/native/layout.ts";
import { kib, mib } from "../../src/units.ts";

test("100 000 small jobs all complete, more of them at a time than there are slots", async () => {
  const pool = createJobPool({ threads: 4 });
  let done = 0;
  const worker = async (): Promise<void> => {
    for (let i = 0; i < 25; i++) {
      await pool.run({ op: Op.nop, isSlow: i % 2 === 0 });
      done++;
    }
  };
  await Promise.all(Array.from({ length: 4000 }, worker));
  expect([done, pool.inFlight]).toEqual([100_000, 0]);
  await pool.close();
});

test("results are right while the garbage collector moves and frees everything around them", async () => {
  const pool = createJobPool();
  const compute = createPoolCompute(pool);
  const memory = createMemoryPool(64 * mib);
  const sizeBytes = 64 * kib;
  let bad = 0;
  const worker = async (seed: number): Promise<void> => {
    for (let round = 0; round < 30; round++) {
      const source = await memory.lease(sizeBytes);
      source.bytes.fill(seed + 1);
      source.bytes.fill(round + 1, 100, 200);
      const packed = await memory.lease(sizeBytes);
      const [encoded] = await compute.encode([{ source, target: packed }], { codec: Codec.lz4, level: 0 });
      const target = await memory.lease(sizeBytes);
      const garbage = Array.from({ length: 50 }, (_, i) => new Uint8Array(i * 40).fill(i));
      if (round % 10 === 0) Bun.gc(true);
      if (encoded === undefined || garbage.length === 0) throw new Error("nothing encoded");
      const image = packed.slice(0, encoded.storedBytes);
      const item = { source: image, codec: encoded.codec, checksum: encoded.checksum, target };
      const [code] = await compute.decode([item]);
      if (code !== 0 || Buffer.compare(target.bytes, source.bytes) !== 0) bad++;
      for (const lease of [source, packed, target]) lease.release();
    }
  };
  await Promise.all(Array.from({ length: 32 }, (_, seed) => worker(seed)));
  expect([bad, memory.leasedBytes]).toEqual([0, 0]);
  await pool.close();
});

test("jobs that block on syncs and copies do not hold up reads", async () => {
  const pool = createJobPool({ threads: 2 });
  let slowDone = 0;
  const slow = Array.from({ length: 20 }, async () => {
    await pool.run({ op: Op.sleep, isSlow: true, size: 100 });
    slowDone++;
  });
  for (let i = 0; i < 200; i++) await pool.run({ op: Op.nop });
  expect(slowDone).toBeLessThan(20);
  await Promise.all(slow);
  expect(slowDone).toBe(20);
  await pool.close();
});

test("closing waits for the jobs in flight, is idempotent, and then refuses jobs", async () => {
  const pool = createJobPool();
  let isDone = false;
  const job = pool.run({ op: Op.sleep, size: 50 }).then(() => {
    isDone = true;
  });
  await Promise.all([pool.close(), pool.close()]);
  await job;
  expect(isDone).toBe(true);
  await expect(pool.run({ op: Op.nop })).rejects.toMatchObject({ code: "internal" });
});

test("a pool that never ran a job can be closed, again and again without leaking descriptors or threads", async () => {
  const { readdirSync } = await import("node:fs");
  const count = (): number[] => ["fd", "task"].map((name) => readdirSync(`/proc/self/${name}`).length);
  const use = async (): Promise<void> => {
    const pool = createJobPool({ threads: 3 });
    await Promise.all([1, 2, 3, 4].map(() => pool.run({ op: Op.sleep, size: 1 })));
    await pool.close();
    await createJobPool().close();
  };
  await use();
  await Bun.sleep(50);
  const [fds = 0, threads = 0] = count();
  for (let i = 0; i < 20; i++) await use();
  await Bun.sleep(50);
  const [fdsAfter = 0, threadsAfter = 0] = count();
  expect(fdsAfter).toBeLessThanOrEqual(fds + 2);
  expect(threadsAfter).toBeLessThanOrEqual(threads + 2);
});

test("failures come back as the exact errno and end of file as its own number", async () => {
  const pool = createJobPool();
  const memory = createMemoryPool(mib);
  const lease = await memory.lease(4096);
  const { address } = lease;
  expect((await pool.run({ op: Op.pread, fd: 9999, size: 1, address })).result).toBe(-9); // EBADF
  const { openSync, closeSync } = await import("node:fs");
  const fd = openSync("/dev/null", "r");
  expect((await pool.run({ op: Op.pread, fd, size: 1, address })).result).toBe(endOfFile);
  closeSync(fd);
  expect((await pool.run({ op: Op.nop, fd: -1 })).result).toBe(0);
  await pool.close();
});

test("a process with an idle pool ends by itself, one with a job in flight ends after it", async () => {
  const program = (body: string): string =>
    `import { createJobPool } from ${JSON.stringify(`${import.meta.dir}/../../src/native/index.ts`)};
     const pool = createJobPool();
     ${body}`;
  const run = async (body: string): Promise<string> => {
    const child = Bun.spawn([process.execPath, "-e", program(body)], { stdout: "pipe", stderr: "inherit" });
    const timer = setTimeout(() => child.kill("SIGKILL"), 8000);
    const text = await child.stdout.text();
    clearTimeout(timer);
    return `${text.trim()} ${await child.exited}`;
  };
  const idle = run(`await pool.run({ op: 0 }); console.log("idle");`);
  const working = run(`pool.run({ op: ${Op.sleep}, size: 200 }).then(() => console.log("after the job"));`);
  const early = run(`for (let i = 0; i < 3000; i++) pool.run({ op: ${Op.sleep}, size: 5 }); process.exit(7);`);
  expect(await idle).toBe("idle 0");
  expect(await working).toBe("after the job 0");
  expect((await early).trim()).toBe("7");
});
