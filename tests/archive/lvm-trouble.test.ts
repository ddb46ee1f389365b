/** @module What people and hosts do to a volume group beside the archive: it is told, and costs nobody's data. */
import { describe, expect, test } from "bun:test";
import { codeOf, expectError } from "../helpers/errors.ts";
import { expectSame, run, statusOf } from "./harness.ts";
import { type LvmScene, withLvmScene } from "./lvm-scene.ts";

const mib = 1024 * 1024;

interface Report {
  readonly trouble?: { readonly code: string; readonly message: string };
}

/** What LVM said is believed for a second. */
async function later(scene: LvmScene): Promise<Report> {
  await scene.archive.platform.clock.sleep(1_500);
  return statusOf(scene.role.control);
}

async function twoPoints(scene: LvmScene): Promise<void> {
  await scene.open();
  await scene.backup(1);
  await scene.diff(0, 2, false);
  await scene.diff(2, 3, false);
  await scene.diff(3, 4, false);
}

describe.each([
  ["classic volumes", undefined],
  ["thin volumes", "tp"],
])("an archive with %s", (_, pool) => {
  test("makes no volume whose images have names that others have, or LVM itself", async () => {
    await withLvmScene(21, pool, async (scene) => {
      await scene.open();
      const other = { sizeBytes: 4 * mib, origin: "", isReadOnly: false };
      for (const [name, taken] of [
        ["vol0", "wb_vol0"],
        ["vol1", "wr_vol1_7"],
      ] as const) {
        scene.lvm.volumes.set(taken, { file: `/lv/${taken}`, ...other });
        await scene.archive.platform.clock.sleep(1_500);
        expect(await codeOf(run(scene.role.control, "init", { volume: name }))).toBe("already-exists");
        scene.lvm.volumes.delete(taken);
        await scene.archive.platform.clock.sleep(1_500);
        await run(scene.role.control, "init", { volume: name });
      }
      expect(await codeOf(run(scene.role.control, "init", { volume: "tdata1" }))).toBe("bad-parameter");
      expect(await codeOf(run(scene.role.control, "init", { volume: "data1" }))).toBe("no error");
    });
  });

  test("clears and resets nothing while one of its images is open, and starts with what it could not finish", async () => {
    await withLvmScene(22, pool, async (scene) => {
      await twoPoints(scene);
      await scene.command("restore", { gid: 3 });
      await scene.command("stop", { mode: "graceful" });
      const restored = scene.lvm.volumes.get("wr_vol0_3")!;
      restored.isOpen = true;
      expect(await codeOf(scene.command("clear"))).toBe("state");
      expect(await codeOf(scene.command("reset"))).toBe("state");
      expect(await statusOf(scene.role.control)).toMatchObject({ state: "Stopped", pointCount: 3 });
      // Opened in the very moment.
      restored.isOpen = false;
      scene.lvm.intercept = (argv) => {
        if (argv[0] === "lvremove") restored.isOpen = true;
        return undefined;
      };
      expect(await codeOf(scene.command("clear"))).toBe("state");
      scene.archive.kill();
      await scene.open();
      expect(await later(scene)).toMatchObject({ state: "Broken", trouble: { code: "state" } });
      scene.lvm.intercept = undefined;
      restored.isOpen = false;
      scene.archive.kill();
      await scene.open();
      expect(scene.lvm.names).toEqual([]);
      await scene.command("init");
    });
  });

  test("tells of a base image that is gone, and of a group that does not answer, with all else that it knows", async () => {
    await withLvmScene(23, pool, async (scene) => {
      await twoPoints(scene);
      scene.lvm.intercept = () => ({ exitCode: 5, stdout: "", stderr: '  Volume group "vg" not found\n' });
      const known = { state: "Archived", pointCount: 3, wdiffCount: 3 };
      expect(await later(scene)).toMatchObject({ ...known, trouble: { code: "not-found" } });
      scene.lvm.intercept = () => new Promise(() => undefined);
      expect(await later(scene)).toMatchObject({ ...known, trouble: { code: "timed-out" } });
    });
    await withLvmScene(24, pool, async (scene) => {
      await twoPoints(scene);
      expect((await later(scene)).trouble).toBeUndefined();
      scene.lvm.volumes.delete("wb_vol0");
      expect((await later(scene)).trouble).toMatchObject({ code: "damaged" });
    });
  });

  test("uses a group that a reboot has left inactive, and activates what is kept for people", async () => {
    await withLvmScene(25, pool, async (scene) => {
      await twoPoints(scene);
      await scene.command("restore", { gid: 2 });
      scene.archive.kill();
      for (const volume of scene.lvm.volumes.values()) volume.isInactive = true;
      await scene.open();
      expect(scene.lvm.volumes.get("wr_vol0_2")!.isInactive).toBe(false);
      for (const volume of scene.lvm.volumes.values()) volume.isInactive = true;
      expect((await later(scene)).trouble?.message).toContain("not active");
      await scene.command("restore", { gid: 3 });
      expectSame(scene.content("wr_vol0_3"), scene.history.at(3), "the restored volume");
      await scene.command("apply", { gid: 3 });
      expect(await scene.check("in the end")).toEqual([3, 4]);
    });
  });
});

