import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { Codec } from "../../src/native/codec.ts";
import { codeOf } from "../helpers/errors.ts";
import { expectSame, gidsOf, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendImage } from "./peers.ts";
import {
  archived,
  deliver,
  expectAllRestorable,
  platform,
  reopened,
  restored,
  type Scene,
  withArchive,
} from "./real.ts";

describe("a full backup", () => {
  test("equals the source, whatever size, bulk and codec", async () => {
    const cases: readonly (readonly [number, number, Codec])[] = [
      [1, 8192, Codec.snappy],
      [4096, 1, Codec.lz4],
      [4096 + 13, 128, Codec.none],
      [20000 + 7, 512, Codec.zstd],
      [20000, 8192, Codec.gzip],
    ];
    for (const [sizeLb, bulkLb, codec] of cases) {
      await withArchive(async (scene) => {
        const history = new History(sizeLb, sizeLb);
        await run(scene.role.control, "init", { volume: "vol0" });
        const answer = await sendImage(scene.peer, history.at(0), { bulkLb, codec, gidE: 0n });
        expect(answer.kind).toBe("accept");
        expectSame(await restored(scene), history.at(0), `${sizeLb} LB in bulks of ${bulkLb}`);
        const status = await statusOf(scene.role.control);
        expect(status).toMatchObject({
          state: "Archived",
          sizeLb,
          base: "<|0|>",
          imageBytes: sizeLb * 512,
          running: [],
        });
        expect(status.trouble).toBeUndefined();
      });
    }
  });

  test("keeps zero bulks as holes", async () => {
    await withArchive(async (scene) => {
      const image = new Uint8Array(64 * 1024 * 1024);
      image.set([1, 2, 3], 32 * 1024 * 1024);
      await run(scene.role.control, "init", { volume: "vol0" });
      await sendImage(scene.peer, image, { bulkLb: 512, gidE: 0n });
      expect(statSync(`${scene.data}/vol0/base.img`).blocks * 512).toBeLessThan(1024 * 1024);
      const to = `${scene.directory}/out.img`;
      await run(scene.role.control, "restore", { volume: "vol0", to });
      expect(statSync(to).blocks * 512).toBeLessThan(1024 * 1024);
      expectSame(readFileSync(to), image, "restored");
    });
  });

  test("is repeated from the start after it broke off, also with another size", async () => {
    await withArchive(async (scene) => {
      const history = new History(4000, 3);
      history.step();
      await run(scene.role.control, "init", { volume: "vol0" });
      for (const sizeLb of [9000, 1000]) {
        const other = new History(sizeLb, sizeLb).at(0);
        const broken = sendImage(scene.peer, other, {
          async beforeBulk(offsetLb) {
            if (offsetLb < sizeLb / 2) return;
            const { running, state } = await statusOf(scene.role.control);
            expect(state).toBe("FullSync");
            expect(running).toMatchObject([{ action: "FullSync", totalBytes: sizeLb * 512 }]);
            expect(await deliver(scene, history, 0, 1)).toBe("syncing");
            throw new Error("the storage died");
          },
        });
        await expect(broken).rejects.toThrow("the storage died");
        await untilState(scene, "SyncReady");
        expect((await statusOf(scene.role.control)).trouble).toMatchObject({ code: "unreachable" });
      }
      await sendImage(scene.peer, history.at(0), { gidE: 0n });
      expectSame(await restored(scene), history.at(0), "restored");
      expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
    });
  });

  test("is refused by text in a wrong state, for an unknown volume, and from anybody but a storage", async () => {
    await withArchive(async (scene) => {
      const image = new History(100, 1).at(0);
      expect(await sendImage(scene.peer, image)).toMatchObject({ text: expect.stringContaining("does not know") });
      await run(scene.role.control, "init", { volume: "vol0" });
      expect(await sendImage(scene.peer, image, { hostType: "proxy" })).toMatchObject({ kind: "text" });
      expect((await sendImage(scene.peer, image, { gidE: 0n })).kind).toBe("accept");
      expect(await sendImage(scene.peer, image)).toMatchObject({ text: expect.stringContaining("needs SyncReady") });
      expect(await gidsOf(scene.role.control)).toEqual([0]);
    });
  });

  test("is ended by a forced stop and is SyncReady then", async () => {
    await withArchive(async (scene) => {
      await run(scene.role.control, "init", { volume: "vol0" });
      const image = new History(4000, 1).at(0);
      const sending = sendImage(scene.peer, image, {
        async beforeBulk(offsetLb) {
          if (offsetLb === 2000) await run(scene.role.control, "stop", { volume: "vol0", mode: "force" });
        },
      });
      expect(await codeOf(sending)).toBe("unreachable");
      expect((await statusOf(scene.role.control)).state).toBe("SyncReady");
    });
  });

  async function untilState(scene: Scene, state: string): Promise<void> {
    for (let i = 0; i < 500; i++) {
      if ((await statusOf(scene.role.control)).state === state) return;
      await platform.clock.sleep(10);
    }
    throw new Error(`the volume does not become ${state}`);
  }
});

