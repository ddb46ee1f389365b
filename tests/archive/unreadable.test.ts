import { expect, test } from "bun:test";
import type { RunningRole } from "../../src/control/role.ts";
import type { DiskFault, SimHost } from "../../src/sim/api.ts";
import { createSimWorld } from "../../src/sim/sim.ts";
import { failureOf } from "../helpers/errors.ts";
import { expectSame, openTestArchive, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendDiff, sendImage } from "./peers.ts";

const mib = 1024 * 1024;
const sizeLb = 900;
const listen = { kind: "tcp", host: "", port: 10200 } as const;

interface Scene {
  readonly archive: SimHost;
  readonly history: History;
  readonly control: () => RunningRole["control"];
  do<T>(work: () => Promise<T>): Promise<T>;
  command(name: string, params?: object): Promise<Record<string, unknown>>;
  restored(gid: number): Promise<Uint8Array>;
  reopen(): Promise<void>;
}

/** An archive in a simulated world, with a backup at gid 0 and a diff to each of 1, 2 and 3. */
async function withArchive(seed: number, use: (scene: Scene) => Promise<void>): Promise<void> {
  const world = createSimWorld(seed);
  const archive = world.host("archive", { memoryBytes: 320 * mib, disk: { reflink: true } });
  const client = world.host("client", { memoryBytes: 64 * mib });
  const peer = { platform: client.platform, address: { ...listen, host: "archive" } };
  const history = new History(sizeLb, seed);
  for (let i = 0; i < 3; i++) history.step();
  const open = () => world.complete(() => openTestArchive(archive.platform, "/data", { listen }));
  let role = await open();
  const command = (name: string, params: object = {}) =>
    world.complete(() => run(role.control, name, { volume: "vol0", ...params }));
  await command("init");
  await world.complete(() => sendImage(peer, history.at(0), { gidE: 0n }));
  for (const gid of [1, 2, 3]) {
    await world.complete(() => sendDiff(peer, gid - 1, gid, history.diff(gid - 1, gid), { sizeLb }));
  }
  await use({
    archive,
    history,
    control: () => role.control,
    do: (work) => world.complete(work),
    command,
    async restored(gid) {
      await command("restore", { to: "/out.img", gid, overwrite: true });
      return archive.storage.peek("/out.img", 0, sizeLb * 512);
    },
    async reopen() {
      await world.complete(() => role.close("graceful"));
      archive.kill();
      archive.restart();
      role = await open();
    },
  });
  world.close();
}

test("a diff that its disk cannot read is unreadable, not damaged, and that ends with the next read that is good", async () => {
  await withArchive(33, async (scene) => {
    const troubleOf = async () => (await scene.do(() => statusOf(scene.control()))).trouble;
    for (const fault of [
      { kinds: ["read"], when: ({ offsetBytes }) => offsetBytes === 0 },
      // Of its data, not of its index.
      { kinds: ["read"], when: ({ offsetBytes }) => offsetBytes > 4096 },
    ] satisfies Partial<DiskFault>[]) {
      const rule = { ...fault, pathIncludes: "-1-2.wdiff", effect: "io", times: 1000 } as const;
      const mend = scene.archive.storage.inject(rule);
      const failure = await scene.do(() =>
        failureOf(run(scene.control(), "restore", { volume: "vol0", to: "/no.img", gid: 2 })),
      );
      expect(failure.hint).not.toMatch(/reset|anew/);
      expect(failure).toMatchObject({
        code: "unreadable",
        what: expect.stringMatching(/until this diff can be read .*: gid 2 .*gid 3 .*still restorable: gid 0 .*gid 1 /),
        hint: expect.stringMatching(/^look at the kernel log.*walb verify vol0.*put the file back from another copy$/),
      });
      expect(await troubleOf()).toMatchObject({ code: "unreadable" });
      const { damage } = await scene.command("verify");
      expect(damage).toMatchObject([{ file: expect.stringContaining("-1-2.wdiff"), code: "unreadable" }]);
      expectSame(await scene.restored(1), scene.history.at(1), "what does not need it");
      mend();
      expect(await scene.command("verify")).toMatchObject({ damage: [] });
      expect(await troubleOf()).toBeUndefined();
      expectSame(await scene.restored(3), scene.history.at(3), "with the disk mended");
    }
  });
});

test("without a base image the points kept as images are restored, and one of them takes its place as the hint says", async () => {
  await withArchive(32, async (scene) => {
    await scene.command("restore", { gid: 2 });
    await scene.do(() => scene.archive.platform.disk.remove("/data/vol0/base.img"));
    for (const isReopened of [false, true]) {
      if (isReopened) await scene.reopen();
      const { state, trouble } = await scene.do(() => statusOf(scene.control()));
      expect(state).toBe("Archived");
      expect(trouble).toMatchObject({
        code: "damaged",
        message: expect.stringMatching(
          /the base image is missing; without it these points are lost: gid 0 [^,]*, gid 1 [^,]*$/,
        ),
        hint: expect.stringMatching(/walb apply vol0 --server \S+ --before 2 --yes/),
      });
      for (const gid of [2, 3]) expectSame(await scene.restored(gid), scene.history.at(gid), `gid ${gid}`);
      const failure = scene.do(() =>
        failureOf(run(scene.control(), "restore", { volume: "vol0", to: "/no.img", gid: 1 })),
      );
      expect((await failure).code).toBe("damaged");
    }
    await scene.command("apply", { gid: 2 });
    expect((await scene.do(() => statusOf(scene.control()))).trouble).toBeUndefined();
    expect(await scene.command("verify")).toMatchObject({ damage: [] });
    for (const gid of [2, 3]) expectSame(await scene.restored(gid), scene.history.at(gid), `behind it, gid ${gid}`);
  });
});
