import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { WalbError } from "../../src/errors.ts";
import type { Disk } from "../../src/platform/disk.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { mib } from "../../src/units.ts";
import { reserveName, SpaceReserve } from "../../src/volume/reserve.ts";
import { codeOf } from "../helpers/errors.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const platform = createPlatform({ memoryBudgetBytes: 16 * mib, threads: 2 });
afterAll(() => closePlatform(platform));

/** A disk some of whose methods are others. */
function withMethods(disk: Disk, methods: Partial<Disk>): Disk {
  return new Proxy(disk, {
    get: (target, name) => {
      const own: unknown = Reflect.get(methods, name);
      if (own !== undefined) return own;
      const member: unknown = Reflect.get(target, name);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}

/** A file system without fallocate. */
function withoutAllocate(disk: Disk): Disk {
  const open: Disk["open"] = async (path, options) => {
    const file = await disk.open(path, options);
    file.allocate = () => Promise.resolve(false);
    return file;
  };
  return withMethods(disk, { open });
}

for (const [what, disk, messages] of [
  ["is set aside", platform.disk, []],
  ["is written, and said to be, where the file system cannot set it aside", withoutAllocate(platform.disk), ["info"]],
] as const) {
  test(`the space kept back ${what}, and takes room on the disk`, async () => {
    await withTemporaryDirectory(async (directory) => {
      const levels: string[] = [];
      const log = { info: () => levels.push("info"), warn: () => levels.push("warn") };
      const reserve = new SpaceReserve(disk, directory, log, 2 * mib);
      await reserve.keep();
      await reserve.keep();
      expect(levels).toEqual([...messages]);
      const { size, blocks } = statSync(`${directory}/${reserveName}`);
      expect(size).toBe(2 * mib);
      expect(blocks * 512).toBeGreaterThanOrEqual(2 * mib);
      let isThere = true;
      await reserve.forFreeing(async () => {
        isThere = existsSync(`${directory}/${reserveName}`);
      });
      // There is enough room: it is not given up.
      expect(isThere).toBe(true);
    });
  });
}

test("the space kept back is free when the work begins, where what is removed is free only with the next transaction", async () => {
  await withTemporaryDirectory(async (directory) => {
    const totalBytes = 64 * mib;
    let [freeBytes, pendingBytes] = [8 * mib, 0];
    const disk = withMethods(platform.disk, {
      freeSpace: () => Promise.resolve({ freeBytes, totalBytes }),
      remove: async (path) => {
        pendingBytes += statSync(path).size;
        await platform.disk.remove(path);
      },
      syncFileSystem: async (path) => {
        await platform.disk.syncFileSystem!(path);
        freeBytes += pendingBytes;
        pendingBytes = 0;
      },
    });
    const reserve = new SpaceReserve(disk, directory, { info() {}, warn() {} }, 2 * mib);
    await reserve.keep();
    freeBytes = 0;
    expect(await reserve.forFreeing(async () => freeBytes)).toBe(2 * mib);
  });
});

describe("where what is said to be free is not", () => {
  const quiet = { info() {}, warn() {} };
  const noSpace = (cause?: Error, file?: string) =>
    new WalbError("no-space", {
      what: "no space left",
      ...(cause === undefined ? {} : { cause }),
      ...(file === undefined ? {} : { where: { file } }),
    });

  test("work whose write finds no space is begun once more, with the space kept back", async () => {
    await withTemporaryDirectory(async (directory) => {
      const reserve = new SpaceReserve(platform.disk, directory, quiet, 2 * mib);
      await reserve.keep();
      const found: boolean[] = [];
      const work = async (): Promise<string> => {
        found.push(existsSync(`${directory}/${reserveName}`));
        if (found.length === 1) throw noSpace(new Error("ENOSPC"));
        return "done";
      };
      expect(await reserve.forFreeing(work)).toBe("done");
      expect(found).toEqual([true, false]);
      expect(existsSync(`${directory}/${reserveName}`)).toBe(true);
    });
  });

  for (const [what, error] of [
    ["was refused for what it would need", noSpace()],
    ["found no space in a volume group", noSpace(new Error("ENOSPC"), "/dev/vg/wb_a")],
    ["failed for another reason", new WalbError("io", { what: "write failed", cause: new Error("EIO") })],
  ] as const) {
    test(`work that ${what} is not begun again`, async () => {
      await withTemporaryDirectory(async (directory) => {
        const reserve = new SpaceReserve(platform.disk, directory, quiet, 2 * mib);
        await reserve.keep();
        let count = 0;
        const work = async (): Promise<void> => {
          count++;
          throw error;
        };
        expect(await codeOf(reserve.forFreeing(work))).toBe(error.code);
        expect(count).toBe(1);
      });
    });
  }

  test("as much is kept back as can be", async () => {
    await withTemporaryDirectory(async (directory) => {
      const open: Disk["open"] = async (path, options) => {
        const file = await platform.disk.open(path, options);
        const allocate = file.allocate?.bind(file);
        file.allocate = async (offsetBytes, sizeBytes) => {
          if (sizeBytes > mib) throw noSpace(new Error("ENOSPC"));
          return (await allocate?.(offsetBytes, sizeBytes)) ?? false;
        };
        return file;
      };
      const reserve = new SpaceReserve(withMethods(platform.disk, { open }), directory, quiet, 2 * mib);
      await reserve.keep();
      expect(statSync(`${directory}/${reserveName}`).size).toBe(mib);
    });
  });
});