describe("diffs", () => {
  test("turn the dirty copy of a full backup into restorable points", async () => {
    await withArchive(async (scene) => {
      const history = new History(5003, 11);
      for (let i = 0; i < 6; i++) history.step();
      await archived(scene, history, 4);
      expect(await gidsOf(scene.role.control)).toEqual([]);
      const empty = run(scene.role.control, "restore", { volume: "vol0", to: `${scene.directory}/no` });
      expect(await codeOf(empty)).toBe("not-restorable");
      expect(await deliver(scene, history, 0, 2, { isMergeable: false })).toBe("accept");
      expect(await gidsOf(scene.role.control)).toEqual([]);
      expect(await deliver(scene, history, 2, 5)).toBe("accept");
      expect(await deliver(scene, history, 5, 6, { isMergeable: false })).toBe("accept");
      expect(await expectAllRestorable(scene, history)).toEqual([5, 6]);
      const status = await statusOf(scene.role.control);
      expect(status).toMatchObject({ latest: "|6|", wdiffCount: 3, pointCount: 2, base: "<|0,4|>" });
    });
  });

  test("are answered in the order that proxies rely on", async () => {
    await withArchive(async (scene) => {
      const history = new History(1000, 5);
      for (let i = 0; i < 9; i++) history.step();
      expect(await deliver(scene, history, 0, 1)).toBe("text");
      await archived(scene, history);
      const { control } = scene.role;
      expect(await deliver(scene, history, 0, 1, { hostType: "storage" })).toBe("text");
      expect(await deliver(scene, history, 0, 1, { uuid: "f".repeat(32) })).toBe("different-uuid");
      // The uuid comes before the size, the size before the gids.
      expect(await deliver(scene, history, 5, 6, { uuid: "f".repeat(32), sizeLb: 2000 })).toBe("different-uuid");
      expect(await deliver(scene, history, 5, 6, { sizeLb: 2000 })).toBe("smaller-lv-size");
      expect(await deliver(scene, history, 5, 6)).toBe("too-new-diff");
      expect(await deliver(scene, history, 0, 3)).toBe("accept");
      expect(await deliver(scene, history, 0, 3)).toBe("too-old-diff");
      expect(await deliver(scene, history, 1, 2)).toBe("too-old-diff");
      expect(await deliver(scene, history, 1, 4)).toBe("accept");
      expect(await deliver(scene, history, 0, 5, { isCompared: true })).toBe("text");
      expect(await deliver(scene, history, 4, 5, { uuid: "f".repeat(32), hostType: "archive" })).toBe("accept");
      await run(control, "stop", { volume: "vol0", mode: "graceful" });
      expect(await deliver(scene, history, 5, 6, { uuid: "f".repeat(32) })).toBe("stopped");
      await run(control, "start", { volume: "vol0" });
      expect(await deliver(scene, history, 5, 6, { volume: "../vol0" })).toBe("text");
      const nested: string[] = [];
      await deliver(scene, history, 5, 6, {
        beforePack: async () => {
          nested.push(await deliver(scene, history, 5, 6));
        },
        recordsPerPack: 1000,
      });
      expect(nested.every((word) => word === "wdiff-recv")).toBe(true);
      await expectAllRestorable(scene, history);
    });
  });

  test("that pass by points which are there leave them restorable", async () => {
    await withArchive(async (scene) => {
      const history = new History(1000, 6);
      for (let i = 0; i < 9; i++) history.step();
      await archived(scene, history, 2);
      for (const [from, to] of [
        [0, 3],
        [3, 4],
        // A proxy that heard no answer merges what it sent with what follows.
        [0, 5],
        [2, 7],
        [7, 9],
      ] as const) {
        expect(await deliver(scene, history, from, to)).toBe("accept");
      }
      expect(await deliver(scene, history, 2, 7)).toBe("too-old-diff");
      expect(await expectAllRestorable(scene, history)).toEqual([3, 4, 5, 7, 9]);
      await run(scene.role.control, "merge", { volume: "vol0", fromGid: 4, toGid: 7 });
      await run(scene.role.control, "apply", { volume: "vol0", gid: 4 });
      expect(await expectAllRestorable(scene, history)).toEqual([4, 7, 9]);
      await scene.role.close("graceful");
      scene.role = await reopened(scene);
      expect(await expectAllRestorable(scene, history)).toEqual([4, 7, 9]);
    });
  });

  test("leave nothing behind when they come damaged, beyond the volume, or not to their end", async () => {
    await withArchive(async (scene) => {
      const history = new History(1000, 8);
      while (history.diff(0, history.gid).length < 4) history.step();
      await archived(scene, history);
      const spoilers: object[] = [
        { spoil: (pack: Uint8Array) => (pack[pack.length - 1]! ^= 1) },
        { spoil: (pack: Uint8Array) => (pack[100]! ^= 1) },
        { sizeLb: 10 },
        {
          recordsPerPack: 1,
          beforePack(index: number) {
            if (index === 2) throw new Error("the proxy died");
          },
        },
      ];
      for (const options of spoilers) {
        await expect(deliver(scene, history, 0, history.gid, options)).rejects.toThrow();
        for (let i = 0; i < 300 && (await statusOf(scene.role.control)).state !== "Archived"; i++) {
          await platform.clock.sleep(10);
        }
        expect(readdirSync(`${scene.data}/vol0`).filter((name) => /wdiff|receiving/.test(name))).toEqual([]);
        expect((await statusOf(scene.role.control)).trouble).toBeDefined();
      }
      expect(await deliver(scene, history, 0, history.gid)).toBe("accept");
      expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
      expect(await expectAllRestorable(scene, history)).toEqual([0, history.gid]);
    });
  });

  test("of several volumes come in at the same time", async () => {
    await withArchive(async (scene) => {
      const names = ["a", "b", "c", "d"];
      const histories = names.map((_, i) => new History(2000, 40 + i));
      for (const history of histories) for (let i = 0; i < 20; i++) history.step();
      await Promise.all(
        names.map(async (volume, i) => {
          const history = histories[i]!;
          await run(scene.role.control, "init", { volume });
          for (let answer = "text"; answer !== "accept"; ) {
            answer = (await sendImage(scene.peer, history.at(0), { volume, gidE: 0n })).kind;
          }
          for (let gid = 0; gid < 20; gid += 2) {
            expect(await deliver(scene, history, gid, gid + 2, { volume })).toBe("accept");
          }
          const to = `${scene.directory}/${volume}.img`;
          await run(scene.role.control, "restore", { volume, to, gid: 20 });
          expectSame(readFileSync(to), history.at(20), volume);
        }),
      );
    });
  });

  test("wait for a larger image, or grow it where that is allowed", async () => {
    const history = new History(1000, 5);
    await withArchive(async (scene) => {
      await archived(scene, history);
      const grown = new History(1500, 6);
      grown.step();
      expect(await deliver(scene, grown, 0, 1)).toBe("smaller-lv-size");
      expect((await statusOf(scene.role.control)).trouble).toMatchObject({ hint: expect.stringContaining("resize") });
      await run(scene.role.control, "resize", { volume: "vol0", sizeLb: 1500 });
      expect(await codeOf(run(scene.role.control, "resize", { volume: "vol0", sizeLb: 1400 }))).toBe("out-of-range");
      expect(await deliver(scene, grown, 0, 1)).toBe("accept");
      expect((await restored(scene)).length).toBe(1500 * 512);
    });
    await withArchive(
      async (scene) => {
        await archived(scene, history);
        const grown = new History(1500, 6);
        grown.step();
        expect(await deliver(scene, grown, 0, 1)).toBe("accept");
        expect((await statusOf(scene.role.control)).sizeLb).toBe(1500);
      },
      { isAutoResize: true },
    );
  });
});
