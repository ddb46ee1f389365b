/** @module An archive over the real platform, in a directory of its own, with its peers on loopback. */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import type { RunningRole } from "../../src/control/role.ts";
import { createPlatform } from "../../src/platform/real/index.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";
import { expectSame, gidsOf, openTestArchive, run } from "./harness.ts";
import type { History } from "./model.ts";
import { sendDiff, sendImage } from "./peers.ts";

const mib = 1024 * 1024;
export const platform = createPlatform({ memoryBudgetBytes: 1400 * mib, threads: 2 });
/** The peers' memory, so that what the archives leave leased can be seen. */
const peerPlatform = { ...platform, memory: platform.memory.carve(64 * mib) };

export interface Scene {
  readonly directory: string;
  readonly data: string;
  role: RunningRole;
  readonly peer: { platform: typeof platform; readonly address: RunningRole["address"] };
}

/** An archive in a directory of its own; every lease must be back at its end. */
export async function withArchive(use: (scene: Scene) => Promise<void>, options = {}): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const data = `${directory}/data`;
    const pools: { leasedBytes: number }[] = [];
    const own = createPool();
    const archivePlatform = { ...platform, memory: own.pool };
    const scene: Scene = {
      directory,
      data,
      role: await openTestArchive(archivePlatform, data, options),
      peer: {
        platform: peerPlatform,
        get address() {
          return scene.role.address;
        },
      },
    };
    try {
      await use(scene);
    } finally {
      await scene.role.close("graceful");
    }
    for (const pool of [...pools, ...own.carved]) expect(pool.leasedBytes).toBe(0);
    expect(peerPlatform.memory.leasedBytes).toBe(0);
  });
}

/** Opens the archive of a scene again, after it was closed. */
export function reopened(scene: Scene): Promise<RunningRole> {
  return openTestArchive({ ...platform, memory: createPool().pool }, scene.data);
}

/** A pool for one archive that knows what was carved from it. */
function createPool() {
  const carved: { leasedBytes: number }[] = [];
  const pool: typeof platform.memory = {
    budgetBytes: 400 * mib,
    leasedBytes: 0,
    tryLease: () => undefined,
    lease: () => Promise.reject(new Error("only parts are leased from")),
    carve(sizeBytes) {
      const part = shared.get(sizeBytes) ?? platform.memory.carve(sizeBytes);
      shared.set(sizeBytes, part);
      carved.push(part);
      return part;
    },
  };
  return { pool, carved };
}
/** Budgets carved are gone for good, so that archives of this file, one at a time, use the same. */
const shared = new Map<number, typeof platform.memory>();

export async function archived(scene: Scene, history: History, gidE = 0): Promise<void> {
  await run(scene.role.control, "init", { volume: "vol0" });
  const image = history.fuzzy(gidE);
  const answer = await sendImage(scene.peer, image, { gidE: BigInt(gidE) });
  expect(answer.kind).toBe("accept");
}

export async function deliver(scene: Scene, history: History, from: number, to: number, options = {}): Promise<string> {
  const answer = await sendDiff(scene.peer, from, to, history.diff(from, to), { sizeLb: history.sizeLb, ...options });
  return answer.kind === "word" ? answer.word : answer.kind;
}

let restores = 0;
export async function restored(scene: Scene, params = {}): Promise<Uint8Array> {
  const to = `${scene.directory}/restored-${restores++}.img`;
  await run(scene.role.control, "restore", { volume: "vol0", to, ...params });
  return readFileSync(to);
}

export async function expectAllRestorable(scene: Scene, history: History): Promise<number[]> {
  const gids = await gidsOf(scene.role.control);
  for (const gid of gids) {
    expectSame(await restored(scene, { gid }), history.at(gid), `gid ${gid}`);
  }
  return gids;
}
