import { expect, test } from "bun:test";
import { join } from "node:path";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

async function run(command: string, directory: string): Promise<string> {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "large-image.ts"), command, directory], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, error] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${command} failed: ${error}`);
  return out;
}

test("a virtual image of 1 TiB with a million extents in two diffs is read within 256 MiB of memory", async () => {
  await withTemporaryDirectory(async (directory) => {
    await run("make", directory);
    const seen = JSON.parse(await run("read", directory)) as Record<string, number>;
    expect(seen).toMatchObject({ covered: 1_000_000, coveredLb: 8_000_000, wrong: 0, largeReads: 200 });
    expect(seen.probes).toBeGreaterThan(9000);
    expect(seen.rssMaxKib).toBeLessThan(256 * 1024);
  });
}, 300_000);
