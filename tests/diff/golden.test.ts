import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { applyDiffs } from "../../src/diff/apply.ts";
import { IndexedDiffWriter, SortedDiffConverter } from "../../src/diff/convert.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { writeMerged } from "../../src/diff/output.ts";
import { type DiffSet, openDiffSet } from "../../src/diff/set.ts";
import { RecordKind } from "../../src/diff/types.ts";
import { verifyDiff } from "../../src/diff/verify.ts";
import { VirtualImage } from "../../src/diff/virtual.ts";
import { decodePackHeader, isEndBlock, recordDataPb } from "../../src/log/pack.ts";
import { uuidBytes } from "../../src/log/superblock.ts";
import { decodeWlogHeader } from "../../src/log/wlogheader.ts";
import { Codec, type CompressOption, codecNames } from "../../src/native/codec.ts";
import { io, listRecords, vectorsDirectory } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const directory = vectorsDirectory();
const vector = (name: string): string => join(directory ?? "", name);
const hashOf = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");

async function withSet<T>(paths: readonly string[], use: (set: DiffSet) => Promise<T>): Promise<T> {
  const set = await openDiffSet(io, paths);
  try {
    return await use(set);
  } finally {
    await set.close();
  }
}

/** Records in the words of the original's listing; without the columns we do not keep. */
function listing({ records, sources }: DiffSet): string[] {
  const isSorted = sources[0]!.kind === 0;
  return Array.from({ length: records.count }, (_, i) => {
    const kind = records.kind[i]!;
    const flags = kind === RecordKind.allZero ? "Z-" : kind === RecordKind.discard ? "-D" : "--";
    const sum = records.checksum[i]!.toString(16).padStart(8, "0");
    const head = [records.addressLb[i]!, records.blocksLb[i]!, codecNames[records.codec[i]!]!];
    if (kind !== RecordKind.normal) return [...head, flags].join(" ");
    const stored = records.storedBytes[i]!;
    if (isSorted) return [...head, stored, sum, flags].join(" ");
    return [...head, records.dataOffset[i]!, stored, records.imageLb[i]!, records.sliceLb[i]!, sum, flags].join(" ");
  });
}

/** The same from the original's text. */
function shownListing(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => /^wdiff_(sorted|indexed)_rec:/.test(line))
    .map((line) => {
      const columns = line.split("\t");
      const flags = columns.at(-1)!;
      const head = columns.slice(1, 4);
      if (flags !== "--") return [...head, flags].join(" ");
      // sorted: offset in the pack, size, checksum; indexed: offset, size, image, slice, checksum, record's checksum.
      return columns.length === 8
        ? [...head, ...columns.slice(5, 7), flags].join(" ")
        : [...head, ...columns.slice(4, 9), flags].join(" ");
    });
}

async function redo(imagePath: string, diff: string, sizeBytes: number, isZero: boolean): Promise<void> {
  const image = await io.disk.open(imagePath, { mode: "write" });
  await withSet([diff], async (set) => {
    const discard = isZero ? "zero" : "ignore";
    await applyDiffs(io, set, planMerge(set.records), image, { sizeLb: sizeBytes / 512, discard });
  });
  await image.close();
}

interface ImageEntry {
  readonly input: string;
  readonly command: string;
  readonly init: "zero" | "ff" | "-";
  readonly image_size: number;
  readonly sha256: string;
}

