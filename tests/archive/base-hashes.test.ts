import { describe, expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, readSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { baseHashesName } from "../../src/archive/base-hashes.ts";
import { RecordKind } from "../../src/diff/types.ts";
import { createSimWorld } from "../../src/sim/sim.ts";
import { mib } from "../../src/units.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendDiff, sendImage } from "./peers.ts";
import { reopened, type restored, withArchive } from "./real.ts";

type Scene = Parameters<typeof restored>[0];
const volume = "vol0";
/** Its last group is half a one. */
const sizeBytes = 12.5 * mib;
const sizeLb = sizeBytes / 512;

/** A volume whose base image has data in MiB 1, 2, 3 and at its end, and a diff that writes 4 KiB in MiB 2 and 20 LB in 5. */
async function withVolume(use: (scene: Scene) => Promise<void>): Promise<void> {
  await withArchive(async (scene) => {
    await run(scene.role.control, "init", { volume });
    const image = new Uint8Array(sizeBytes);
    for (const at of [1, 2, 3, 12]) image.fill(at, at * mib, (at + 0.5) * mib);
    await sendImage(scene.peer, image, { gidE: 0n, bulkLb: 128 });
    const records = [
      { addressLb: 2 * 2048 + 8, blocksLb: 8, kind: RecordKind.normal, data: new Uint8Array(4096).fill(77) },
      { addressLb: 5 * 2048, blocksLb: 20, kind: RecordKind.normal, data: new Uint8Array(20 * 512).fill(78) },
    ];
    await sendDiff(scene.peer, 0, 1, records, { sizeLb });
    await use(scene);
  });
}

const imageOf = (scene: Scene): string => `${scene.data}/${volume}/base.img`;
const hashesOf = (scene: Scene): string => `${scene.data}/${volume}/${baseHashesName}`;
const verify = (scene: Scene, params = {}) => run(scene.role.control, "verify", { volume, ...params });

/** Changes a byte of a file behind everybody's back. */
function flip(path: string, offset: number): void {
  const fd = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset);
  writeSync(fd, Buffer.of(byte[0]! ^ 4), 0, 1, offset);
  closeSync(fd);
}

describe("a base image that was read once", () => {
  test("is compared the next time: what changed is named by the MiB, with the points it costs, until it is right again", async () => {
    await withVolume(async (scene) => {
      expect(await verify(scene)).toMatchObject({ comparedBytes: 0, damage: [], lostPointCount: 0 });
      expect(await verify(scene)).toMatchObject({ comparedBytes: sizeBytes, damage: [] });
      flip(imageOf(scene), 1 * mib + 70_000);
      flip(imageOf(scene), 12.25 * mib);
      const message = expect.stringMatching(/bytes 1048576 to 2097151, 12582912 to 13107199 .*: gid 0 .*gid 1 /);
      const found = { comparedBytes: sizeBytes, lostPointCount: 2, damage: [{ file: "base.img", message }] };
      expect(await verify(scene)).toMatchObject(found);
      expect(await statusOf(scene.role.control)).toMatchObject({ trouble: { code: "damaged" } });
      await scene.role.close("graceful");
      scene.role = await reopened(scene);
      expect(await verify(scene)).toMatchObject(found);
      flip(imageOf(scene), 1 * mib + 70_000);
      flip(imageOf(scene), 12.25 * mib);
      expect(await verify(scene)).toMatchObject({ comparedBytes: sizeBytes, damage: [], lostPointCount: 0 });
      expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
    });
  });

  test("by a share is compared by that share", async () => {
    await withVolume(async (scene) => {
      await verify(scene);
      flip(imageOf(scene), 3 * mib);
      let comparedBytes = 0;
      let isFound = false;
      for (let i = 0; i < 60 && !isFound; i++) {
        const part = await verify(scene, { subsetPercent: 20 });
        comparedBytes = Math.max(comparedBytes, part.comparedBytes as number);
        isFound = (part.damage as unknown[]).length > 0;
      }
      expect(isFound).toBe(true);
      expect(comparedBytes).toBeLessThanOrEqual(3 * mib);
    });
  });

  test("and applied to keeps the hashes of what the apply does not write", async () => {
    await withVolume(async (scene) => {
      await verify(scene);
      await run(scene.role.control, "apply", { volume, gid: 1 });
      flip(imageOf(scene), 3.25 * mib);
      const range = expect.stringContaining("bytes 3145728 to 4194303 (");
      const damage = [{ file: "base.img", message: range }];
      expect(await verify(scene)).toMatchObject({ comparedBytes: sizeBytes - 2 * mib, damage });
      expect(await verify(scene)).toMatchObject({ comparedBytes: sizeBytes, damage });
    });
  });

  test("and holes that are filled, and data that are gone, show as well", async () => {
    await withVolume(async (scene) => {
      await verify(scene);
      flip(imageOf(scene), 8 * mib);
      truncateSync(imageOf(scene), 12 * mib);
      truncateSync(imageOf(scene), sizeBytes);
      const message = expect.stringContaining("8388608 to 9437183, 12582912 to 13107199 (");
      expect(await verify(scene)).toMatchObject({ damage: [{ message }] });
    });
  });
});