test("an archive with classic volumes removes no snapshot that is not its own, and lists one that has lost its content", async () => {
  await withLvmScene(26, undefined, async (scene) => {
    await twoPoints(scene);
    await scene.command("restore", { gid: 2 });
    scene.lvm.volumes.get("wr_vol0_2")!.isInvalid = true;
    expect((await later(scene)).trouble?.message).toContain("lost its content");
    // Its size is that of its device, not of its room for what is overwritten.
    const sizeBytes = scene.lvm.volumes.get("wb_vol0")!.sizeBytes;
    expect(scene.lvm.volumes.get("wr_vol0_2")!.sizeBytes).not.toBe(sizeBytes);
    expect(await scene.command("restored")).toMatchObject({ restored: [{ gid: 2n, sizeBytes }] });
    await expectError(scene.command("restore", { gid: 2 }), {
      code: "damaged",
      hint: expect.stringContaining("--overwrite"),
    });
    await scene.command("restore", { gid: 2, overwrite: true });
    expectSame(scene.content("wr_vol0_2"), scene.history.at(2), "the restored volume");
    const mine = { file: "/lv/mine", sizeBytes: 4 * mib, origin: "wb_vol0", isReadOnly: false };
    scene.lvm.volumes.set("mine", mine);
    await scene.command("stop", { mode: "graceful" });
    expect(await codeOf(scene.command("clear"))).toBe("state");
    expect(scene.lvm.names).toEqual(["mine", "wb_vol0", "wr_vol0_2"]);
    scene.lvm.volumes.delete("mine");
    await scene.command("clear");
    expect(scene.lvm.names).toEqual([]);
  });
});

test("an archive with thin volumes applies diffs to a base image that is open, and takes the promotion back", async () => {
  await withLvmScene(27, "tp", async (scene) => {
    await twoPoints(scene);
    await scene.command("restore", { gid: 3 });
    scene.lvm.volumes.get("wb_vol0")!.isOpen = true;
    await scene.command("apply", { gid: 3 });
    expect(scene.lvm.history).toContain("lvrename vg wb_vol0_3_tmp wc_vol0_3");
    expect(scene.lvm.names).toEqual(["wb_vol0", "wr_vol0_3"]);
    expectSame(scene.content("wb_vol0"), scene.history.at(3), "the base image");
    expect(await scene.check("in the end")).toEqual([3, 4]);
  });
});

test("an apply in which commands fail loses nothing, and what is half done is ended before anything else", async () => {
  // The commands that change something, from the nth on so many, fail.
  for (const count of [1, 2, 4]) {
    for (let nth = 1; ; nth++) {
      let failures = 0;
      await withLvmScene(28, "tp", async (scene) => {
        await twoPoints(scene);
        await scene.command("restore", { gid: 3 });
        let seen = 0;
        scene.lvm.intercept = ([program]) => {
          if (program === "lvs" || program === "vgs" || ++seen < nth || failures === count) return undefined;
          failures += 1;
          return { exitCode: 5, stdout: "", stderr: "  Input/output error\n" };
        };
        const what = `${count} failures from the ${nth}th on`;
        await codeOf(scene.command("apply", { gid: 3 }));
        await codeOf(scene.command("restore", { gid: 4 }));
        scene.lvm.intercept = undefined;
        expect((await scene.check(what)).slice(-2)).toEqual([3, 4]);
        await codeOf(scene.command("apply", { gid: 3 }));
        expect(await scene.check(what)).toEqual([3, 4]);
        expect(scene.lvm.names.filter((name) => name.startsWith("wb_"))).toEqual(["wb_vol0"]);
      });
      if (failures === 0) break;
      expect(nth).toBeLessThan(50);
    }
  }
});

