import { expect, test } from "bun:test";
import { applyDiffs } from "../../src/diff/apply.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { writeMerged } from "../../src/diff/output.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { readSortedStream } from "../../src/diff/stream.ts";
import { verifyDiff } from "../../src/diff/verify.ts";
import { WalbError } from "../../src/errors.ts";
import { generateWlogBytes } from "../../src/log/generate.ts";
import type { SeededRandom } from "../../src/log/generate-random.ts";
import { fuzz, mutate } from "../helpers/fuzz.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";
import { bytesInput, convertWlog, readVirtual } from "../helpers/wlogs.ts";

const io = createMemoryIo(48 * 1024 * 1024);
const pools = [io.memory, io.readPool];
const sizeLb = 256;

async function diffBytes(kind: "sorted" | "indexed", seed: number): Promise<Uint8Array> {
  const options = { deviceBytes: sizeLb * 512, maxIoBytes: 8192, maxDiscardBytes: 8192, logBytes: 60_000 };
  const { bytes } = generateWlogBytes({ ...options, content: "half" }, seed);
  await convertWlog(io, bytesInput(bytes), "/valid", { kind, maxIoLb: 8 });
  const made = io.disk.get("/valid").slice();
  await io.disk.remove("/valid");
  return made;
}

/** Makes the checksums of headers right again, so that what lies behind them is looked at. */
function repair(bytes: Uint8Array, kind: "sorted" | "indexed", random: SeededRandom): void {
  const seal = (at: number, size: number, field: number): void => {
    if (at < 0 || at + size > bytes.length || random.chance(0.02)) return;
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, size);
    view.setUint32(field, 0, true);
    view.setUint32(field, io.compute.checksumNow(bytes.subarray(at, at + size), 0), true);
  };
  seal(0, 32, 0);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (kind === "indexed") {
    const superAt = bytes.length - 24;
    if (superAt < 32) return;
    // Half of the time the index is said to be where it fits, so that its records are looked at.
    const indexAt = view.getUint32(superAt, true);
    if (random.chance(0.5) && indexAt < superAt)
      view.setUint32(superAt + 8, Math.floor((superAt - indexAt) / 48), true);
    seal(superAt, 24, 20);
    for (let at = indexAt; at + 48 <= superAt; at += 48) seal(at, 48, 44);
    return;
  }
  for (let at = 32; at + 4096 <= bytes.length; at += 4096 + view.getUint32(at + 8, true)) seal(at, 4096, 0);
}

for (const kind of ["sorted", "indexed"] as const) {
  test(`a mutated ${kind} diff is applied, merged and read virtually as one thing, or refused`, async () => {
    const valid = await diffBytes(kind, 5);
    const other = await diffBytes(kind === "sorted" ? "indexed" : "sorted", 6);
    expect(valid.length).toBeGreaterThan(5000);
    io.disk.put("/other", other);
    const { rounds, refused, taken } = await fuzz({
      share: 0.07,
      pools,
      attempt: async (random) => {
        const bytes = mutate(valid, random);
        if (random.chance(0.8)) repair(bytes, kind, random);
        io.disk.put("/diff", bytes);
        const paths = random.chance(0.5) ? ["/diff", "/other"] : ["/other", "/diff"];
        io.disk.put("/image", new Uint8Array(sizeLb * 512).fill(0x77));
        const image = await io.disk.open("/image", { mode: "write" });
        await io.disk.remove("/merged");
        const set = await openDiffSet(io, paths);
        try {
          const plan = planMerge(set.records, { maxIoLb: [0, 5, 8][random.below(3)]! });
          await applyDiffs(io, set, plan, image, { sizeLb });
          const merged = await io.disk.open("/merged", { mode: "create" });
          await writeMerged(io, set, plan, merged);
        } finally {
          await set.close();
        }
        const expected = io.disk.get("/image").slice();
        io.disk.put("/image", new Uint8Array(sizeLb * 512).fill(0x77));
        for (const from of [["/merged"], paths]) {
          const read = await readVirtual(io, from, image, sizeLb, 8192);
          if (Buffer.compare(read, expected) !== 0) throw new Error(`${from} read virtually is not what was applied`);
        }
        const stats = await verifyDiff(io, "/merged");
        if (stats.normalRecords + stats.zeroRecords + stats.discardRecords === 0) throw new Error("nothing is left");
      },
    });
    expect(refused).toBeGreaterThan(rounds / 3);
    expect(taken).toBeGreaterThan(rounds / 50);
  }, 600_000);
}

test("a mutated sorted diff from a pipe is taken where it is taken as a file, and refused where it is refused", async () => {
  const valid = await diffBytes("sorted", 9);
  const { rounds, refused, taken } = await fuzz({
    share: 0.04,
    pools,
    attempt: async (random) => {
      const bytes = mutate(valid, random);
      if (random.chance(0.8)) repair(bytes, "sorted", random);
      io.disk.put("/diff", bytes);
      let refusal: unknown;
      const stats = await verifyDiff(io, "/diff").catch((error: unknown) => {
        refusal = error;
      });
      const { packs } = await readSortedStream(io, bytesInput(bytes, "/diff"));
      for (;;) {
        const step = await packs.next();
        if (!step.done) {
          step.value.release();
          continue;
        }
        // Only expanding an image can find more than the checksums of the stream do.
        if (stats === undefined) {
          if (refusal instanceof WalbError && refusal.code === "damaged") return;
          throw new Error("a stream is taken that is refused as a file", { cause: refusal });
        }
        if (!Bun.deepEquals(step.value, stats)) throw new Error("a stream has other counts than the file");
        return;
      }
    },
  });
  expect(refused).toBeGreaterThan(rounds / 3);
  expect(taken).toBeGreaterThan(rounds / 50);
}, 600_000);
