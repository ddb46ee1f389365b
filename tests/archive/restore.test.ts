import { describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { RecordKind } from "../../src/diff/types.ts";
import { codeOf } from "../helpers/errors.ts";
import { expectSame, gidsOf, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendDiff, sendImage, startS } from "./peers.ts";
import { archived, deliver, platform, restored, type Scene, withArchive } from "./real.ts";

describe("a restore", () => {
  async function filled(scene: Scene): Promise<History> {
    const history = new History(3000, 21);
    for (let i = 0; i < 8; i++) history.step();
    await archived(scene, history);
    for (const gid of [2, 4, 5, 8]) {
      const from = [0, 2, 4, 5][[2, 4, 5, 8].indexOf(gid)]!;
      expect(await deliver(scene, history, from, gid, { isMergeable: gid !== 5 })).toBe("accept");
    }
    return history;
  }

  test("picks the newest point that is not after a time, and says which are near when there is none", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const at = async (atS: number) => restored(scene, { atMs: atS * 1000 + 999 });
      expectSame(await at(startS + 5), history.at(5), "exactly");
      expectSame(await at(startS + 7), history.at(5), "between");
      expectSame(await at(startS + 1000), history.at(8), "later");
      expectSame(await restored(scene), history.at(8), "newest");
      const to = `${scene.directory}/never`;
      const early = run(scene.role.control, "restore", { volume: "vol0", to, atMs: (startS - 1) * 1000 });
      await expect(early).rejects.toThrow(/nearest is after it gid 0 \(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)/);
      await expect(early).rejects.toMatchObject({
        hint: expect.stringContaining("walb snapshots vol0 --server a0 --all"),
      });
      const between = run(scene.role.control, "restore", { volume: "vol0", to, gid: 6 });
      await expect(between).rejects.toThrow(/before it gid 5.*after it gid 8/);
      expect(existsSync(to)).toBe(false);
    });
  });

  test("refuses what it would overwrite and paths among the backups, and replaces only when told to", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const to = `${scene.directory}/there.img`;
      writeFileSync(to, "precious");
      const { control } = scene.role;
      expect(await codeOf(run(control, "restore", { volume: "vol0", to }))).toBe("already-exists");
      expect(readFileSync(to, "utf8")).toBe("precious");
      await run(control, "restore", { volume: "vol0", to, overwrite: true, gid: 4 });
      expectSame(readFileSync(to), history.at(4), "overwritten");
      for (const path of [`${scene.data}/x`, `${scene.data}/vol0/../y`, scene.directory]) {
        expect(await codeOf(run(control, "restore", { volume: "vol0", to: path, overwrite: true }))).toBe(
          "bad-parameter",
        );
      }
      expect(await codeOf(run(control, "restore", { volume: "vol0", to: `${scene.directory}/no/x` }))).toBe(
        "not-found",
      );
      expect(readdirSync(scene.directory).filter((name) => name.includes("partial"))).toEqual([]);
    });
  });

  test("never touches a backup, by whatever links the path leads there", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const { control } = scene.role;
      const base = `${scene.data}/vol0/base.img`;
      const diff = readdirSync(`${scene.data}/vol0`).find((name) => name.endsWith(".wdiff"))!;
      const before = readFileSync(base);
      mkdirSync(`${scene.directory}/out`);
      symlinkSync(scene.data, `${scene.directory}/out/data`);
      symlinkSync(`${scene.data}/vol0`, `${scene.directory}/out/volume`);
      symlinkSync("volume", `${scene.directory}/out/again`);
      symlinkSync(base, `${scene.directory}/out/image`);
      symlinkSync(`${scene.data}/vol0/new.img`, `${scene.directory}/out/dangling`);
      linkSync(base, `${scene.directory}/out/hard`);
      linkSync(`${scene.data}/vol0/${diff}`, `${scene.directory}/out/hard-diff`);
      const names = ["data/x", "data/vol0/base.img", "volume/base.img", "again/base.img", "image", "dangling"];
      for (const name of [...names, "volume/new", "hard", "hard-diff"]) {
        for (const dryRun of [false, true]) {
          const request = { volume: "vol0", to: `${scene.directory}/out/${name}`, overwrite: true, dryRun };
          expect([name, await codeOf(run(control, "restore", request))]).toEqual([name, "bad-parameter"]);
        }
      }
      expectSame(readFileSync(base), before, "the base image");
      expectSame(await restored(scene), history.at(8), "newest");
      // Parts of the data may be elsewhere themselves.
      renameSync(`${scene.data}/vol0`, `${scene.directory}/elsewhere`);
      symlinkSync(`${scene.directory}/elsewhere`, `${scene.data}/vol0`);
      const to = `${scene.directory}/elsewhere/base.img`;
      expect(await codeOf(run(control, "restore", { volume: "vol0", to, overwrite: true }))).toBe("bad-parameter");
      expectSame(readFileSync(base), before, "the base image elsewhere");
    });
  });

  test("follows a link to its target, and refuses files that another process has in use", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const { control } = scene.role;
      const link = `${scene.directory}/link`;
      const real = `${scene.directory}/real.img`;
      symlinkSync("real.img", link);
      await run(control, "restore", { volume: "vol0", to: link });
      expect(lstatSync(link).isSymbolicLink()).toBe(true);
      expectSame(readFileSync(real), history.at(8), "through a link to nothing");
      expect(await codeOf(run(control, "restore", { volume: "vol0", to: link }))).toBe("already-exists");
      await run(control, "restore", { volume: "vol0", to: link, gid: 4, overwrite: true });
      expect(lstatSync(link).isSymbolicLink()).toBe(true);
      expectSame(readFileSync(real), history.at(4), "through a link");
      const store = await platform.disk.open(real, { mode: "write", lock: true });
      const refused = codeOf(run(control, "restore", { volume: "vol0", to: link, overwrite: true }));
      expect(await refused).toBe("locked");
      await store.close();
      expectSame(readFileSync(real), history.at(4), "what was in use");
    });
  });

  test("tells in a dry run what it takes, and writes nothing", async () => {
    await withArchive(async (scene) => {
      await filled(scene);
      const to = `${scene.directory}/dry.img`;
      const dry = await run(scene.role.control, "restore", { volume: "vol0", to, dryRun: true });
      expect(dry).toMatchObject({ gid: 8n, sizeBytes: 3000 * 512, timeMs: (startS + 8) * 1000 });
      expect(Number(dry.bytes)).toBeGreaterThan(0);
      expect(Number(dry.estimateMs)).toBeGreaterThan(0);
      expect(dry.isVerified).toBe(false);
      expect(existsSync(to)).toBe(false);
      const real = await run(scene.role.control, "restore", { volume: "vol0", to });
      expect(real.isVerified).toBe(true);
      expect(Number(real.bytes)).toBeGreaterThan(0);
    });
  });

  test("that meets a damaged diff names it, what it costs and what is left, and leaves no file", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const file = readdirSync(`${scene.data}/vol0`).find((name) => name.endsWith("-4-5.wdiff"))!;
      const path = `${scene.data}/vol0/${file}`;
      const bytes = readFileSync(path);
      bytes[32 + 4096 + 3]! ^= 0x40;
      writeFileSync(path, bytes);
      const to = `${scene.directory}/damaged.img`;
      const failing = run(scene.role.control, "restore", { volume: "vol0", to, gid: 8 });
      await expect(failing).rejects.toThrow(/gid 5 .*gid 8 .*still restorable: gid 0 .*gid 2 .*gid 4/);
      await expect(failing).rejects.not.toThrow(/points are lost.*points are lost/);
      await expect(failing).rejects.toMatchObject({
        hint: expect.stringMatching(
          /walb restore vol0 --server a0 --snapshot GID.*second archive: walb stop vol0 --server a0, walb reset vol0 --server a0, walb replicate vol0 --to a0; .*walb stop vol0, walb reset vol0, walb start vol0, walb backup vol0$/,
        ),
      });
      expect(await codeOf(run(scene.role.control, "restore", { volume: "vol0", to, gid: 5 }))).toBe("damaged");
      expect(readdirSync(scene.directory).filter((name) => name.startsWith("damaged"))).toEqual([]);
      expectSame(await restored(scene, { gid: 4 }), history.at(4), "what is left");
      expect(await deliver(scene, history, 8, history.step())).toBe("accept");
      expect((await statusOf(scene.role.control)).trouble).toMatchObject({ code: "damaged" });
      // An apply finds it before the image is touched: what was restorable stays so.
      expect(await codeOf(run(scene.role.control, "apply", { volume: "vol0", gid: 8 }))).toBe("damaged");
      expectSame(await restored(scene, { gid: 2 }), history.at(2), "after the refused apply");
      bytes[32 + 4096 + 3]! ^= 0x40;
      writeFileSync(path, bytes);
      expectSame(await restored(scene), history.at(9), "with the file put right");
      expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
    });
  });

  test("that meets a diff of another volume under the name of its own refuses it", async () => {
    await withArchive(async (scene) => {
      const history = new History(1000, 6);
      for (let i = 0; i < 3; i++) history.step();
      await archived(scene, history);
      const { control } = scene.role;
      const other = { volume: "vol1", uuid: "a".repeat(32) };
      await run(control, "init", { volume: "vol1" });
      await sendImage(scene.peer, history.at(0), { ...other, gidE: 0n });
      for (let gid = 0; gid < 3; gid++) {
        expect(await deliver(scene, history, gid, gid + 1)).toBe("accept");
        expect(await deliver(scene, history, gid, gid + 1, other)).toBe("accept");
      }
      const name = readdirSync(`${scene.data}/vol0`).find((file) => file.endsWith("-1-2.wdiff"))!;
      copyFileSync(`${scene.data}/vol1/${name}`, `${scene.data}/vol0/${name}`);
      const failed = run(control, "restore", { volume: "vol0", to: `${scene.directory}/no.img` });
      await expect(failed).rejects.toThrow(/is of the log a{32}.* gid 2 .*still restorable: gid 0/);
      expectSame(await restored(scene, { gid: 1 }), history.at(1), "before it");
      const { damage } = await run(control, "verify", { volume: "vol0" });
      expect(damage).toMatchObject([{ file: name, message: expect.stringContaining("is of the log aaaa") }]);
      // Of a share those are read first that were not good the last time.
      const part = await run(control, "verify", { volume: "vol0", subsetPercent: 1 });
      expect(part).toMatchObject({ checkedCount: 1, checkedBytes: statSync(`${scene.data}/vol0/${name}`).size });
      expect(part.damage).toMatchObject([{ file: name, message: expect.stringContaining("is of the log aaaa") }]);
    });
  });

  test("is proved by verify, which finds a diff of the same log under the name of another", async () => {
    await withArchive(async (scene) => {
      const history = new History(1000, 16);
      for (let i = 0; i < 3; i++) history.step();
      await archived(scene, history);
      const { control } = scene.role;
      for (let gid = 0; gid < 3; gid++) await deliver(scene, history, gid, gid + 1);
      const names = readdirSync(`${scene.data}/vol0`).filter((file) => file.endsWith(".wdiff"));
      const [first, last] = ["-0-1.wdiff", "-2-3.wdiff"].map((end) => names.find((name) => name.endsWith(end))!);
      copyFileSync(`${scene.data}/vol0/${first}`, `${scene.data}/vol0/${last}`);
      const { damage } = await run(control, "verify", { volume: "vol0" });
      const message = expect.stringMatching(/was registered under this name.*lost: gid 3/);
      expect(damage).toMatchObject([{ file: last, message }]);
    });
  });

  test("of a volume that was largely rewritten copies only what the diffs leave of the base image", async () => {
    await withArchive(async (scene) => {
      const sizeLb = 16 * 2048;
      const image = new Uint8Array(sizeLb * 512).fill(3, 0, 6 * 1024 * 1024);
      await run(scene.role.control, "init", { volume: "vol0" });
      await sendImage(scene.peer, image, { gidE: 0n, bulkLb: 128 });
      const data = (lb: number) => new Uint8Array(lb * 512).fill(5);
      const records = [
        { addressLb: 9, blocksLb: 4000, kind: RecordKind.normal, data: data(4000) },
        { addressLb: 4009, blocksLb: 4000, kind: RecordKind.allZero, data: new Uint8Array(4000 * 512) },
        { addressLb: 8100, blocksLb: 900, kind: RecordKind.discard, data: new Uint8Array(900 * 512) },
        { addressLb: 11 * 2048, blocksLb: 3000, kind: RecordKind.normal, data: data(3000) },
      ];
      await sendDiff(scene.peer, 0, 1, records, { sizeLb });
      expectSame(await restored(scene, { gid: 0 }), image, "gid 0");
      for (const record of records) image.set(record.data, record.addressLb * 512);
      expectSame(await restored(scene), image, "gid 1");
    });
  });

  test("goes on while diffs arrive and are merged", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const restoring = Promise.all([restored(scene, { gid: 4 }), restored(scene, { gid: 2 })]);
      const merging = run(scene.role.control, "merge", { volume: "vol0", fromGid: 0, toGid: 4 });
      const [four, two] = await restoring;
      expectSame(four, history.at(4), "gid 4");
      expectSame(two, history.at(2), "gid 2");
      await merging;
      expect(await gidsOf(scene.role.control)).toEqual([0, 4, 5, 8]);
      const files = readdirSync(`${scene.data}/vol0`).filter((name) => name.endsWith(".wdiff"));
      expect(files.length).toBe(3);
    });
  });
});
