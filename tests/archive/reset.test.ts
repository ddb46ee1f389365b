import { expect, test } from "bun:test";
import type { DiskFault } from "../../src/sim/api.ts";
import { createSimWorld } from "../../src/sim/sim.ts";
import { expectError } from "../helpers/errors.ts";
import { expectSame, gidsOf, openTestArchive, pointsOf, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendDiff, sendImage } from "./peers.ts";

const sizeLb = 300;
const listen = { kind: "tcp", host: "", port: 10200 } as const;
const volume = "vol0";

const faults: Record<string, DiskFault> = {
  "the manifest finding no space": { pathIncludes: "volume.json", effect: "no-space" },
  "an image that cannot be removed": { kinds: ["rename"], pathIncludes: ".trash-", effect: "io" },
  "a diff that cannot be removed": { kinds: ["remove"], pathIncludes: ".wdiff", effect: "io" },
};

for (const [what, fault] of Object.entries(faults)) {
  test(`a reset broken off by ${what} takes nothing from the backup that follows it`, async () => {
    const world = createSimWorld(1);
    const archive = world.host("archive", { memoryBytes: 320 * 1024 * 1024 });
    const peer = { platform: world.host("client").platform, address: { ...listen, host: "archive" } };
    const history = new History(sizeLb, 1);
    for (let i = 0; i < 3; i++) history.step();
    const backUp = async () => {
      await sendImage(peer, history.at(1), { gidE: 1n, bulkLb: 64 });
      for (const gid of [0, 1, 2]) await sendDiff(peer, gid, gid + 1, history.diff(gid, gid + 1), { sizeLb });
    };
    await world.complete(async () => {
      let role = await openTestArchive(archive.platform, "/data", { listen });
      await run(role.control, "init", { volume });
      await backUp();
      await run(role.control, "stop", { volume, mode: "graceful" });
      archive.storage.inject(fault);
      await expectError(run(role.control, "reset", { volume }));
      expect(await statusOf(role.control)).toMatchObject({ state: "SyncReady", pointCount: 0 });
      await backUp();
      const gids = await gidsOf(role.control);
      expect(gids.at(-1)).toBe(3);
      archive.kill();
      role = await openTestArchive(archive.restart(), "/data", { listen });
      expect(await gidsOf(role.control)).toEqual(gids);
      for (const { gid } of await pointsOf(role.control)) {
        await run(role.control, "restore", { volume, to: "/restored.img", gid, overwrite: true });
        expectSame(archive.storage.peek("/restored.img", 0, sizeLb * 512), history.at(Number(gid)), `gid ${gid}`);
      }
    });
    world.close();
  });
}
