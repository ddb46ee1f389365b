/**
 * @module Limit: sequential reading, writing and copying of the file system, 1 MiB at a time, 4 in flight: with O_DIRECT, and
 * into and out of the page cache, without and with the fsync behind it.
 */
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { mib } from "../lib/bench.ts";
import { fillData } from "../lib/data.ts";
import { finished, measured } from "../lib/inside.ts";

const { path, sizeBytes, runs } = JSON.parse(process.argv[2]!) as { path: string; sizeBytes: number; runs: number };
const inFlight = 4;
const platform = createPlatform({ memoryBudgetBytes: 64 * mib });
const buffers = await Promise.all(Array.from({ length: inFlight }, () => platform.memory.lease(mib)));
for (const [i, buffer] of buffers.entries()) fillData(buffer.bytes, i);

async function each(work: (offsetBytes: number, i: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    buffers.map(async (_, i) => {
      while (next < sizeBytes) {
        const offset = next;
        next += mib;
        await work(offset, i);
      }
    }),
  );
}

const write = [];
const overwrite = [];
const read = [];
const copy = [];
const cacheWrite = [];
const syncedWrite = [];
const cacheRead = [];
let isDirect = true;
for (let run = 0; run < runs; run++) {
  const file = await platform.disk.open(path, { mode: "create", direct: true });
  isDirect &&= file.isDirect;
  const writeAll = async (): Promise<void> => {
    await each((offset, i) => file.write(offset, buffers[i]!));
    await file.sync();
  };
  write.push(await measured(writeAll));
  overwrite.push(await measured(writeAll));
  read.push(await measured(() => each((offset, i) => file.read(offset, buffers[i]!))));
  // Source and target on one disk share what it can move.
  const target = await platform.disk.open(`${path}-copy`, { mode: "create", direct: true });
  copy.push(
    await measured(async () => {
      await each(async (offset, i) => {
        await file.read(offset, buffers[i]!);
        await target.write(offset, buffers[i]!);
      });
      await target.sync();
    }),
  );
  await target.close();
  await platform.disk.remove(`${path}-copy`);
  await file.close();
  await platform.disk.remove(path);
  const cached = await platform.disk.open(path, { mode: "create" });
  cacheWrite.push(await measured(() => each((offset, i) => cached.write(offset, buffers[i]!))));
  const written = cacheWrite.at(-1)!;
  const synced = await measured(() => cached.sync());
  syncedWrite.push({ seconds: written.seconds + synced.seconds, cpuS: written.cpuS + synced.cpuS });
  cacheRead.push(await measured(() => each((offset, i) => cached.read(offset, buffers[i]!))));
  await cached.close();
  await platform.disk.remove(path);
}
finished({ write, overwrite, read, copy, cacheWrite, syncedWrite, cacheRead, isDirect });
await closePlatform(platform);