test("an archive waits for the command that a killed one has begun: a base image that is yet to be removed is not one", async () => {
  await withLvmScene(28, "tp", async (scene) => {
    await twoPoints(scene);
    await scene.command("restore", { gid: 3 });
    const { clock } = scene.client.platform;
    let isBegun = false;
    scene.lvm.intercept = (argv) => {
      if (argv.join(" ") !== "lvremove -f vg/wb_vol0") return undefined;
      isBegun = true;
      return new Promise(() => undefined);
    };
    void scene.command("apply", { gid: 3 }).catch(() => undefined);
    while (!isBegun) await clock.sleep(100);
    scene.archive.kill();
    scene.lvm.intercept = undefined;
    scene.lvm.locked.add("/data/lvm.lock");
    const opening = scene.open();
    await clock.sleep(30_000);
    expect(scene.lvm.names).toEqual(["wb_vol0", "wb_vol0_3_tmp", "wr_vol0_3"]);
    scene.lvm.volumes.delete("wb_vol0");
    scene.lvm.locked.clear();
    await opening;
    expect(scene.lvm.names).toEqual(["wb_vol0", "wr_vol0_3"]);
    expect(await scene.check("after the removal")).toEqual([3, 4]);

    scene.archive.kill();
    scene.lvm.locked.add("/data/lvm.lock");
    expect(await codeOf(scene.open())).toBe("locked");
  });
});

test("an archive says how a point that is kept as an image takes the place of a base image that is gone", async () => {
  await withLvmScene(29, "tp", async (scene) => {
    await twoPoints(scene);
    await scene.command("restore", { gid: 3 });
    scene.archive.kill();
    scene.lvm.volumes.delete("wb_vol0");
    await scene.open();
    const { trouble } = await statusOf(scene.role.control);
    const [, gid] = /walb apply vol0 --server \S+ --before (\d+) --yes/.exec(`${(trouble as { hint: string }).hint}`)!;
    await scene.command("apply", { gid: Number(gid) });
    expect(await scene.check("with the point in its place")).toEqual([3, 4]);
    expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
  });
});

test("an apply does not begin in a pool that is read-only; in one that becomes so the half is told, and nothing is lost", async () => {
  await withLvmScene(30, "tp", async (scene) => {
    await twoPoints(scene);
    await scene.command("restore", { gid: 3 });
    scene.lvm.isPoolFailed = true;
    await scene.archive.platform.clock.sleep(1_500);
    const before = scene.lvm.names;
    expect(await codeOf(scene.command("apply", { gid: 3 }))).toBe("state");
    expect(scene.lvm.names).toEqual(before);
    scene.lvm.isPoolFailed = false;
    await later(scene);
    expect(await scene.check("before")).toEqual([2, 3, 4]);

    const refused = {
      exitCode: 5,
      stdout: "",
      stderr: "  Cannot send messages to thin pool with read only metadata.\n",
    };
    scene.lvm.intercept = ([program]) => {
      if (!scene.lvm.volumes.has("wb_vol0")) scene.lvm.isPoolFailed = true;
      return scene.lvm.isPoolFailed && program !== "lvs" && program !== "vgs" ? refused : undefined;
    };
    expect(await codeOf(scene.command("apply", { gid: 3 }))).toBe("read-only");
    const { trouble } = (await later(scene)) as { trouble: { code: string; message: string; hint: string } };
    expect(trouble).toMatchObject({ code: "state", message: expect.stringContaining("wb_vol0_3_tmp") });
    expect(trouble.hint).toContain("nothing is lost");
    expect(trouble.hint).toContain("lvconvert --repair");
    scene.lvm.intercept = undefined;
    scene.lvm.isPoolFailed = false;
    await later(scene);
    await codeOf(scene.command("apply", { gid: 3 }));
    expect(await scene.check("after")).toEqual([3, 4]);
  });
});

test("an archive restores from base and diffs when somebody has removed the image of a point", async () => {
  await withLvmScene(31, "tp", async (scene) => {
    await twoPoints(scene);
    await scene.command("restore", { gid: 3 });
    scene.lvm.volumes.delete("wc_vol0_3");
    await later(scene);
    expect(await scene.check("without the kept point")).toEqual([2, 3, 4]);
    expect(await statusOf(scene.role.control)).toMatchObject({ coldCount: 0 });

    // Whoever cannot ask LVM restores all the same.
    await scene.command("restore", { gid: 4 });
    scene.lvm.intercept = ([program]) =>
      program === "lvs" ? { exitCode: 5, stdout: "", stderr: "  Input/output error\n" } : undefined;
    await later(scene);
    expect(await scene.check("without LVM")).toEqual([2, 3, 4]);
  });
});
