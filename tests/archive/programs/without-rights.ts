/**
 * @module An archive whose files it may not read for a while; started by rights.test.ts as a process that owners and modes
 * hold for. Prints what happened as JSON.
 */
import { chmodSync, readdirSync, renameSync, truncateSync } from "node:fs";
import { dirname } from "node:path";
import { asWalbError } from "../../../src/errors.ts";
import { expectSame, run, statusOf } from "../harness.ts";
import { History } from "../model.ts";
import { archived, deliver, reopened, restored, type Scene, withArchive } from "../real.ts";

type Told = Pick<ReturnType<ReturnType<typeof asWalbError>["toJSON"]>, "code" | "hint"> & { readonly message: string };

async function told(work: Promise<unknown>): Promise<Told | "no error"> {
  try {
    await work;
    return "no error";
  } catch (thrown) {
    const { code, message, hint } = asWalbError(thrown);
    return { code, message, ...(hint === undefined ? {} : { hint }) };
  }
}

/** What is said while something is so, and behind it without a restart. */
async function during(
  scene: Scene,
  history: History,
  begin: () => void,
  end: () => void,
  wanted: number,
): Promise<unknown> {
  const trouble = async () => (await statusOf(scene.role.control)).trouble;
  begin();
  const restore = await told(restored(scene));
  const apply = await told(run(scene.role.control, "apply", { volume: "vol0", gid: wanted }));
  const status = await trouble();
  await scene.role.close("graceful");
  scene.role = await reopened(scene);
  const afterRestart = await told(restored(scene));
  const { state } = await statusOf(scene.role.control);
  const statusAfterRestart = await trouble();
  const before = Number((await statusOf(scene.role.control)).pointCount);
  const gid = history.step();
  const delivery = await deliver(scene, history, gid - 1, gid);
  const verified = await run(scene.role.control, "verify", { volume: "vol0" });
  end();
  const troubleBehind = (await trouble()) ?? "none";
  expectSame(await restored(scene), history.at(gid), "behind it");
  const isAllThere = Number((await statusOf(scene.role.control)).pointCount) === before + 1;
  const damage = (verified.damage as { message: string }[]).map(({ message }) => message);
  return {
    restore,
    apply,
    status,
    afterRestart,
    state,
    statusAfterRestart,
    delivery,
    damage,
    troubleBehind,
    isAllThere,
  };
}

await withArchive(async (scene) => {
  const history = new History(900, 5);
  for (let i = 0; i < 4; i++) history.step();
  await archived(scene, history);
  for (let gid = 0; gid < 4; gid++) await deliver(scene, history, gid, gid + 1);
  const directory = `${scene.data}/vol0`;
  const diff = readdirSync(directory).find((name) => name.endsWith("-2-3.wdiff"))!;
  const change = (begin: () => void, end: () => void) => during(scene, history, begin, end, 4);
  const withMode = (file: string) =>
    change(
      () => chmodSync(file, 0),
      () => chmodSync(file, 0o644),
    );
  const unreadableDiff = await withMode(`${directory}/${diff}`);
  const others: number[] = [];
  chmodSync(`${directory}/${diff}`, 0);
  for (const gid of [0, 2]) {
    expectSame(await restored(scene, { gid }), history.at(gid), `gid ${gid}`);
    others.push(gid);
  }
  chmodSync(`${directory}/${diff}`, 0o644);
  const base = `${directory}/base.img`;
  const unreadableBase = await withMode(base);
  const missingBase = await change(
    () => renameSync(base, `${dirname(directory)}/aside`),
    () => renameSync(`${dirname(directory)}/aside`, base),
  );
  const shortBase = await change(
    () => {
      Bun.spawnSync(["cp", base, `${dirname(directory)}/whole`]);
      truncateSync(base, 899 * 512);
    },
    () => renameSync(`${dirname(directory)}/whole`, base),
  );
  // Nothing of it can be received meanwhile: the next diff is the one that was refused.
  const away = `${dirname(directory)}/away`;
  renameSync(directory, away);
  const next = history.step();
  const directoryAway = {
    status: (await statusOf(scene.role.control)).trouble,
    restore: await told(restored(scene)),
    apply: await told(run(scene.role.control, "apply", { volume: "vol0", gid: 4 })),
    delivery: await deliver(scene, history, next - 1, next),
    damage: (await run(scene.role.control, "verify", { volume: "vol0" })).damage,
  };
  renameSync(away, directory);
  const directoryBack = {
    status: (await statusOf(scene.role.control)).trouble ?? "none",
    delivery: await deliver(scene, history, next - 1, next),
    statusBehind: (await statusOf(scene.role.control)).trouble ?? "none",
  };
  expectSame(await restored(scene), history.at(next), "with the directory back");
  renameSync(directory, away);
  Bun.spawnSync(["cp", "-a", away, directory]);
  const replaced = {
    status: (await statusOf(scene.role.control)).trouble,
    delivery: await deliver(scene, history, next, history.step()),
  };
  await scene.role.close("graceful");
  chmodSync(directory, 0);
  scene.role = await reopened(scene);
  await run(scene.role.control, "init", { volume: "other" });
  const unsearchable = await statusOf(scene.role.control);
  await scene.role.close("graceful");
  chmodSync(directory, 0o755);
  scene.role = await reopened(scene);
  expectSame(await restored(scene), history.at(next), "searchable again");
  const searchable = (await statusOf(scene.role.control)).trouble ?? "none";
  const directories = { directoryAway, directoryBack, replaced, unsearchable, searchable };
  console.log(JSON.stringify({ directories, unreadableDiff, others, unreadableBase, missingBase, shortBase }));
});
