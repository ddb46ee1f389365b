/** @module Listing a wlog passes over data in files that it reads in pipes: both tell the same, wherever the log is cut. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { withInput } from "../../src/cli/files/lib/paths.ts";
import { plainTool } from "../../src/cli/files/lib/tool.ts";
import { showWlog, type WlogShowOptions } from "../../src/cli/files/lib/wlog-show.ts";
import { asWalbError } from "../../src/errors.ts";
import { generateWlogBytes } from "../../src/log/generate.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";
import { bytesInput } from "../helpers/wlogs.ts";

type Walk = (options: WlogShowOptions) => Promise<number>;

/** All that is told of an input, its end included. */
async function told(walk: Walk, checkData: boolean): Promise<unknown[]> {
  const lines: unknown[] = [];
  try {
    await walk({
      checkData,
      onHeader: (header) => lines.push(header),
      onPack: ({ header, offsetBytes, badData }) => lines.push([header, offsetBytes, badData]),
      onEnd: (counts) => lines.push({ ...counts }),
    });
  } catch (error) {
    lines.push(asWalbError(error).toJSON());
  }
  return lines;
}

test("a wlog in a file is listed as in a pipe, whole and cut anywhere, with and without its data", async () => {
  const platform = createPlatform({ memoryBudgetBytes: 64 * 1024 * 1024, threads: 2 });
  const tool = plainTool(platform);
  try {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "log");
      const workload = { deviceBytes: 1024 * 1024, maxIoBytes: 65536, logBytes: 300_000, pbsBytes: 4096 };
      const { bytes: one } = generateWlogBytes(workload, 7);
      const bytes = new Uint8Array(Buffer.concat([one, one]));
      let damaged = 0;
      for (let cut = bytes.length; cut >= 0; cut -= 2999) {
        const part = bytes.slice(0, cut);
        writeFileSync(path, part);
        for (const checkData of [false, true]) {
          const fromFile = await told(
            (options) => withInput(platform.disk, path, (input) => showWlog(tool, input, options)),
            checkData,
          );
          const fromPipe = await told((options) => showWlog(tool, bytesInput(part, path), options), checkData);
          expect({ cut, checkData, lines: fromFile }).toEqual({ cut, checkData, lines: fromPipe });
          if ("code" in (fromFile.at(-1) as object)) damaged += 1;
        }
      }
      expect(damaged).toBeGreaterThan(50);
    });
  } finally {
    await closePlatform(platform);
  }
}, 120_000);
