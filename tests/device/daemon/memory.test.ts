import { afterAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { openDeviceDaemon } from "../../../src/device/user/daemon.ts";
import { asWalbError, type WalbError } from "../../../src/errors.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { mib } from "../../../src/units.ts";
import { withTemporaryDirectory } from "../../helpers/temporary.ts";

const platform = createPlatform({ memoryBudgetBytes: 512 * mib, threads: 2 });
afterAll(() => closePlatform(platform));

const failure = async (work: Promise<unknown>): Promise<WalbError> =>
  work.then(
    () => Promise.reject(new Error("it did not fail")),
    (error: unknown) => asWalbError(error),
  );

describe("a device daemon with little memory", () => {
  const open = (directory: string, budgetMib: number) =>
    openDeviceDaemon(
      { ...platform, memory: platform.memory.carve(budgetMib * mib) },
      {
        dataDir: join(directory, "data"),
        nbdListeners: [{ kind: "unix", path: join(directory, "nbd.sock") }],
        nodeId: "node0",
      },
    );

  test("does not start with too little, and says how much it needs", async () => {
    await withTemporaryDirectory(async (directory) => {
      const error = await failure(open(directory, 64));
      expect([error.code, error.what]).toEqual([
        "bad-parameter",
        "a device daemon needs 80 MiB of memory for data, but has 64 MiB",
      ]);
      expect(error.hint).toContain("--memory 80M");
    });
  });

  test("serves as many volumes as fit, refuses the next at once, and opens all of them again", async () => {
    await withTemporaryDirectory(async (directory) => {
      const create = (name: string) =>
        daemon.create({ name, sizeBytes: 4 * mib, logSizeBytes: 4 * mib }).then((report) => report.state);
      let daemon = await open(directory, 80);
      for (const name of ["a", "b", "c", "d"]) expect(await create(name)).toBe("running");
      const refused = await failure(create("e"));
      expect(refused.message).toContain("enough for 4 volumes");
      expect(refused.hint).toContain("--memory");
      await daemon.delete("b");
      expect(await create("e")).toBe("running");
      await daemon.close();
      daemon = await open(directory, 80);
      expect((await daemon.list()).map(({ name, state }) => `${name} ${state}`)).toEqual(
        ["a", "c", "d", "e"].map((name) => `${name} running`),
      );
      await daemon.close();
    });
  }, 300_000);
});
