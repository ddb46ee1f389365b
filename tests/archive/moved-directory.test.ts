import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendImage } from "./peers.ts";
import { archived, deliver, expectAllRestorable, withArchive } from "./real.ts";

test("an archive writes nothing beside a volume's directory that is moved away, whoever brings it", async () => {
  await withArchive(async (source) => {
    await withArchive(
      async (scene) => {
        const history = new History(900, 5);
        history.step();
        await archived(source, history);
        await deliver(source, history, 0, 1);
        await run(scene.role.control, "init", { volume: "vol0" });
        const directory = `${scene.data}/vol0`;
        const away = `${scene.directory}/away`;
        const replicate = () => {
          const { host, port } = scene.role.address as { host: string; port: number };
          return run(source.role.control, "replicate", { volume: "vol0", to: `${host}:${port}` }).then(
            () => "done",
            (error: Error) => error.message,
          );
        };
        const whileAway = async () => {
          renameSync(directory, away);
          mkdirSync(directory);
          const backup = await sendImage(scene.peer, history.fuzzy(0)).then(
            (answer) => JSON.stringify(answer),
            (error: Error) => error.message,
          );
          const told = [backup, await replicate()];
          expect(readdirSync(directory)).toEqual([]);
          rmSync(directory, { recursive: true });
          renameSync(away, directory);
          return told;
        };
        const isGone = expect.stringContaining("or what is mounted there, is gone");
        expect(await whileAway()).toEqual([isGone, isGone]);
        expect(await replicate()).toBe("done");
        history.step();
        expect(await deliver(source, history, 1, 2)).toBe("accept");
        expect(await whileAway()).toEqual([expect.stringContaining("in state Archived"), isGone]);
        expect(await replicate()).toBe("done");
        expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
        expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2]);
      },
      { nodeId: "a1" },
    );
  });
});

test("no volume is reset or cleared by what stands in the place of its directory", async () => {
  await withArchive(async (scene) => {
    const history = new History(900, 6);
    history.step();
    await archived(scene, history);
    await deliver(scene, history, 0, 1);
    const directory = `${scene.data}/vol0`;
    const away = `${scene.directory}/away`;
    await run(scene.role.control, "stop", { volume: "vol0", mode: "graceful" });
    for (const isCopy of [false, true]) {
      renameSync(directory, away);
      if (isCopy) Bun.spawnSync(["cp", "-a", away, directory]);
      else mkdirSync(directory);
      const before = readdirSync(directory);
      for (const command of ["reset", "clear"]) {
        const work = run(scene.role.control, command, { volume: "vol0" });
        await expect(work).rejects.toMatchObject({ code: "unreadable" });
      }
      expect(readdirSync(directory)).toEqual(before);
      rmSync(directory, { recursive: true });
      renameSync(away, directory);
    }
    await run(scene.role.control, "start", { volume: "vol0" });
    expect(await expectAllRestorable(scene, history)).toEqual([0, 1]);
  });
});
