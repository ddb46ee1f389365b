/** @module Limit: snappy and the walb checksum in the job pool, on the data of the benchmarks, 64 KiB a block. */
import { Codec } from "../../../src/native/codec.ts";
import type { Memory } from "../../../src/native/memory.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { mib } from "../lib/bench.ts";
import { fillData } from "../lib/data.ts";
import { finished, measured } from "../lib/inside.ts";

const { sizeBytes, runs } = JSON.parse(process.argv[2]!) as { sizeBytes: number; runs: number };
const blockBytes = 64 * 1024;
const batchBlocks = 8;
const inFlight = 8;
const dataBytes = 32 * mib;
const platform = createPlatform({ memoryBudgetBytes: 3 * dataBytes });
const { compute } = platform;
const source = await platform.memory.lease(dataBytes);
const target = await platform.memory.lease(dataBytes);
const expanded = await platform.memory.lease(dataBytes);
fillData(source.bytes, 1);
const blockCount = dataBytes / blockBytes;
const cut = (memory: Memory): Memory[] =>
  Array.from({ length: blockCount }, (_, i) => memory.slice(i * blockBytes, blockBytes));
const [sources, targets, outputs] = [cut(source), cut(target), cut(expanded)];

/** Goes over all blocks again and again until `sizeBytes` are done, with a sliding window of batches. */
async function each(work: (from: number, to: number) => Promise<unknown>): Promise<void> {
  let done = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (done < sizeBytes) {
        const from = (done / blockBytes) % blockCount;
        done += batchBlocks * blockBytes;
        await work(from, from + batchBlocks);
      }
    }),
  );
}

const encoded = await compute.encode(
  sources.map((block, i) => ({ source: block, target: targets[i]! })),
  { codec: Codec.snappy, level: 0 },
);
const stored = encoded.map(({ codec, checksum, storedBytes }, i) => {
  if (codec !== Codec.snappy) throw new Error("the data of the benchmarks must be compressible");
  return { source: targets[i]!.slice(0, storedBytes), codec, checksum, target: outputs[i]! };
});
// Encoding goes where decoded data goes later, so that what is decoded stays.
const items = sources.map((block, i) => ({ source: block, target: outputs[i]! }));
const encode = [];
const decode = [];
const checksum = [];
for (let run = 0; run < runs; run++) {
  encode.push(
    await measured(() => each((from, to) => compute.encode(items.slice(from, to), { codec: Codec.snappy, level: 0 }))),
  );
  decode.push(await measured(() => each((from, to) => compute.decode(stored.slice(from, to)))));
  checksum.push(await measured(() => each((from, to) => compute.checksums(sources.slice(from, to), run))));
}
if (!Buffer.from(expanded.bytes).equals(Buffer.from(source.bytes))) throw new Error("decoding gave other data");
const storedBytes = encoded.reduce((sum, block) => sum + block.storedBytes, 0);
finished({ encode, decode, checksum, ratio: storedBytes / dataBytes });
await closePlatform(platform);