describe.skipIf(directory === undefined)("files of the original", () => {
  const shown = ["wdiff", "cmpr", "merge", "full"].flatMap((part) =>
    directory === undefined
      ? []
      : readdirSync(vector(part))
          .filter((name) => name.endsWith(".show.txt"))
          .map((name) => `${part}/${name}`),
  );

  test("have the records the original lists, and its counts", async () => {
    expect(shown.length).toBeGreaterThan(60);
    for (const name of shown) {
      const text = readFileSync(vector(name), "utf8");
      await withSet([vector(name.replace(".show.txt", ""))], async (set) => {
        expect([name, ...listing(set)]).toEqual([name, ...shownListing(text)]);
        expect(Buffer.from(set.uuid).toString("hex")).toBe(/uuid: ([0-9a-f]+)/.exec(text)![1]!);
        const stat = (field: string): number => Number(new RegExp(`${field} (\\d+)`).exec(text)![1]);
        expect([name, set.stats.normalRecords, set.stats.zeroRecords, set.stats.discardRecords]).toEqual([
          name,
          stat("normalNr"),
          stat("allZeroNr"),
          stat("discardNr"),
        ]);
        expect([set.stats.normalLb, set.stats.discardLb]).toEqual([stat("normalLb"), stat("discardLb")]);
        expect(await verifyDiff(io, set.sources[0]!.path)).toEqual(set.stats);
        expect([name, set.stats.dataBytes]).toEqual([name, stat("dataSize")]);
      });
    }
  });

  test("give the original's images: over zeroes and ones, with discards zeroed and ignored, and read virtually", async () => {
    const entries = JSON.parse(readFileSync(vector("images.json"), "utf8")) as ImageEntry[];
    let redone = 0;
    let read = 0;
    await withTemporaryDirectory(async (temporary) => {
      const imagePath = join(temporary, "image");
      for (const entry of entries) {
        const names = entry.command.match(/\S+\.(wdiff|img)\b/g) ?? [];
        if (names.some((name) => name.includes("/") && !existsSync(vector(name)))) continue;
        const bytes = new Uint8Array(entry.image_size);
        if (entry.command.startsWith("wdiff-redo")) {
          writeFileSync(imagePath, bytes.fill(entry.init === "ff" ? 0xff : 0));
          for (const part of entry.command.split(" && ")) {
            const diff = /-i (\S+)/.exec(part)![1]!;
            await redo(imagePath, vector(diff), entry.image_size, part.includes(" -z "));
          }
          expect([entry.command, entry.init, hashOf(readFileSync(imagePath))]).toEqual([
            entry.command,
            entry.init,
            entry.sha256,
          ]);
          redone++;
        } else if (entry.command.startsWith("virt-full-cat")) {
          const diffs = (/-d (.*)/.exec(entry.command)?.[1] ?? "").split(" ").filter((name) => name !== "");
          const base = await io.disk.open(vector("full/base.img"), { mode: "read" });
          const lease = await io.memory.lease(entry.image_size);
          await withSet(diffs.map(vector), async (set) => {
            const sizeLb = entry.image_size / 512;
            const image = await VirtualImage.open(io, set, planMerge(set.records), base, { sizeLb });
            await image.read(0, lease);
          });
          expect([entry.command, hashOf(lease.bytes)]).toEqual([entry.command, entry.sha256]);
          lease.release();
          await base.close();
          read++;
        }
      }
    });
    expect(redone).toBeGreaterThan(200);
    expect(read).toBeGreaterThan(3);
  });

  test("merge into the records the original's merge has", async () => {
    const manifest = readFileSync(vector("MANIFEST.md"), "utf8");
    let merged = 0;
    for (const [, options, inputs, output] of manifest.matchAll(/`wdiff-merge (.*?)-i (\S+(?: \S+)*?) -o (\S+)`/g)) {
      const paths = inputs!.split(" ").map(vector);
      if (!paths.every((path) => existsSync(path)) || !output!.endsWith(".wdiff")) continue;
      const size = /-x (\d+)K/.exec(options!)?.[1];
      const codec = /-cmpr (\w+):/.exec(options!)?.[1];
      const compress = { codec: Codec[(codec ?? "snappy") as keyof typeof Codec], level: 0 };
      await withTemporaryDirectory(async (temporary) => {
        const ours = join(temporary, "merged");
        await withSet(paths, async (set) => {
          const file = await io.disk.open(ours, { mode: "create" });
          const maxIoLb = size === undefined ? 0 : Number(size) * 2;
          await writeMerged(io, set, planMerge(set.records, { maxIoLb }), file, { compress });
          await file.close();
        });
        expect([output, ...(await listRecords(ours))]).toEqual([output, ...(await listRecords(vector(output!)))]);
      });
      merged++;
    }
    expect(merged).toBeGreaterThanOrEqual(5);
  });

  test("come out of the same logs byte for byte", async () => {
    const manifest = readFileSync(vector("MANIFEST.md"), "utf8");
    let converted = 0;
    for (const [, options, input, output] of manifest.matchAll(/`wlog-to-wdiff (.*?)-i (\S+) -o (\S+)`/g)) {
      if (!existsSync(vector(input!)) || !existsSync(vector(output!))) continue;
      const size = /-x (\d+)(K?)/.exec(options!);
      // The original takes the limit in bytes and rounds down to blocks.
      const maxIoLb = size === null ? 2048 : Math.floor((Number(size[1]) * (size[2] === "K" ? 1024 : 1)) / 512);
      await withTemporaryDirectory(async (temporary) => {
        const ours = join(temporary, "diff");
        await convertLog(vector(input!), ours, options!.includes("-indexed"), maxIoLb);
        await withSet([ours], (mine) =>
          withSet([vector(output!)], async (theirs) => {
            expect([output, ...listing(mine)]).toEqual([output!, ...listing(theirs)]);
          }),
        );
        expect([output, hashOf(readFileSync(ours))]).toEqual([output!, hashOf(readFileSync(vector(output!)))]);
      });
      converted++;
    }
    expect(converted).toBeGreaterThan(10);
  });

  test("that are damaged are refused, with the file named; so are those cut at a pack boundary", async () => {
    for (const name of readdirSync(vector("corrupt")).filter((file) => file.endsWith(".wdiff"))) {
      await withTemporaryDirectory(async (temporary) => {
        writeFileSync(join(temporary, "image"), new Uint8Array(1048576));
        const outcome = redo(join(temporary, "image"), vector(`corrupt/${name}`), 1048576, true);
        await expect(outcome).rejects.toMatchObject({ name: "WalbError" });
        const error = await outcome.catch((reason: Error) => reason);
        expect(String(error)).toContain(name);
        await expect(verifyDiff(io, vector(`corrupt/${name}`))).rejects.toMatchObject({ name: "WalbError" });
      });
    }
  });

  test("are taken without their end pack when asked", async () => {
    const set = await openDiffSet(io, [vector("corrupt/s-noend.wdiff")], { lenient: true });
    expect(set.records.count).toBe(13);
    await set.close();
  });
});

