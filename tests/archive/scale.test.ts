import { expect, test } from "bun:test";
import { linkSync, readdirSync, readFileSync, rmSync } from "node:fs";
import type { Disk } from "../../src/platform/disk.ts";
import { diffFileName } from "../../src/snapshot/filename.ts";
import { diffMeta, snapshot } from "../../src/snapshot/types.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { startS } from "./peers.ts";
import { archived, deliver, platform, withArchive } from "./real.ts";

/** More with WALB_ARCHIVE_DIFFS=10000. */
const diffCount = Number(process.env.WALB_ARCHIVE_DIFFS ?? 1_000);

/** A disk that knows how many files are open, and were at most. */
function countingDisk(disk: Disk): { readonly disk: Disk; readonly most: () => number; readonly opens: () => number } {
  let count = 0;
  let most = 0;
  let opens = 0;
  const open: Disk["open"] = async (path, options) => {
    opens++;
    const file = await disk.open(path, options);
    most = Math.max(most, ++count);
    let isOpen = true;
    const close = file.close.bind(file);
    file.close = async () => {
      if (isOpen) count--;
      isOpen = false;
      await close();
    };
    return file;
  };
  // Methods with private state work only on the disk itself.
  const counted = new Proxy(disk, {
    get: (target, name) => {
      const member: unknown = name === "open" ? open : Reflect.get(target, name);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
  return { disk: counted, most: () => most, opens: () => opens };
}

test(`a volume with ${diffCount} diffs is rebuilt, listed, verified, restored and applied with few files open`, async () => {
  await withArchive(async (scene) => {
    const history = new History(4000, 9);
    for (let i = 0; i < 40; i++) history.step();
    await archived(scene, history);
    for (let gid = 0; gid < 40; gid++) await deliver(scene, history, gid, gid + 1);
    await scene.role.close("graceful");
    const directory = `${scene.data}/vol0`;
    const files = readdirSync(directory).filter((name) => name.endsWith(".wdiff"));
    const last = files.find((name) => name.includes("-39-40."));
    // The last diff again and again: it changes nothing any more.
    for (let gid = 40; gid < diffCount; gid++) {
      const ends = { from: snapshot(BigInt(gid)), to: snapshot(BigInt(gid + 1)) };
      const name = diffFileName(diffMeta({ ...ends, isMergeable: true, timestampS: startS + gid + 1 }));
      linkSync(`${directory}/${last}`, `${directory}/${name}`);
    }
    for (const suffix of ["", "-wal", "-shm"]) rmSync(`${directory}/volume.db${suffix}`, { force: true });
    const { disk, most, opens } = countingDisk(platform.disk);
    const memory = platform.memory.carve(400 * 1024 * 1024);
    scene.role = await openTestArchive({ ...platform, disk, memory }, scene.data);
    const { control } = scene.role;
    expect(await gidsOf(control)).toHaveLength(diffCount + 1);
    expect(await statusOf(control)).toMatchObject({ wdiffCount: diffCount, latest: `|${diffCount}|` });
    expect(await run(control, "verify", { volume: "vol0" })).toMatchObject({ checkedCount: diffCount, damage: [] });
    const to = `${scene.directory}/out.img`;
    for (const gid of [20, diffCount - 1, diffCount]) {
      const before = opens();
      await run(control, "restore", { volume: "vol0", to, gid, overwrite: true });
      expectSame(readFileSync(to), history.at(Math.min(gid, 40)), `gid ${gid}`);
      // The index of each diff is read once; data is read of few of them.
      expect(opens() - before).toBeLessThan(gid + 200);
    }
    await run(control, "merge", { volume: "vol0", fromGid: 30, toGid: diffCount - 10 });
    await run(control, "apply", { volume: "vol0", gid: 25 });
    expect((await gidsOf(control)).slice(0, 7)).toEqual([25, 26, 27, 28, 29, 30, diffCount - 10]);
    await run(control, "restore", { volume: "vol0", to, overwrite: true });
    expectSame(readFileSync(to), history.at(40), "after merge and apply");
    expect(most()).toBeLessThan(80);
  });
}, 300_000);
