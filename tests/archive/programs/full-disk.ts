/**
 * @module An archive on a small file system that another program fills up: started by full-disk.test.ts in a mount
 * namespace of its own, with the directory of that file system. Prints what happened as JSON.
 */
import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { RecordKind } from "../../../src/diff/types.ts";
import { createPlatform } from "../../../src/platform/real/index.ts";
import { codeOf } from "../../helpers/errors.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "../harness.ts";
import { sendDiff, sendImage } from "../peers.ts";

const directory = process.argv[2]!;
const mib = 1024 * 1024;
const volume = "vol0";
const sizeLb = 32 * 2048;
const diffCount = 16;
const platform = createPlatform({ memoryBudgetBytes: 2000 * mib, threads: 2 });
const peerPlatform = { ...platform, memory: platform.memory.carve(64 * mib) };
const data = `${directory}/data`;
let role = await openTestArchive(platform, data);
const peer = {
  platform: peerPlatform,
  get address() {
    return role.address;
  },
};

let fillerCount = 0;

/** Takes all space that is left. */
function fill(): void {
  const filler = `${directory}/filler/${fillerCount++}`;
  mkdirSync(`${directory}/filler`, { recursive: true });
  const { bavail, bsize } = statfsSync(directory);
  spawnSync("fallocate", ["-l", `${Math.max(mib, bavail * bsize - 4 * mib)}`, filler]);
  for (const chunk of [mib, 65_536, 4096]) {
    try {
      for (;;) appendFileSync(filler, Buffer.alloc(chunk, 1));
    } catch {
      // Full.
    }
  }
}

/** What the volume holds at a gid: each diff writes another MiB of what was a hole before. */
function imageAt(gid: number): Uint8Array {
  const image = new Uint8Array(sizeLb * 512);
  for (let i = 0; i < gid; i++) image.set(noise(i), i * mib);
  return image;
}

/** A MiB that does not compress. */
function noise(seed: number): Uint8Array {
  const bytes = new Uint8Array(mib);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

function deliver(from: number): Promise<{ readonly kind: string }> {
  const whole = noise(from);
  const records = Array.from({ length: 16 }, (_, i) => ({
    addressLb: from * 2048 + i * 128,
    blocksLb: 128,
    kind: RecordKind.normal,
    data: whole.slice(i * 65_536, (i + 1) * 65_536),
  }));
  return sendDiff(peer, from, from + 1, records, { sizeLb, isMergeable: from % 2 === 1 });
}

/** Restores every point, to another file system. */
async function compareAll(): Promise<number[]> {
  const gids = await gidsOf(role.control);
  const to = `${tmpdir()}/walb-full-disk-${process.pid}.img`;
  for (const gid of gids) {
    await run(role.control, "restore", { volume, to, gid, overwrite: true });
    expectSame(readFileSync(to), imageAt(gid), `gid ${gid}`);
  }
  await platform.disk.remove(to);
  return gids;
}

const hasReserve = (): boolean => existsSync(`${data}/.reserved-space`);
await run(role.control, "init", { volume });
await sendImage(peer, new Uint8Array(sizeLb * 512), { gidE: 0n });
for (let gid = 0; gid < diffCount; gid++) {
  const answer = await deliver(gid);
  if (answer.kind !== "accept") throw new Error(`refused: ${JSON.stringify(answer)}`);
}
const before = hasReserve();
fill();
const { bavail, bsize } = statfsSync(directory);
await role.close("graceful");
role = await openTestArchive(platform, data);
fill();
const found = {
  hasReserve: before,
  freeBytesWhenFull: bavail * bsize,
  refusal: (await deliver(diffCount)).kind,
  trouble: (await statusOf(role.control)).trouble,
  merge: await codeOf(run(role.control, "merge", { volume, fromGid: 0 })),
  keep: await codeOf(run(role.control, "restore", { volume })),
  gidsWhenFull: await compareAll(),
  apply: await codeOf(run(role.control, "apply", { volume, gid: diffCount - 2 })),
  base: (await statusOf(role.control)).base,
  gidsAfterApply: await compareAll(),
  hasReserveAfterApply: hasReserve(),
};
fill();
// Something else has taken even the space that was kept back.
rmSync(`${data}/.reserved-space`);
fill();
await role.close("graceful");
// With its databases closed it wants to write when it opens them.
fill();
role = await openTestArchive(platform, data);
fill();
const { damage, checkedCount, notKept } = await run(role.control, "verify", { volume });
const withoutReserve = {
  hasReserve: hasReserve(),
  gids: await compareAll(),
  verified: { damage, checkedCount, isKept: notKept === undefined },
  refusal: (await deliver(diffCount)).kind,
};
// Databases that were opened on a full disk take what comes as soon as there is room.
rmSync(`${directory}/filler`, { recursive: true });
const deliveryWithRoom = (await deliver(diffCount)).kind;
fill();
await role.close("graceful");
role = await openTestArchive(platform, data);
fill();
const gidsAfterDelivery = await compareAll();
await run(role.control, "stop", { volume, mode: "graceful" });
await run(role.control, "reset", { volume });
const afterReset = { state: (await statusOf(role.control)).state, files: readdirSync(data).toSorted() };
rmSync(`${directory}/filler`, { recursive: true });
const backupAgain = (await sendImage(peer, imageAt(1), { gidE: 0n })).kind;
await role.close("graceful");
role = await openTestArchive(platform, data);
const gidsAfterReset = await gidsOf(role.control);
await role.close("graceful");
console.log(
  JSON.stringify({
    ...found,
    withoutReserve,
    deliveryWithRoom,
    gidsAfterDelivery,
    afterReset,
    backupAgain,
    gidsAfterReset,
  }),
);
