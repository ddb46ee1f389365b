/**
 * @module The source side of backups: a volume's data is read as a storage does, and hashed and compared, or compressed;
 * beside plain reads of the same file, in the same way and in turn. Nobody has to be waited for.
 */
import { Codec } from "../../../src/native/codec.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { lbBytes } from "../../../src/units.ts";
import { scanBulks } from "../../../src/wire/source/bulks.ts";
import { ImageComparer } from "../../../src/wire/source/compare.ts";
import { mib } from "../lib/bench.ts";
import { fillData } from "../lib/data.ts";
import { finished, type Measured, measured } from "../lib/inside.ts";

const { path, sizeBytes, runs } = JSON.parse(process.argv[2]!) as { path: string; sizeBytes: number; runs: number };
const seed = 7;
const bulkBytes = 256 * 1024;
const platform = createPlatform({ memoryBudgetBytes: 128 * mib });
const pool = platform.memory.carve(32 * mib);
const buffers = await Promise.all(Array.from({ length: 4 }, () => platform.memory.lease(mib)));

const file = await platform.disk.open(path, { mode: "create", direct: true });
for (let at = 0; at < sizeBytes; at += mib) {
  const buffer = buffers[(at / mib) % 4]!;
  fillData(buffer.bytes, at / mib);
  await file.write(at, buffer);
}
await file.sync();

const range = {
  file,
  pool,
  clock: platform.clock,
  sizeLb: sizeBytes / lbBytes,
  bulkLb: bulkBytes / lbBytes,
  rateBytesPerS: () => 0,
  signal: new AbortController().signal,
};
const compress = { codec: Codec.snappy, level: 0 };

/** What an archive with the same image would send. */
async function hashesOfAll(): Promise<Uint8Array> {
  const hashes = new Uint8Array((sizeBytes / bulkBytes) * 16);
  for (let at = 0; at < sizeBytes; at += mib) {
    hashes.set(await file.readHashed(at, buffers[0]!, bulkBytes, seed), (at / bulkBytes) * 16);
  }
  return hashes;
}

async function readAll(): Promise<void> {
  let next = 0;
  await Promise.all(
    buffers.map(async (buffer) => {
      while (next < sizeBytes) {
        const at = next;
        next += mib;
        await file.read(at, buffer);
      }
    }),
  );
}

async function compareAll(hashes: Uint8Array): Promise<void> {
  const parts = { ...range, compute: platform.compute, compress, seed, progress: () => undefined };
  const comparer = await ImageComparer.open(parts);
  const batchBytes = 16 * 16;
  for (let at = 0; at < hashes.length; at += batchBytes) {
    for await (const pack of comparer.compare(at / 16, hashes.subarray(at, at + batchBytes))) {
      pack.release();
      throw new Error("a bulk differs from itself");
    }
  }
  await comparer.close();
}

async function encodeAll(): Promise<void> {
  for await (const bulk of scanBulks({ ...range, compress })) if (bulk.kind === "data") bulk.release();
}

const hashes = await hashesOfAll();
const read: Measured[] = [];
const compare: Measured[] = [];
const encode: Measured[] = [];
for (let run = 0; run < runs; run++) {
  read.push(await measured(readAll));
  compare.push(await measured(() => compareAll(hashes)));
  encode.push(await measured(encodeAll));
}
await file.close();
await platform.disk.remove(path);
finished({ read, compare, encode, isDirect: file.isDirect });
await closePlatform(platform);
