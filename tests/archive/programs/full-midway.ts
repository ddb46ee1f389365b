/**
 * @module An archive whose small file system fills up in the middle of what it receives: started by full-midway.test.ts in a
 * mount namespace of its own, with the directory of that file system. Prints what happened as JSON.
 */
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { RecordKind } from "../../../src/diff/types.ts";
import type { DiskFile } from "../../../src/platform/disk.ts";
import { createPlatform } from "../../../src/platform/real/index.ts";
import { codeOf } from "../../helpers/errors.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "../harness.ts";
import { type DiffOptions, sendChanges, sendDiff, sendImage } from "../peers.ts";

const directory = process.argv[2]!;
const mib = 1024 * 1024;
const volume = "vol0";
const sizeLb = 48 * 2048;
const diffMib = 24;
const platform = createPlatform({ memoryBudgetBytes: 1200 * mib, threads: 2 });
const peerPlatform = { ...platform, memory: platform.memory.carve(64 * mib) };
const data = `${directory}/data`;

/** Called when the file of a diff is complete and has its name, before its row. */
let onCommitted: (() => void) | undefined;
const disk = new Proxy(platform.disk, {
  get(target, name) {
    if (name === "open") {
      return async (...args: Parameters<typeof platform.disk.open>) => watched(await platform.disk.open(...args));
    }
    const member: unknown = Reflect.get(target, name);
    return typeof member === "function" ? member.bind(target) : member;
  },
});
function watched<File extends DiskFile>(file: File): File {
  const syncAs = file.syncAs?.bind(file);
  if (syncAs === undefined) return file;
  file.syncAs = async (path, sizeBytes) => {
    await syncAs(path, sizeBytes);
    onCommitted?.();
  };
  return file;
}

let role = await openTestArchive({ ...platform, disk }, data);
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

function empty(): void {
  rmSync(`${directory}/filler`, { recursive: true, force: true });
  // Btrfs gives it free with its next transaction.
  spawnSync("sync", ["-f", directory]);
}

/** Bytes that do not compress. */
function noise(seed: number, sizeBytes: number): Uint8Array {
  const words = new Uint32Array(sizeBytes / 4);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer);
}

const image = new Uint8Array(sizeLb * 512);
image.set(noise(100, 8 * mib), 40 * mib);

function deliver(from: number, options: Partial<DiffOptions> = {}): Promise<{ readonly kind: string }> {
  const whole = noise(from + 1, diffMib * mib);
  const records = Array.from({ length: diffMib * 16 }, (_, i) => ({
    addressLb: i * 128,
    blocksLb: 128,
    kind: RecordKind.normal,
    data: whole.subarray(i * 65_536, (i + 1) * 65_536),
  }));
  return sendDiff(peer, from, from + 1, records, { sizeLb, isMergeable: false, recordsPerPack: 16, ...options });
}

function imageAt(gid: number): Uint8Array {
  const whole = image.slice();
  if (gid > 0) whole.set(noise(gid, diffMib * mib));
  return whole;
}

async function compareAll(): Promise<number[]> {
  const gids = await gidsOf(role.control);
  const to = `${tmpdir()}/walb-full-midway-${process.pid}.img`;
  for (const gid of gids) {
    await run(role.control, "restore", { volume, to, gid, overwrite: true });
    expectSame(readFileSync(to), imageAt(gid), `gid ${gid}`);
  }
  rmSync(to);
  return gids;
}

/** Files of diffs, whole and temporary. */
const files = (): string[] =>
  readdirSync(`${data}/${volume}`).filter((name) => name.endsWith(".wdiff") || name.endsWith(".tmp"));

/** What is left of something that failed on a full disk, and whether it can be repeated when there is room. */
async function failing(work: () => Promise<unknown>, again: () => Promise<{ readonly kind: string }>) {
  const code = await codeOf(work());
  // The archive may hear of the end later than the sender.
  for (let i = 0; i < 200 && (await statusOf(role.control)).trouble === undefined; i++) await Bun.sleep(20);
  const { state, trouble } = await statusOf(role.control);
  const left = files();
  empty();
  const { kind } = await again();
  return { code, state, trouble: (trouble as { code: string }).code, left: left.toSorted(), again: kind };
}

await run(role.control, "init", { volume });
const copy = await failing(
  () => sendImage(peer, image, { gidE: 0n, beforeBulk: (offsetLb) => (offsetLb === 42 * 2048 ? fill() : undefined) }),
  () => sendImage(peer, image, { gidE: 0n }),
);
const pack = await failing(
  () => deliver(0, { beforePack: (index) => (index === 9 ? fill() : undefined) }),
  () => deliver(0),
);
const row = await failing(
  () => {
    onCommitted = () => {
      onCommitted = undefined;
      fill();
    };
    return deliver(1);
  },
  () => deliver(1),
);
const gids = await compareAll();
const hash = await failing(
  () => {
    const now = imageAt(2);
    now.set(noise(77, 30 * mib));
    return sendChanges(peer, now, {
      uuid: "ab".repeat(16),
      recordsPerPack: 16,
      beforeBulk: (i) => (i === 2000 ? fill() : undefined),
    });
  },
  async () => (await sendChanges(peer, imageAt(2), { uuid: "ab".repeat(16) })).answer,
);
await role.close("graceful");
role = await openTestArchive({ ...platform, disk }, data);
console.log(JSON.stringify({ copy, pack, row, gids, hash, gidsAfterStart: await compareAll() }));
await role.close("graceful");
