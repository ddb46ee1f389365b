/** @module Images copied into sparse files: every byte as it is read in full, whatever is hole in base and diffs. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { catImage, dumpDiff } from "../../src/cli/files/lib/diff-ops.ts";
import { plainTool, type Tool } from "../../src/cli/files/lib/tool.ts";
import { SeededRandom } from "../../src/log/generate-random.ts";
import type { DiskFile } from "../../src/platform/disk.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { countFrom } from "../helpers/shards.ts";
import { walb } from "./tools.ts";

let directory = "";
const at = (name: string): string => join(directory, name);

/** Runs `work` with a file that is made; each tool carves its memory out of a platform of its own. */
async function making(name: string, work: (tool: Tool, file: DiskFile) => Promise<unknown>): Promise<void> {
  rmSync(at(name), { force: true });
  const platform = createPlatform({ memoryBudgetBytes: 128 * 1024 * 1024, threads: 2 });
  try {
    const file = await platform.disk.open(at(name), { mode: "create" });
    await work(plainTool(platform), file);
    await file.close();
  } finally {
    await closePlatform(platform);
  }
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-sparse-copy-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A base of up to 6 MiB with data here and there, also at its very end, which may lie in a block. */
function makeBase(dice: SeededRandom): Buffer {
  const sizeBytes = dice.between(0, 6 * 1024 * 1024);
  const bytes = Buffer.alloc(sizeBytes);
  writeFileSync(at("base"), "");
  truncateSync(at("base"), sizeBytes);
  const fd = openSync(at("base"), "r+");
  for (let n = dice.below(6); n > 0 && sizeBytes > 0; n -= 1) {
    const start = dice.below(sizeBytes);
    const data = bytes
      .subarray(start, Math.min(sizeBytes, start + dice.between(1, 300_000)))
      .fill(dice.between(1, 255));
    writeSync(fd, data, 0, data.length, start);
  }
  closeSync(fd);
  return bytes;
}

test("an image and a range of a diff are, as a sparse file, what they are when all of them is read", async () => {
  const seeds = countFrom("WALB_SPARSE_SEEDS", 60);
  let holes = 0;
  for (let seed = 1; seed <= seeds; seed += 1) {
    const dice = new SeededRandom(seed);
    makeBase(dice);
    const diffs = await Promise.all(
      [1, 2].map(async (n) => {
        const sizes = [
          "--size",
          "6M",
          "--log-size",
          `${dice.between(1, 200)}K`,
          "--max-discard",
          dice.chance(0.5) ? "64K" : "2M",
        ];
        await walb("wlog", "generate", "--seed", String(seed * 2 + n), ...sizes, "-o", at(`log${n}`), "--overwrite");
        const kind = dice.chance(0.5) ? ["--indexed"] : [];
        await walb("wlog", "to-wdiff", "-i", at(`log${n}`), ...kind, "-o", at(`diff${n}`), "--overwrite");
        return at(`diff${n}`);
      }),
    );
    const paths = diffs.slice(0, dice.between(0, 2));
    const sizeLb = 12288;
    const bulkBytes = [4096, 65536, 1024 * 1024][dice.below(3)]!;
    const made = async (name: string, size: number): Promise<Buffer> => {
      const info = statSync(at(name));
      holes += info.blocks * 512 < info.size ? 1 : 0;
      expect({ seed, name, size: info.size }).toEqual({ seed, name, size });
      return readFileSync(at(name));
    };
    const options = { sizeLb, bulkBytes };
    // What is written to a device has no holes: all of it is read.
    await making("full", (tool, file) => catImage(tool, at("base"), paths, asDevice(file), options));
    await making("sparse", (tool, file) => catImage(tool, at("base"), paths, file, options));
    const want = await made("full", sizeLb * 512);
    expect({ seed, same: (await made("sparse", sizeLb * 512)).equals(want) }).toEqual({ seed, same: true });
    if (paths.length === 0) continue;
    const addressLb = dice.below(sizeLb);
    const range = { addressLb, sizeLb: dice.between(0, sizeLb - addressLb + 1000) };
    await making("whole", (tool, file) =>
      catImage(tool, undefined, paths.slice(0, 1), asDevice(file), { sizeLb: 2 * sizeLb }),
    );
    await making("part", (tool, file) => dumpDiff(tool, paths[0]!, range, file));
    const expected = readFileSync(at("whole")).subarray(addressLb * 512, (addressLb + range.sizeLb) * 512);
    expect({ seed, same: (await made("part", range.sizeLb * 512)).equals(expected) }).toEqual({ seed, same: true });
  }
  expect(holes).toBeGreaterThan(seeds / 2);
}, 300_000);

function asDevice(file: DiskFile): DiskFile {
  return new Proxy(file, {
    get: (target, key) => {
      if (key === "isBlockDevice") return true;
      const value: unknown = Reflect.get(target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