describe("hashes of the base image", () => {
  for (const [what, spoil] of Object.entries({
    "in a damaged page": (path: string) => flip(path, 4096 + 8),
    "with a damaged header": (path: string) => flip(path, 3),
    "that are cut off": (path: string) => truncateSync(path, 4096),
    "of an empty file": (path: string) => writeFileSync(path, ""),
  })) {
    test(`${what} are learnt anew, and raise no alarm`, async () => {
      await withVolume(async (scene) => {
        await verify(scene);
        spoil(hashesOf(scene));
        expect(await verify(scene)).toMatchObject({ comparedBytes: 0, damage: [] });
        expect(await verify(scene)).toMatchObject({ comparedBytes: sizeBytes, damage: [] });
      });
    });
  }

  test("count only for the image they were made of", async () => {
    await withVolume(async (scene) => {
      await verify(scene);
      const old = readFileSync(hashesOf(scene));
      await run(scene.role.control, "apply", { volume, gid: 1 });
      // As an older walb leaves it that knows nothing of them.
      writeFileSync(hashesOf(scene), old);
      expect(await verify(scene)).toMatchObject({ comparedBytes: 0, damage: [] });
      await run(scene.role.control, "resize", { volume, sizeLb: sizeLb + 4096 });
      expect(await verify(scene)).toMatchObject({ comparedBytes: 0, damage: [] });
      expect(await verify(scene)).toMatchObject({ comparedBytes: sizeBytes + 2 * mib, damage: [] });
      await run(scene.role.control, "stop", { volume, mode: "graceful" });
      await run(scene.role.control, "reset", { volume });
      expect(() => statSync(hashesOf(scene))).toThrow();
      await sendImage(scene.peer, new Uint8Array(sizeBytes).fill(9), { gidE: 0n, bulkLb: 128 });
      expect(await gidsOf(scene.role.control)).toEqual([0]);
      expect(await verify(scene)).toMatchObject({ comparedBytes: 0, damage: [] });
    });
  });
});

describe("trouble with the hashes", () => {
  const listen = { kind: "tcp", host: "", port: 10200 } as const;
  const steps = 12;

  test("at any step of a verify or an apply costs only hashes: the work is done, or refused, and no alarm is false", async () => {
    let hits = 0;
    for (const effect of ["io", "no-space"] as const) {
      for (const command of ["verify", "apply"] as const) {
        for (let skip = 0; skip < steps; skip++) {
          const world = createSimWorld(skip + 1);
          try {
            const archive = world.host("archive", { memoryBytes: 320 * mib });
            const peer = { platform: world.host("client").platform, address: { ...listen, host: "archive" } };
            const history = new History(300, skip + 1);
            for (let i = 0; i < 3; i++) history.step();
            await world.complete(async () => {
              const { control } = await openTestArchive(archive.platform, "/data", { listen });
              await run(control, "init", { volume });
              await sendImage(peer, history.at(0), { gidE: 0n, bulkLb: 64 });
              for (const gid of [0, 1, 2])
                await sendDiff(peer, gid, gid + 1, history.diff(gid, gid + 1), { sizeLb: 300 });
              if (command === "apply") await run(control, "verify", { volume });
              const where = { pathIncludes: baseHashesName, skip };
              const end = archive.storage.inject({ ...where, effect, when: () => hits++ >= 0 });
              const work = run(control, command, { volume, ...(command === "apply" ? { gid: 2 } : {}) });
              if (command === "verify") expect(await work).toMatchObject({ damage: [], lostPointCount: 0 });
              else
                await work.catch((error: unknown) => expect(error).toMatchObject({ where: { file: /base.hashes/ } }));
              end();
              for (let i = 0; i < 2; i++)
                expect(await run(control, "verify", { volume })).toMatchObject({ damage: [] });
              await run(control, "apply", { volume, gid: 3 });
              for (let i = 0; i < 2; i++)
                expect(await run(control, "verify", { volume })).toMatchObject({ damage: [] });
              await run(control, "restore", { volume, to: "/out.img" });
              expectSame(archive.storage.peek("/out.img", 0, 300 * 512), history.at(3), `${effect} ${command} ${skip}`);
            });
          } catch (error) {
            throw new Error(`${effect} at step ${skip} of ${command}: ${String(error)}`, { cause: error });
          } finally {
            world.close();
          }
        }
      }
    }
    expect(hits).toBeGreaterThan(2 * steps);
  }, 120_000);
});