/** Converts a wlog file, pack after pack. */
async function convertLog(path: string, target: string, isIndexed: boolean, maxIoLb: number): Promise<void> {
  const bytes = readFileSync(path);
  const { pbsBytes, salt, uuid } = decodeWlogHeader(bytes, path);
  const compress: CompressOption = { codec: Codec.snappy, level: 0 };
  const options = { uuid: uuidBytes(uuid), maxIoLb, compress };
  const file = await io.disk.open(target, { mode: "create" });
  const spool = await io.disk.open(`${target}.spool`, { mode: "create" });
  const writer = isIndexed
    ? await IndexedDiffWriter.create(io, file, options)
    : new SortedDiffConverter(io, spool, options);
  for (let at = 4096; !isEndBlock(bytes.subarray(at, at + pbsBytes)); ) {
    const { records } = decodePackHeader(bytes.subarray(at, at + pbsBytes), { pbsBytes, salt });
    at += pbsBytes;
    const dataBytes = records.reduce((sum, record) => sum + recordDataPb(record, pbsBytes) * pbsBytes, 0);
    const lease = await io.memory.lease(Math.max(1, dataBytes));
    lease.bytes.set(bytes.subarray(at, at + dataBytes));
    let dataAt = 0;
    await writer.add(
      records.map((record) => {
        const data = lease.slice(dataAt, recordDataPb(record, pbsBytes) * pbsBytes);
        dataAt += data.sizeBytes;
        return { ...record, data };
      }),
    );
    lease.release();
    at += dataBytes;
  }
  await (writer instanceof IndexedDiffWriter ? writer.finish() : writer.finish(file));
  await file.close();
  await spool.close();
}
