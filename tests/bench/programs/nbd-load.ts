/** @module Write load without fio: the demo's NBD client, in a process of its own. */
import { NbdClient } from "../../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { mib } from "../lib/bench.ts";
import { fillData } from "../lib/data.ts";
import type { Load, NbdTarget } from "../lib/load.ts";

const load = JSON.parse(process.argv[2]!) as Load & NbdTarget;
const { blockBytes, depth, rangeBytes, totalBytes } = load;
const platform = createPlatform({ memoryBudgetBytes: 16 * mib });
const client = await NbdClient.connect(platform.net, { kind: "unix", path: load.socketPath }, load.exportName);
const blockCount = Math.floor(rangeBytes / blockBytes);
const latenciesUs: number[] = [];
let state = (load.seed ?? 1) >>> 0;
let written = 0;
const startMs = performance.now();
const endMs = startMs + 1000 * (load.secondsMax ?? Number.POSITIVE_INFINITY);

function nextOffset(index: number): number {
  if (load.order === "sequential") return (index % blockCount) * blockBytes;
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * blockCount) * blockBytes;
}

await Promise.all(
  Array.from({ length: depth }, async (_, i) => {
    const data = new Uint8Array(blockBytes);
    fillData(data, i + 1);
    while (written < totalBytes && performance.now() < endMs) {
      const index = written / blockBytes;
      written += blockBytes;
      if (load.rateBytesPerS !== undefined) {
        const earlyMs = startMs + (1000 * index * blockBytes) / load.rateBytesPerS - performance.now();
        if (earlyMs > 0) await Bun.sleep(earlyMs);
      }
      const beganMs = performance.now();
      await client.write(nextOffset(index), data);
      latenciesUs.push(1000 * (performance.now() - beganMs));
      if (load.flushEvery !== undefined && (index + 1) % load.flushEvery === 0) await client.flush();
    }
  }),
);
await client.flush();
const seconds = (performance.now() - startMs) / 1000;
client.close();
latenciesUs.sort((a, b) => a - b);
const p99Us = latenciesUs[Math.floor(0.99 * latenciesUs.length)] ?? 0;
console.log(JSON.stringify({ bytes: written, seconds, p99Us }));
await closePlatform(platform);
