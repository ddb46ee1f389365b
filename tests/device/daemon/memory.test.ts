import { afterAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { openDeviceDaemon } from "../../../src/device/user/daemon.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { mib } from "../../../src/units.ts";
import { failureOf } from "../../helpers/errors.ts";
import { withTemporaryDirectory } from "../../helpers/temporary.ts";
import { RawNbd, request } from "../nbd/raw.ts";

const platform = createPlatform({ memoryBudgetBytes: 512 * mib, threads: 2 });
afterAll(() => closePlatform(platform));

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
      const error = await failureOf(open(directory, 64));
      expect([error.code, error.what]).toEqual([
        "bad-parameter",
        "a device daemon needs 80 MiB of memory for data, but has 64 MiB",
      ]);
      expect(error.hint).toContain("--memory 80M");
    });
  });

  test("answers reads of a frozen volume, however much is written to it meanwhile", async () => {
    await withTemporaryDirectory(async (directory) => {
      const daemon = await open(directory, 80);
      await daemon.create({ name: "a", sizeBytes: 128 * mib, logSizeBytes: 256 * mib });
      const address = daemon.nbdAddresses[0]!;
      const writers = await Promise.all(Array.from({ length: 4 }, () => RawNbd.go(platform.net, address, "a")));
      await daemon.freeze("a");
      for (const [i, writer] of writers.entries()) {
        const writes = Array.from({ length: 32 }, (_, n) =>
          request(1, n, (i * 32 + n) * mib, mib, 0, Buffer.alloc(mib, 7)),
        );
        writer.send(Buffer.concat(writes));
      }
      await Bun.sleep(500);
      const reader = await RawNbd.go(platform.net, address, "a");
      for (const sizeBytes of [4096, mib]) {
        reader.send(request(0, 1, 0, sizeBytes));
        expect((await reader.reply(1, sizeBytes)).error).toBe(0);
      }
      await daemon.melt("a");
      for (const writer of writers) for (let n = 0; n < 32; n++) expect((await writer.reply(n)).error).toBe(0);
      for (const client of [...writers, reader]) client.connection.close();
      await daemon.close();
    });
  }, 60_000);

  test("serves as many volumes as fit, refuses the next at once, and opens all of them again", async () => {
    await withTemporaryDirectory(async (directory) => {
      const create = (name: string) =>
        daemon.create({ name, sizeBytes: 4 * mib, logSizeBytes: 4 * mib }).then((report) => report.state);
      let daemon = await open(directory, 80);
      for (const name of ["a", "b", "c", "d"]) expect(await create(name)).toBe("running");
      const refused = await failureOf(create("e"));
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
