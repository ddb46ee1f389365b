import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

test("a path below a file is answered as nothing, not as an error", async () => {
  await withTemporaryDirectory(async (directory) => {
    const platform = createPlatform();
    writeFileSync(join(directory, "file"), "");
    expect(await platform.disk.info(join(directory, "file", "below"))).toBeUndefined();
    await closePlatform(platform);
  });
});
