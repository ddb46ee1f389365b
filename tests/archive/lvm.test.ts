import { describe, expect, test } from "bun:test";
import { codeOf } from "../helpers/errors.ts";
import { expectSame, gidsOf, pointsOf, run, statusOf } from "./harness.ts";
import { LvmScene, withLvmScene } from "./lvm-scene.ts";

const mib = 1024 * 1024;

describe.each([
  ["classic volumes", undefined],
  ["thin volumes", "tp"],
])("an archive with %s", (_, pool) => {
  test("uses the original's names for base, restored and cold images", async () => {
    await withLvmScene(1, pool, async (scene) => {
      await scene.open();
      await scene.backup(1);
      await scene.diff(0, 2);
      await scene.diff(2, 4);
      expect(scene.lvm.names).toEqual(["wb_vol0"]);
      const { path, method } = await scene.command("restore", { gid: 2 });
      expect([path, method]).toEqual(["/dev/vg/wr_vol0_2", "snapshot"]);
      const cold = pool === undefined ? [] : ["wc_vol0_2"];
      expect(scene.lvm.names).toEqual(["wb_vol0", ...cold, "wr_vol0_2"].toSorted());
      expectSame(scene.content("wr_vol0_2"), scene.history.at(2), "the restored volume");
      expect(await statusOf(scene.role.control)).toMatchObject({ restoredCount: 1, coldCount: cold.length });
      await scene.command("del-restored", { gid: 2 });
      await scene.command("apply", { gid: 2 });
      expect(scene.lvm.names).toEqual(["wb_vol0"]);
      expectSame(scene.content("wb_vol0"), scene.history.at(2), "the base image");
      if (pool !== undefined) expect(scene.lvm.history).toContain("lvrename vg wc_vol0_2 wb_vol0_2_tmp");
      expect(await scene.check("in the end")).toEqual([2, 4]);
      const { images, imagesFreeBytes, imagesTotalBytes } = await run(scene.role.control, "status");
      expect(images).toBe(scene.images);
      expect(Number(imagesTotalBytes)).toBeGreaterThanOrEqual(Number(imagesFreeBytes));
    });
  });

  test("takes over the images that are in the group already, and what is not its own stays", async () => {
    await withLvmScene(2, pool, async (scene) => {
      scene.lvm.volumes.set("root", { file: "/lv/root", sizeBytes: 4 * mib, origin: "", isReadOnly: false });
      await scene.open();
      await scene.backup(1);
      await scene.diff(0, 3);
      await scene.command("restore", { gid: 3 });
      scene.archive.crash();
      await scene.open();
      const { restored } = await scene.command("restored");
      expect(restored).toMatchObject([{ gid: 3n, path: "/dev/vg/wr_vol0_3" }]);
      await scene.command("stop", { mode: "graceful" });
      await scene.command("clear");
      expect(scene.lvm.names).toEqual(["root"]);
    });
  });

  test("tells before a snapshot or the pool is full", async () => {
    await withLvmScene(9, pool, async (scene) => {
      await scene.open();
      await scene.backup(1);
      await scene.diff(0, 2);
      await scene.command("restore", { gid: 2 });
      const troubleOf = async () => {
        // What LVM said is believed for a second.
        await scene.archive.platform.clock.sleep(1_500);
        return (await statusOf(scene.role.control)).trouble as { readonly message: string } | undefined;
      };
      expect(await troubleOf()).toBeUndefined();
      const restored = scene.lvm.volumes.get("wr_vol0_2")!;
      const name = pool === undefined ? "wr_vol0_2" : "thin pool vg/tp";
      for (const percent of [89.9, 90, 99.5]) {
        if (pool === undefined) restored.usedPercent = percent;
        else scene.lvm.poolPercents = percent === 90 ? ["10.00", "90.00"] : [`${percent}`, "10.00"];
        const message = (await troubleOf())?.message ?? "";
        expect(message.includes(name) && message.includes(`${percent} %`)).toBe(percent >= 90);
      }
      await scene.command("del-restored", { gid: 2 });
      if (pool === undefined) expect(await troubleOf()).toBeUndefined();
    });
  });

  test("rounds sizes up to extents, grows, and what is new reads as zeroes", async () => {
    await withLvmScene(
      3,
      pool,
      async (scene) => {
        await scene.open();
        await scene.backup(1);
        await scene.diff(0, 2);
        const grownLb = 3 * 8192;
        await scene.command("resize", { sizeLb: grownLb });
        await scene.command("restore", { to: "/grown.img", gid: 2 });
        const found = scene.archive.storage.peek("/grown.img", 0, grownLb * 512);
        const wanted = new Uint8Array(grownLb * 512);
        wanted.set(scene.history.at(2));
        expectSame(found, wanted, "the grown volume");
      },
      8192 + 300,
    );
  });

  test("restores what the model has, over random histories with crashes", async () => {
    const done: Record<string, number> = {};
    const count = (what: string): void => {
      done[what] = (done[what] ?? 0) + 1;
    };
    for (let seed = 1; seed <= 5; seed++) {
      await withLvmScene(seed, pool, async (scene) => {
        const { chance } = scene;
        await scene.open();
        await scene.backup(2);
        let last = 0;
        await scene.diff(0, 3);
        last = 3;
        for (let turn = 0; turn < 30; turn++) {
          const gids = await gidsOf(scene.role.control);
          const gid = gids[chance.between(0, gids.length - 1)]!;
          switch (chance.between(0, 7)) {
            case 0:
            case 1:
              await scene.diff(last, last + 1, chance.is(0.6));
              last += 1;
              break;
            case 2:
              count(await codeOf(scene.command("restore", { gid })));
              break;
            case 3:
              await codeOf(scene.command("apply", { gid }));
              count("apply");
              break;
            case 4:
              await codeOf(scene.command("merge", { fromGid: gid }));
              break;
            case 5: {
              const { restored } = await scene.command("restored");
              for (const image of restored as { gid: bigint }[]) {
                if ((await pointsOf(scene.role.control)).some((point) => point.gid === image.gid)) {
                  expectSame(scene.content(`wr_vol0_${image.gid}`), scene.history.at(image.gid), "a restored image");
                }
                await scene.command("del-restored", { gid: image.gid });
                count("deleted");
              }
              break;
            }
            case 6:
              if (chance.is(0.5)) scene.archive.kill();
              else scene.archive.crash();
              await scene.open();
              expect(await gidsOf(scene.role.control)).toEqual(gids);
              break;
            default:
              expect((await scene.check(`turn ${turn}`)).at(-1)).toBe(last);
          }
        }
        expect((await scene.check("in the end")).at(-1)).toBe(last);
      });
    }
    for (const what of ["no error", "apply", "deleted"]) expect(done[what] ?? 0).toBeGreaterThan(2);
  }, 300_000);

  test("killed at any step of an apply or a restore has every point that it had, and no image is left over", async () => {
    const acts = [
      ["apply", { gid: 5 }],
      ["restore", { gid: 4 }],
    ] as const;
    for (const [name, params] of acts) {
      let crashes = 0;
      for (let n = 1; ; n++) {
        const scene = new LvmScene(n, pool);
        try {
          await scene.world.complete(async () => {
            await scene.open();
            await scene.backup(1);
            for (const [from, to] of [
              [0, 3],
              [3, 4],
              [4, 5],
              [5, 6],
            ] as const)
              await scene.diff(from, to, false);
            await scene.command("restore", { gid: 3 });
          });
          scene.archive.crashAtOperation(n, { kill: n % 2 === 0 });
          let isOver = false;
          await scene.world.complete(async () => {
            void scene.command(name, params).then(
              () => {
                isOver = true;
              },
              () => {
                isOver = true;
              },
            );
          });
          await scene.world.runUntil(() => isOver || !scene.archive.isUp);
          if (scene.archive.isUp) break;
          crashes++;
          await scene.world.complete(async () => {
            await scene.open();
            const what = `${name}, crash at ${n}`;
            const gids = await scene.check(what);
            expect(gids.slice(-2)).toEqual([5, 6]);
            if (name === "restore") expect(gids).toEqual([3, 4, 5, 6]);
            expect(scene.lvm.names.filter((image) => image.endsWith("_tmp"))).toEqual([]);
            expectSame(scene.content("wr_vol0_3"), scene.history.at(3), `${what}, the restored image`);
            await codeOf(scene.command("apply", { gid: 5 }));
            expect(await scene.check(`${what}, applied`)).toEqual([5, 6]);
          });
        } catch (error) {
          throw new Error(`${name}, ${scene.images}, crash at operation ${n}: ${String(error)}`, { cause: error });
        } finally {
          scene.world.close();
        }
      }
      expect(crashes).toBeGreaterThan(5);
    }
  }, 300_000);
});

test("an archive whose volume group is missing says so", async () => {
  const scene = new LvmScene(1, undefined);
  try {
    await scene.world.complete(async () => {
      scene.lvm.intercept = () => ({ exitCode: 5, stdout: "", stderr: '  Volume group "vg" not found\n' });
      expect(await codeOf(scene.open())).toBe("not-found");
      expect(await codeOf(scene.open({ images: "zfs:tank" }))).toBe("bad-parameter");
    });
  } finally {
    scene.world.close();
  }
});
